"""When checkpoints, evaluations and metrics are due."""

from __future__ import annotations

from typing import Any

import pytest

from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.calendar import Calendar, build_calendar


def calendar(evaluate_at: tuple[int, ...] = (), **changes: Any) -> Calendar:
    given = Hyperparameters(**{"eval_strategy": "no", "checkpoint_strategy": "no", **changes})
    return build_calendar(given, total=11, rows_per_step=4, epoch_ends=[21, 42], evaluate_at=evaluate_at)


def test_an_epoch_ends_with_the_step_that_reads_its_last_row() -> None:
    made = calendar(eval_strategy="epoch", checkpoint_strategy="epoch")
    assert made.evaluations == made.checkpoints == {6, 11}


@pytest.mark.parametrize(("eval_steps", "steps"), [(4, {4, 8}), (0.3, {4, 8}), (0.01, set(range(1, 12))), (100, set())])
def test_eval_steps_below_one_are_a_share_of_all_steps(eval_steps: float, steps: set[int]) -> None:
    assert calendar(eval_strategy="steps", eval_steps=eval_steps).evaluations == steps


def test_the_last_step_always_has_a_checkpoint() -> None:
    assert calendar().checkpoints == {11}
    assert calendar(checkpoint_strategy="steps", checkpoint_steps=5).checkpoints == {5, 10, 11}


def test_points_of_the_curve_come_besides_the_strategy() -> None:
    assert calendar(evaluate_at=(0, 3)).evaluations == {0, 3}
    assert calendar(evaluate_at=(3,), eval_strategy="epoch").evaluations == {3, 6, 11}


def test_the_last_step_is_evaluated_where_the_best_is_kept() -> None:
    assert calendar(eval_strategy="steps", eval_steps=4, save_best_checkpoint=True).evaluations == {4, 8, 11}


@pytest.mark.parametrize(("every", "steps"), [(4, [4, 8, 11]), (-1, list(range(1, 12))), (1, list(range(1, 12)))])
def test_logging_steps(every: int, steps: list[int]) -> None:
    made = calendar(logging_steps=every)
    assert [step for step in range(1, 12) if made.logs(step)] == steps


def test_epochs_as_a_fraction() -> None:
    made = calendar()
    assert made.epoch(0) == 0 and made.epoch(11) == 2.0
    assert made.epoch(5) == pytest.approx(20 / 21)
    assert made.epoch(6) == pytest.approx(1 + 3 / 21)
