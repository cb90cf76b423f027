"""The few running numbers of training that live on the device, so that no step waits for the host.

They are sums over the logging interval, the loss scale of fp16, and the count of updates that the
guard prevented. A checkpoint holds them: a curve that was interrupted in the middle of an interval
goes on to the last bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GROWTH_INTERVAL = 2000
"""Updates without an overflow after which the loss scale of fp16 doubles."""
FIRST_SCALE = 65536.0

_INTERVAL = ("loss", "targets", "norm", "updates", "skipped")
_RUN = ("all_skipped", "last_skipped", "in_row", "worst_row", "scale", "clean")


class Tally:
    """Scalars (float64, on the device) by name.

    Of the interval: ``loss`` (sum of nats), ``targets``, ``norm`` (sum over updates), ``updates`` made,
    ``skipped``. Of the run: ``all_skipped``, ``last_skipped`` (step), ``in_row`` (skipped one after the
    other), ``worst_row`` (the longest such row), ``scale`` (of the loss), ``clean`` (updates since it changed).
    """

    def __init__(self, device: torch.device, *, scaled: bool) -> None:
        self.device, self.scaled = device, scaled
        self.values = {name: torch.zeros((), dtype=torch.float64, device=device) for name in _INTERVAL + _RUN}
        self.values["scale"] += FIRST_SCALE if scaled else 1.0

    @property
    def scale(self) -> Tensor:
        """What the loss is multiplied by before the backward pass: a power of two with fp16, else 1."""
        return self.values["scale"]

    def add(self, step: int, loss: Tensor, targets: int, norm: Tensor) -> Tensor:
        """Count update ``step``; return, as a boolean scalar, whether it must not be made.

        Args:
            loss: scalar, sum of nats over the ``targets`` of the whole batch.
            norm: scalar, norm of the gradients before clipping.
        """
        now = self.values
        dead = ~torch.isfinite(loss)
        bad = dead | ~torch.isfinite(norm)
        good = (~bad).double()
        zero = torch.zeros_like(good)
        now["loss"] += torch.where(bad, zero, loss.double())
        now["norm"] += torch.where(bad, zero, norm.double())
        now["targets"] += good * targets
        now["updates"] += good
        now["skipped"] += 1 - good
        now["all_skipped"] += 1 - good
        now["last_skipped"] = torch.where(bad, zero + step, now["last_skipped"])
        # An overflow that a smaller loss scale cures is fp16's normal life: it does not count towards the end.
        hopeless = dead | (bad & (now["scale"] <= 1))
        now["in_row"] = torch.where(hopeless, now["in_row"] + 1, torch.where(bad, now["in_row"], zero))
        now["worst_row"] = torch.maximum(now["worst_row"], now["in_row"])
        if self.scaled:
            grow = ~bad & (now["clean"] + 1 >= GROWTH_INTERVAL)
            factor = torch.where(bad, zero + 0.5, torch.where(grow, zero + 2, zero + 1))
            now["clean"] = torch.where(bad | grow, zero, now["clean"] + 1)
            now["scale"] = (now["scale"] * factor).clamp(1.0, 2.0**24)
        return bad

    def read(self) -> dict[str, float]:
        """All values at once: the one place where the host waits for the device."""
        names = list(self.values)
        return dict(zip(names, torch.stack([self.values[name] for name in names]).tolist(), strict=True))

    def reset(self) -> None:
        """Begin a new logging interval."""
        for name in _INTERVAL:
            self.values[name] = torch.zeros_like(self.values[name])

    def load(self, saved: dict[str, float]) -> None:
        """Take over what ``read`` returned when a checkpoint was written."""
        for name in self.values:
            if not math.isfinite(saved[name]):
                raise ValueError(f"the checkpoint's {name} is not a number")
            self.values[name] = torch.tensor(saved[name], dtype=torch.float64, device=self.device)
