"""What training reports: FLOP per token, speed, and the metric and progress events.

Losses and norms come from the device once per logging interval. Speeds are the host's own clock, and
the only figures that differ between two runs of the same recipe.
"""

from __future__ import annotations

import contextlib
import re
import resource
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch

from rewarm.recipe.facts import ModelFacts, gpu_flops

_PLAIN_MLP = ("bloom", "falcon", "gpt2", "gpt_neox", "gptj", "opt", "phi", "starcoder2")


def flops_per_token(config: Any, sequence_length: int) -> float | None:
    """Training FLOP per token of a dense decoder with gated MLPs, all parameters trained.

    ``6 (N_lin + V d) + 6 L H Dh s``: the head counts even when tied, the input embedding does not, and of
    attention only the causal half (the PaLM convention counts ``12 L H Dh s``).

    Args:
        config: a transformers config.
        sequence_length: s, tokens that attention may span.

    Returns:
        None where the config does not describe such a decoder (experts, no gated MLP).
    """
    shape = config.to_dict()
    experts = shape.get("num_experts") or shape.get("num_local_experts")
    if experts or shape.get("model_type") in _PLAIN_MLP or not isinstance(shape.get("intermediate_size"), int):
        return None
    return ModelFacts.of(shape).flops_per_token(sequence_length)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a CUDA device; None where it is not known."""
    if device.type != "cuda":
        return None
    return gpu_flops(torch.cuda.get_device_name(device))


def memory_gb(device: torch.device) -> float:
    """Peak memory so far, in GB: of the device's allocator, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    with contextlib.suppress(OSError):  # getrusage counts the process that this one was forked from, too
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
        if found:
            return int(found[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, everybody else KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Clock:
    """Tokens per second, recently and over a logging interval, and the share of time spent waiting for data."""

    def __init__(self, window: float = 60.0) -> None:
        self.window = window
        self._points: deque[tuple[float, float]] = deque()
        self.restart()

    def restart(self) -> None:
        """Begin a logging interval."""
        self._began, self._tokens, self._steps, self._waited = time.monotonic(), 0, 0, 0.0

    def add(self, tokens: int) -> None:
        """A step of so many tokens was made."""
        self._tokens += tokens
        self._steps += 1

    def waited(self, seconds: float) -> None:
        self._waited += seconds

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on training (evaluation, checkpoints, a full disk)."""
        self._began += seconds
        self._points = deque((when + seconds, tokens) for when, tokens in self._points)

    def interval(self) -> dict[str, float]:
        """The figures of the interval so far."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        return {
            "perf/tokens_per_second": self._tokens / elapsed,
            "perf/step_seconds": elapsed / max(1, self._steps),
            "perf/data_wait": min(1.0, self._waited / elapsed),
        }

    def speed(self, tokens: float) -> float | None:
        """Tokens per second over the last minute, ``tokens`` being the total so far; None at first."""
        now = time.monotonic()
        self._points.append((now, tokens))
        while len(self._points) > 2 and now - self._points[0][0] > self.window:
            self._points.popleft()
        (then, before) = self._points[0]
        return (tokens - before) / (now - then) if now > then and tokens > before else None
