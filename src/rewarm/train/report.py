"""The metric and progress events of a training, and the guard that ends one whose losses are not finite."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rewarm.core.errors import UserError
from rewarm.data.batches import Batch
from rewarm.train.calendar import Calendar
from rewarm.train.checkpoint import Training
from rewarm.train.job import Job
from rewarm.train.metrics import Clock, flops_per_token, memory_gb, peak_flops

SKIPS_IN_A_ROW = 5
"""Updates prevented one after the other that end a training."""
PROGRESS_SECONDS = 2.0


class Report:
    """Writes what training does to the run's events. Reads the device once per logging interval."""

    def __init__(self, job: Job, training: Training, calendar: Calendar) -> None:
        self.job, self.training, self.calendar = job, training, calendar
        self.clock = Clock()
        self._partial = 0  # tokens of the step that is being computed
        self._next = 0.0  # when the next progress event is due
        flops = flops_per_token(training.model.config, job.plan.sequence_length)
        peak = peak_flops(job.device)
        countable = job.hyperparameters.finetuning_type == "full" and job.hyperparameters.mixed_precision != "none"
        self._utilisation = flops / peak / job.world_size if flops and peak and countable else None

    def timed(self, batches: Iterator[tuple[int, Batch]]) -> Iterator[tuple[int, Batch]]:
        """The batches, with the time that the loop waits for them counted."""
        self._progress(force=True)
        self.clock.restart()
        while True:
            began = time.monotonic()
            item = next(batches, None)
            self.clock.waited(time.monotonic() - began)
            if item is None:
                return
            yield item

    def tokens_done(self, tokens: int) -> None:
        """A micro-batch was computed."""
        self._partial += tokens * self.job.world_size
        self._progress()

    def step_done(self, batch: Batch, rate: float) -> None:
        """An update was made (or prevented)."""
        self._partial = 0
        self.clock.add(batch.tokens)
        last = self.training.step == self.calendar.total
        if self.calendar.logs(self.training.step):
            self._interval(rate)
        elif self.job.device.type == "cpu":
            self.check_guard()  # reading the device costs nothing there
        self._progress(force=last)

    def check_guard(self) -> None:
        """Raise ``UserError`` when too many updates in a row were prevented."""
        self._guard(self.training.tally.read())

    def checkpoint_written(self, path: Path, seconds: float) -> None:
        training = self.training
        fields = {
            "tokens": training.tokens,
            "bytes": sum(file.stat().st_size for file in path.iterdir()),
            "seconds": seconds,
            "best": training.best is not None and training.best[0] == training.step,
        }
        name = path.relative_to(self.job.folder).as_posix()
        self.job.with_space("an event", lambda: self.job.log.checkpoint(training.step, name, **fields))

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[Callable[[], float]]:
        """Leave the time spent inside out of the speeds; yields what tells the seconds so far."""
        began = time.monotonic()
        try:
            yield lambda: time.monotonic() - began
        finally:
            self.clock.pause(time.monotonic() - began)
            self._next = 0.0

    def _interval(self, rate: float) -> None:
        """Write the metrics of the logging interval that ends here, and begin the next."""
        training = self.training
        seen = training.tally.read()  # waits for the device, so the clock below is right
        values = {"train/lr": rate, "train/epoch": self.calendar.epoch(training.step)}
        if seen["targets"]:
            values["train/loss"] = seen["loss"] / seen["targets"]
            values["train/grad_norm"] = seen["norm"] / seen["updates"]
        if seen["skipped"]:
            values["train/skipped_updates"] = seen["skipped"]
        values |= self.clock.interval()
        if self._utilisation is not None:
            values["perf/mfu"] = self._utilisation * values["perf/tokens_per_second"]
        values["perf/memory_gb"] = memory_gb(self.job.device)
        self.job.with_space("an event", lambda: self.job.log.metric(training.step, training.tokens, values))
        if seen["skipped"] and not training.tally.scaled:
            self._warn(
                f"{seen['skipped']:.0f} updates up to step {seen['last_skipped']:.0f} were skipped: "
                "their loss or gradient was not finite",
                step=training.step,
                last_skipped=int(seen["last_skipped"]),
            )
        self._guard(seen)
        training.tally.reset()
        self.clock.restart()

    def _guard(self, seen: dict[str, float]) -> None:
        if seen["worst_row"] < SKIPS_IN_A_ROW:
            return
        given = self.job.hyperparameters
        precision = "" if given.mixed_precision == "none" else ", hyperparameters.mixed_precision=none"
        raise UserError(
            f"the loss or its gradient was not finite in {SKIPS_IN_A_ROW} updates in a row, up to step "
            f"{seen['last_skipped']:.0f}; none of them was made, and the checkpoints from before are sound",
            where=self.job.folder,
            remedy=f"try a lower hyperparameters.learning_rate (it is {given.learning_rate:g}){precision}, "
            "and look for documents that are not text",
        )

    def _warn(self, message: str, **fields: object) -> None:
        self.job.with_space("an event", lambda: self.job.log.warning(message, **fields))

    def _progress(self, force: bool = False) -> None:
        now = time.monotonic()
        if now < self._next and not force:
            return
        self._next = now + PROGRESS_SECONDS
        done, total = self.training.tokens + self._partial, self.job.plan.total_tokens
        fields = {"step": self.training.step, "steps": self.calendar.total, "speed": self.clock.speed(done)}
        self.job.with_space("an event", lambda: self.job.log.progress(min(done, total), total, "tokens", **fields))
