"""When skipping single updates is not enough: back to an earlier checkpoint, past the batches since, and on.

The data go on where they are, and so does the learning rate; only weights, optimizer and random numbers come
from the checkpoint. The state after a rewind is written as the checkpoint of its step, with the steps
whose batches left no trace: so a resumed training needs to know nothing else.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewarm.core.errors import DataError, UserError
from rewarm.core.manifest import verify
from rewarm.models.ranks import first_says, rank
from rewarm.train.checkpoint import Training, list_checkpoints, load, step_of
from rewarm.train.job import Job

SKIPS_IN_A_ROW = 5
"""Updates prevented one after the other, because nothing was finite, that are trouble."""
REWINDS = 3
"""Rewinds without a checkpoint in between after which a training ends."""
LEAPT = "the loss leapt"
MARGIN = 5
"""Updates before the trouble that are not trusted either: it shows later than it begins."""


@dataclass(frozen=True)
class Trouble:
    """What skipping single updates does not cure, and the step at which it began."""

    step: int
    what: str


def trouble(job: Job, seen: dict[str, Any]) -> Trouble | None:
    """What the tally tells of trouble."""
    if seen["in_row"] >= SKIPS_IN_A_ROW:
        what = f"the loss or its gradient was not finite in {seen['in_row']:.0f} updates in a row"
        return Trouble(int(seen["row_began"]), what)
    if seen["spikes"] and job.on_spike in ("rewind", "stop"):
        return Trouble(int(seen["first_spike"]), LEAPT)
    return None


def rewind(job: Job, training: Training, found: Trouble, due: Container[int]) -> None:
    """Put ``training`` back to a checkpoint from before the trouble, at the step where it is now.

    Args:
        due: steps of checkpoints that do not stem from a stop: where those are, that makes no difference.

    Raises:
        UserError: there is no checkpoint to go back to, that was done too often without getting on, or the trouble is
            a leap that ends the run (``guard.on_spike``).
    """
    step = training.step
    if job.on_spike == "stop" and found.what == LEAPT:
        raise _hopeless(job, found, step, "guard.on_spike is stop")
    there = [path for path in list_checkpoints(job.checkpoints) if step_of(path) <= step]  # none of a later attempt
    back = first_says(_sound_step(there, found.step, due) if rank() == 0 else 0)
    if back < 0:
        raise _hopeless(job, found, step, "there is no checkpoint to go back to")
    skipped = [*training.skipped, (back, step)]
    if in_vain(skipped) > REWINDS:
        raise _hopeless(job, found, step, f"going back to a checkpoint did not help, {REWINDS} times")
    kept = training.tokens, training.best, training.evaluated
    load(job.checkpoints / f"step-{back}", training)
    training.step, training.skipped = step, skipped
    training.tokens, training.best, training.evaluated = kept
    training.tally.calm()
    message = f"{found.what}, from step {found.step} on: back to the weights of step {back}, without the batches since"
    job.with_space("an event", lambda: job.log.warning(message, step=step, to=back, skipped=[back + 1, step]))


def in_vain(skipped: list[tuple[int, int]]) -> int:
    """How many of the last rewinds came one after the other, without a checkpoint of good updates in between."""
    count = 1
    for (_, end), (start, _) in zip(skipped[-2::-1], skipped[:0:-1], strict=False):
        if start > end:
            break
        count += 1
    return count


def was_skipped(skipped: list[tuple[int, int]], step: int) -> bool:
    """Whether the batch of update ``step`` (from 1) left no trace in the weights, because of a rewind."""
    return any(start < step <= end for start, end in skipped)


def _sound_step(checkpoints: list[Path], step: int, due: Container[int]) -> int:
    """That of the newest checkpoint well before ``step``, else of the oldest; -1: there is none that verifies."""
    before = [path for path in checkpoints if step_of(path) in due and step_of(path) < step - MARGIN]
    others = [path for path in checkpoints if path not in before]
    for path in [*reversed(before), *sorted(others, key=lambda path: (step_of(path) not in due, step_of(path)))]:
        try:
            verify(path)
        except DataError:
            continue
        return step_of(path)
    return -1


def _hopeless(job: Job, found: Trouble, step: int, why: str) -> UserError:
    given = job.hyperparameters
    precision = "" if given.mixed_precision == "none" else ", hyperparameters.mixed_precision=none"
    return UserError(
        f"{found.what}, from step {found.step} up to step {step}, and {why}; the checkpoints from before are sound",
        where=job.folder,
        remedy=f"try a lower hyperparameters.learning_rate (it is {given.learning_rate:g}){precision}, "
        "and look for documents that are not text",
    )
