"""The few running numbers of training that live on the device, so that no step waits for the host.

They are sums over the logging interval, the loss scale of fp16, the last losses (which a spike is measured
against), and the count of updates that were prevented. A checkpoint holds them: a curve that was
interrupted in the middle of an interval goes on to the last bit.

What is not finite prevents its update here, on the device, and so does a spike that is to be skipped. What
goes on for longer is the host's business (``train.guard``), which reads these numbers when it reads any:
after each step on a CPU, at the end of a logging interval on a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

GROWTH_INTERVAL = 2000
"""Updates without an overflow after which the loss scale of fp16 doubles."""
FIRST_SCALE = 65536.0
WINDOW = 128
"""Losses that a spike is measured against."""
ENOUGH = 32
"""Losses that must be known before anything is called a spike."""
SIGMAS = 6.0
LEAST_SIGMA = 0.01
"""Of the mean loss: where losses hardly vary, a spike still is 6 % more, not a hair."""

_INTERVAL = ("loss", "targets", "norm", "updates", "skipped", "spikes", "first_spike")
_RUN = ("last_skipped", "in_row", "row_began", "scale", "clean", "losses")


class Tally:
    """Numbers (float64, on the device) by name.

    Of the interval: ``loss`` (sum of nats), ``targets``, ``norm`` (sum over updates), ``updates`` made, ``skipped``
    (not finite), ``spikes``, ``first_spike`` (step), ``by_source`` (nats and targets of each source).
    Of the run: ``last_skipped`` (step), ``in_row`` (skipped one after the other), ``row_began`` (step), ``scale``
    (of the loss), ``clean`` (updates since it changed), ``losses`` (count), ``window`` (the last of them).

    Args:
        scaled: whether the loss is scaled (fp16).
        sources: how many there are.
        skip_spikes: whether a spike prevents its update.
    """

    def __init__(self, device: torch.device, *, scaled: bool, sources: int = 1, skip_spikes: bool = False) -> None:
        self.device, self.scaled, self.skip_spikes = device, scaled, skip_spikes
        self.values = {name: torch.zeros((), dtype=torch.float64, device=device) for name in _INTERVAL + _RUN}
        self.values["scale"] += FIRST_SCALE if scaled else 1.0
        self.values["by_source"] = self.no_sums(sources)
        self.values["window"] = torch.zeros(WINDOW, dtype=torch.float64, device=device)

    def no_sums(self, sources: int | None = None) -> Tensor:
        """Zeros that a step adds nats and targets of each source to, (2, sources)."""
        count = self.values["by_source"].shape[1] if sources is None else sources
        return torch.zeros(2, count, dtype=torch.float64, device=self.device)

    @property
    def scale(self) -> Tensor:
        """What the loss is multiplied by before the backward pass: a power of two with fp16, else 1."""
        return self.values["scale"]

    def add(self, step: int, loss: Tensor, targets: int, norm: Tensor, by_source: Tensor) -> Tensor:
        """Count update ``step``; return, as a boolean scalar, whether it must not be made.

        Args:
            loss: scalar, sum of nats over the ``targets`` of the whole batch.
            norm: scalar, norm of the gradients before clipping.
            by_source: (2, sources), nats and targets.
        """
        now = self.values
        dead = ~torch.isfinite(loss)
        not_finite = dead | ~torch.isfinite(norm)
        spike = self._spike(loss.double() / max(1, targets)) & ~not_finite
        zero = torch.zeros_like(now["loss"])
        now["spikes"] += spike
        now["first_spike"] = torch.where(spike & (now["first_spike"] == 0), zero + step, now["first_spike"])
        bad = not_finite | spike if self.skip_spikes else not_finite
        good = (~bad).double()
        now["loss"] += torch.where(bad, zero, loss.double())
        now["norm"] += torch.where(bad, zero, norm.double())
        now["targets"] += good * targets
        now["by_source"] += torch.where(bad, zero, by_source)
        now["updates"] += good
        now["skipped"] += not_finite
        now["last_skipped"] = torch.where(not_finite, zero + step, now["last_skipped"])
        # An overflow that a smaller loss scale cures is fp16's normal life: it does not count as trouble.
        hopeless = dead | (not_finite & (now["scale"] <= 1))
        now["row_began"] = torch.where(hopeless & (now["in_row"] == 0), zero + step, now["row_began"])
        now["in_row"] = torch.where(hopeless, now["in_row"] + 1, torch.where(not_finite, now["in_row"], zero))
        if self.scaled:
            self._rescale(not_finite)
        return bad

    def _spike(self, mean: Tensor) -> Tensor:
        """Whether a mean loss stands far above the last ones; it is the next of them, unless it is not finite."""
        now = self.values
        known = (torch.arange(WINDOW, device=self.device) < now["losses"]).double()
        count = known.sum().clamp(min=1)
        middle = (now["window"] * known).sum() / count
        sigma = ((now["window"] - middle).square() * known).sum().div(count).sqrt()
        bound = middle + SIGMAS * torch.maximum(sigma, LEAST_SIGMA * middle)
        bound = torch.where(now["losses"] >= ENOUGH, bound, math.inf)
        place = (torch.arange(WINDOW, device=self.device) == now["losses"] % WINDOW) & torch.isfinite(mean)
        # At most the bound goes in: a giant would hide the next ones, and a new level still becomes the usual one.
        now["window"] = torch.where(place, torch.minimum(mean, bound), now["window"])
        now["losses"] += torch.isfinite(mean)
        return mean > bound

    def _rescale(self, overflow: Tensor) -> None:
        now = self.values
        zero = torch.zeros_like(now["clean"])
        grow = ~overflow & (now["clean"] + 1 >= GROWTH_INTERVAL)
        factor = torch.where(overflow, zero + 0.5, torch.where(grow, zero + 2, zero + 1))
        now["clean"] = torch.where(overflow | grow, zero, now["clean"] + 1)
        now["scale"] = (now["scale"] * factor).clamp(1.0, 2.0**24)

    def read(self) -> dict[str, Any]:
        """All values at once, as floats and lists of them: the one place where the host waits for the device."""
        flat = torch.cat([value.flatten() for value in self.values.values()]).cpu()
        found, at = {}, 0
        for name, value in self.values.items():
            found[name] = flat[at : at + value.numel()].view(value.shape).tolist()
            at += value.numel()
        return found

    def reset(self) -> None:
        """Begin a new logging interval."""
        for name in (*_INTERVAL, "by_source"):
            self.values[name] = torch.zeros_like(self.values[name])

    def calm(self) -> None:
        """Begin anew after a rewind: a new interval, and no row of skipped updates."""
        self.reset()
        self.values["in_row"] = torch.zeros_like(self.values["in_row"])

    def load(self, saved: dict[str, Any]) -> None:
        """Take over what ``read`` returned when a checkpoint was written.

        Raises:
            ValueError: a number in it is not finite, or there are other sources.
        """
        for name, value in self.values.items():
            loaded = torch.tensor(saved.get(name, value.tolist()), dtype=torch.float64, device=self.device)
            if loaded.shape != value.shape or not math.isfinite(loaded.sum().item()):
                raise ValueError(f"the checkpoint's {name} is not what it should be")
            self.values[name] = loaded
