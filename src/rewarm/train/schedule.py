"""The learning rate as a pure function of the step: nothing to save, nothing to get out of step at a resume.

Steps count from 0. Update number ``step`` uses ``learning_rate(step, ...)``, so the first update of a
warm-up already moves (its rate is peak/warm-up, not 0), and every decay reaches 0 just behind the
last update, not at it: no update is spent on a rate of 0.
"""

from __future__ import annotations

import math

from rewarm.recipe.hyperparameters import Hyperparameters

WSD_DECAY = 0.2
"""Share of all updates that the ``wsd`` schedule uses for its decay (8 to 20 % in the literature)."""


def warmup_updates(total_steps: int, hyperparameters: Hyperparameters) -> int:
    """Updates of linear warm-up: ``lr_warmup_steps`` where it is above 0, else that share of all updates."""
    steps = hyperparameters.lr_warmup_steps or math.ceil(total_steps * hyperparameters.lr_warmup_ratio)
    return min(steps, total_steps)


def learning_rate(step: int, total_steps: int, hyperparameters: Hyperparameters) -> float:
    """The rate of update ``step`` (from 0) of ``total_steps``.

    Shapes after the warm-up: ``linear`` and ``cosine`` (half a period) fall to 0; ``constant`` stays;
    ``wsd`` stays and falls linearly to 0 over the last 20 % of all updates (warm-up, stable, decay:
    Hu et al. 2024, MiniCPM).
    """
    peak = hyperparameters.learning_rate
    warmup = warmup_updates(total_steps, hyperparameters)
    if step < warmup:
        return peak * (step + 1) / warmup
    left = total_steps - step
    if hyperparameters.lr_scheduler_type == "linear":
        return peak * left / (total_steps - warmup)
    if hyperparameters.lr_scheduler_type == "cosine":
        return peak * 0.5 * (1.0 - math.cos(math.pi * left / (total_steps - warmup)))
    if hyperparameters.lr_scheduler_type == "wsd":
        decay = min(max(1, round(total_steps * WSD_DECAY)), total_steps - warmup)
        return peak * min(1.0, left / decay)
    return peak
