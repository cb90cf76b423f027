"""The learning rate at the steps where its shape shows."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.schedule import learning_rate, warmup_updates


def rates(total: int, **changes: Any) -> list[float]:
    given = Hyperparameters(learning_rate=0.1, **changes)
    return [learning_rate(step, total, given) for step in range(total)]


def test_linear_starts_at_the_peak_and_reaches_zero_behind_the_last_step() -> None:
    assert rates(4, lr_scheduler_type="linear") == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_cosine_is_half_a_period_down_to_zero() -> None:
    wanted = [0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates(8, lr_scheduler_type="cosine") == pytest.approx(wanted)


def test_constant_stays() -> None:
    assert rates(3, lr_scheduler_type="constant") == [0.1] * 3


def test_wsd_warms_up_stays_and_falls_over_the_last_fifth() -> None:
    seen = rates(20, lr_scheduler_type="wsd", lr_warmup_steps=2)
    assert seen[:2] == pytest.approx([0.05, 0.1])
    assert seen[2:16] == [0.1] * 14
    assert seen[16:] == pytest.approx([0.1, 0.075, 0.05, 0.025])


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant", "wsd"])
def test_warm_up_rises_from_above_zero_to_the_peak_and_then_falls(shape: str) -> None:
    seen = rates(10, lr_scheduler_type=shape, lr_warmup_steps=4)
    assert seen[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert seen[4] == pytest.approx(0.1) and all(a >= b for a, b in itertools.pairwise(seen[4:]))
    assert all(rate > 0 for rate in seen)


def test_steps_of_warm_up_win_over_the_ratio_and_neither_exceeds_the_run() -> None:
    assert warmup_updates(100, Hyperparameters(lr_warmup_steps=7, lr_warmup_ratio=0.5)) == 7
    assert warmup_updates(100, Hyperparameters(lr_warmup_ratio=0.055)) == 6
    assert warmup_updates(5, Hyperparameters(lr_warmup_steps=7)) == 5
    assert rates(5, lr_warmup_steps=7) == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant", "wsd"])
def test_a_single_step_has_a_rate(shape: str) -> None:
    assert rates(1, lr_scheduler_type=shape) == [0.1]
