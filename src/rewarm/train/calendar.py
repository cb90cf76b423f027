"""When what is due: pure functions of the plan's rows and the strategy fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rewarm.recipe.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Calendar:
    """The steps (counted as updates made) after which something happens."""

    total: int
    evaluations: frozenset[int]
    checkpoints: frozenset[int]
    logging_steps: int
    rows_per_step: int
    epoch_ends: tuple[int, ...]  # rows

    def logs(self, step: int) -> bool:
        """Whether a logging interval ends with ``step``; the last step always ends one."""
        return self.logging_steps == -1 or step % self.logging_steps == 0 or step == self.total

    def epoch(self, step: int) -> float:
        """Passes over the data after ``step`` updates: 1.5 is the middle of the second."""
        rows, start = step * self.rows_per_step, 0
        for number, end in enumerate(self.epoch_ends):
            if rows < end:
                return number + (rows - start) / (end - start)
            start = end
        return float(len(self.epoch_ends))


def build_calendar(
    hyperparameters: Hyperparameters,
    *,
    total: int,
    rows_per_step: int,
    epoch_ends: Sequence[int],
    evaluate_at: Sequence[int] = (),
) -> Calendar:
    """The calendar of ``total`` updates of ``rows_per_step`` rows each.

    An epoch ends with the update that reads its last row. ``eval_steps`` below 1 is a share of all
    updates. The last step always gets a checkpoint; so that this one can be the best, it gets an evaluation
    too where the best is to be kept.
    """
    ends = tuple(epoch_ends)
    epochs = [min(total, math.ceil(end / rows_per_step)) for end in ends]
    every = hyperparameters.eval_steps
    eval_steps = max(1, math.ceil(total * every)) if every < 1 else int(every)

    def due(strategy: str, steps: int) -> set[int]:
        if strategy == "no":
            return set()
        return set(epochs if strategy == "epoch" else range(steps, total + 1, steps))

    last = {total} if hyperparameters.save_best_checkpoint else set()
    return Calendar(
        total=total,
        evaluations=frozenset(due(hyperparameters.eval_strategy, eval_steps) | set(evaluate_at) | last),
        checkpoints=frozenset(due(hyperparameters.checkpoint_strategy, hyperparameters.checkpoint_steps) | {total}),
        logging_steps=hyperparameters.logging_steps,
        rows_per_step=rows_per_step,
        epoch_ends=ends,
    )
