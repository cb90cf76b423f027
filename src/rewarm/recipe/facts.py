"""What a run has to work with: the model's shape, the amount of text, the machine.

Plain values, so that estimates and recommendations are pure functions of them. Nothing here loads
torch: a model is described by its config.json, a GPU by the driver's own library.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
"""Dense bf16 FLOP/s by a part of the device's name, as NVIDIA's data sheets give them; the first match counts."""

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container is granted (version 2)."""


@dataclass(frozen=True)
class ModelFacts:
    """The shape of a decoder, from its config.json."""

    parameters: int
    embedding: int
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    positions: int | None = None
    """Tokens that the model can look back on, where the config says so."""

    @classmethod
    def of(cls, config: dict[str, Any], parameters: int | None = None) -> ModelFacts:
        """From ``config.json``; ``parameters`` counted in the weight files wins over the formula."""
        inner = config.get("text_config")
        text = {**config, **(inner if isinstance(inner, dict) else {})}
        hidden, vocabulary = _int(text, "hidden_size", "n_embd", "d_model"), _int(text, "vocab_size")
        heads = _int(text, "num_attention_heads", "n_head", default=1)
        facts = cls(
            parameters=parameters or 0,
            embedding=vocabulary * hidden * (1 if text.get("tie_word_embeddings", True) else 2),
            layers=_int(text, "num_hidden_layers", "n_layer"),
            hidden=hidden,
            feed_forward=_int(text, "intermediate_size", "n_inner", default=4 * hidden),
            heads=heads,
            kv_heads=_int(text, "num_key_value_heads", default=heads),
            head_width=_int(text, "head_dim", default=hidden // max(heads, 1)),
            vocabulary=vocabulary,
            positions=_int(text, "max_position_embeddings", "n_positions") or None,
        )
        return facts if parameters else replace(facts, parameters=facts.by_formula)

    @property
    def by_formula(self) -> int:
        """Parameters of a decoder of this shape: linear layers, two norms a layer and the last, embeddings."""
        return self.layers * (self.layer + 2 * self.hidden) + self.embedding + self.hidden

    def flops_per_token(self, sequence_length: int) -> float:
        """Training FLOP per token, forward and backward, with causal attention (no recomputation)."""
        attention = 6 * self.layers * self.heads * self.head_width * sequence_length
        return 6.0 * (self.layers * self.layer + self.vocabulary * self.hidden) + attention

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """The linear layers of a decoder layer, by their usual names: (in, out)."""
        d, ff, q, kv = self.hidden, self.feed_forward, self.heads * self.head_width, self.kv_heads * self.head_width
        attention = {"q_proj": (d, q), "k_proj": (d, kv), "v_proj": (d, kv), "o_proj": (q, d)}
        return {**attention, "gate_proj": (d, ff), "up_proj": (d, ff), "down_proj": (ff, d)}

    @property
    def layer(self) -> int:
        """Parameters in the linear layers of a decoder layer."""
        return sum(inner * outer for inner, outer in self.linear.values())


def _int(config: dict[str, Any], *names: str, default: int = 0) -> int:
    for name in names:
        if isinstance(value := config.get(name), int) and value >= 0:
            return value
    return default


@dataclass(frozen=True)
class Machine:
    """One computer."""

    system: str
    cores: int
    memory: int
    gpus: tuple[tuple[str, int], ...]
    """Name and bytes of memory of each CUDA device."""

    @classmethod
    def here(cls) -> Machine:
        return cls(
            system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            cores=usable_cores(),
            memory=usable_memory(),
            gpus=_gpus(),
        )

    def device(self, wanted: str | int) -> str:
        """``cpu`` or ``cuda`` for a recipe's ``infrastructure.devices``."""
        return str(wanted) if wanted in ("cpu", "cuda") else "cuda" if self.gpus else "cpu"


def allowed_cores(limits: Path = CGROUP) -> int:
    """The cores that this process may use: those it is bound to, and no more than its container is granted."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _limit(limits / "cpu.max").partition(" ")
    granted = math.ceil(int(quota) / int(period)) if quota.isdigit() and period.isdigit() else bound
    return max(1, min(bound, granted))


def usable_cores() -> int:
    """Physical cores that this process may use: hyper-threads slow a training step down."""
    allowed = allowed_cores()
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def usable_memory(limits: Path = CGROUP) -> int:
    """Bytes of memory that this process may use: the machine's, or those that its container is granted."""
    total, granted = psutil.virtual_memory().total, _limit(limits / "memory.max")
    return min(total, int(granted)) if granted.isdigit() else total


def _limit(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:  # no Linux, or no such limit
        return ""


def _gpus() -> tuple[tuple[str, int], ...]:
    """The devices that torch will see: none with a torch built for the CPU, else those of CUDA_VISIBLE_DEVICES."""
    import pynvml  # only where a recipe is resolved

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if importlib.metadata.version("torch").endswith("+cpu") or visible == "":
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        numbers: Sequence[int] = range(pynvml.nvmlDeviceGetCount())
        if visible and all(part.strip().isdigit() for part in visible.split(",")):
            numbers = [int(part) for part in visible.split(",") if int(part) in numbers]
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers]
        return tuple((str(pynvml.nvmlDeviceGetName(h)), int(pynvml.nvmlDeviceGetMemoryInfo(h).total)) for h in handles)
    finally:
        pynvml.nvmlShutdown()


def cpu_flops(cores: int) -> float:
    """fp32 FLOP/s that a matrix product reaches here, measured in about 0.2 s."""
    import time

    import numpy as np

    n = 1024
    a = np.ones((n, n), dtype=np.float32)
    a @ a
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * n**3 / sorted(times)[2]


def gpu_flops(name: str) -> float | None:
    """The bf16 peak of a device, where its name is known."""
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)
