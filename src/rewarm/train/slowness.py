"""Names the rank that all others wait for.

Ranks wait for each other wherever they share weights or gradients, so their steps take equally long, whoever is slow.
What tells them apart is the time of a forward pass in which nobody waits: of the whole decoder where each rank holds
it (DDP), of one layer, whose weights are gathered before, where they are sharded.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rewarm.models.ranks import rank, total, world_size
from rewarm.train.checkpoint import Training

EVERY = 15.0
"""Seconds between two judgements; two in a row count."""
CALLS = 8
"""Forward passes that one rests on, at least."""
TIMES = 2.0
"""The others' usual time of a pass, beyond which a rank is slow."""


class Slowness:
    """Listens to the forward passes of a training on several ranks."""

    def __init__(self, training: Training) -> None:
        whole = isinstance(training.network, DistributedDataParallel)
        layers = training.model.layers()
        heard: nn.Module = training.model.hf.get_decoder() if whole else layers[len(layers) // 2]
        heard.register_forward_pre_hook(self._begin)
        heard.register_forward_hook(self._end)
        self._device = training.tally.device
        self._passes: deque[tuple[Any, Any]] = deque()  # begin and end of those not yet summed
        self._sums = torch.zeros(2, world_size(), dtype=torch.float64)  # seconds, passes
        self._judged, self._slow, self._named = time.monotonic(), -1, -1

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _begin(self, *_: object) -> None:
        self._began = self._now()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _end(self, *_: object) -> None:
        self._passes.append((self._began, self._now()))

    def _now(self) -> Any:
        if self._device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def step_done(self) -> tuple[int, float] | None:
        """Every rank calls this behind every update; a rank that has become slow, and how many times as slow.

        It is told of once, and again when another one, or none, was slow in between.
        """
        mine = torch.zeros_like(self._sums)
        while self._passes and (self._device.type == "cpu" or self._passes[0][1].query()):
            began, ended = self._passes.popleft()
            seconds = ended - began if self._device.type == "cpu" else began.elapsed_time(ended) / 1e3
            mine[:, rank()] += torch.tensor([seconds, 1.0], dtype=mine.dtype)
        self._sums += total(mine)
        if time.monotonic() - self._judged < EVERY or self._sums[1].min() < CALLS:
            return None
        means = (self._sums[0] / self._sums[1]).tolist()
        self._sums.zero_()
        self._judged, before = time.monotonic(), self._slow
        slowest = max(range(len(means)), key=means.__getitem__)
        times = means[slowest] / statistics.median(means[:slowest] + means[slowest + 1 :])
        self._slow = slowest if times > TIMES else -1
        if self._slow != before or self._slow == self._named:  # once is chance, and named it is only once
            return None
        self._named = self._slow
        return (slowest, times) if self._named >= 0 else None
