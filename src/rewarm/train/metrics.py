"""What training reports: FLOP per token, speed, and the metric and progress events.

Losses and norms come from the device once per logging interval. Speeds are the host's own clock, and
the only figures that differ between two runs of the same recipe.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from typing import Any

import torch

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
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    sizes = [getattr(config, name, None) for name in names]
    if not all(isinstance(size, int) for size in sizes):
        return None
    layers, width, inner, heads, vocabulary = map(int, sizes)  # type: ignore[arg-type]
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    if experts or getattr(config, "model_type", "") in _PLAIN_MLP:
        return None
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or width // heads
    linear = layers * (2 * width * heads * head + 2 * width * kv_heads * head + 3 * width * inner)
    return float(6 * (linear + vocabulary * width) + 6 * layers * heads * head * sequence_length)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a CUDA device; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def memory_gb(device: torch.device) -> float:
    """Peak memory so far, in GB: of the device's allocator, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
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
        self._began, self._tokens, self._waited = time.monotonic(), 0, 0.0

    def add(self, tokens: int) -> None:
        self._tokens += tokens

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
