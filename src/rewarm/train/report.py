"""The metric and progress events of a training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rewarm.data.batches import Batch
from rewarm.train.calendar import Calendar
from rewarm.train.checkpoint import Training
from rewarm.train.guard import Trouble, trouble
from rewarm.train.job import Job
from rewarm.train.metrics import Clock, flops_per_token, memory_gb, peak_flops
from rewarm.train.slowness import Slowness
from rewarm.train.tally import SIGMAS
from rewarm.train.watchdog import Watchdog

PROGRESS_SECONDS = 2.0


class Report:
    """Writes what training does to the run's events. Reads the device once per logging interval."""

    def __init__(self, job: Job, training: Training, calendar: Calendar, watchdog: Watchdog) -> None:
        self.job, self.training, self.calendar, self.watchdog = job, training, calendar, watchdog
        self.clock = Clock()
        self._partial = 0  # tokens of the step that is being computed
        self._next = 0.0  # when the next progress event is due
        flops = flops_per_token(training.model.config, job.plan.sequence_length)
        peak = peak_flops(job.device)
        countable = job.hyperparameters.finetuning_type == "full" and job.hyperparameters.mixed_precision != "none"
        self._slowness = Slowness(training) if job.world_size > 1 else None
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

    def step_done(self, batch: Batch, rate: float) -> Trouble | None:
        """An update was made (or prevented); say whether there is trouble, where that can be known now."""
        self._partial = 0
        self.clock.add(batch.tokens)
        self.watchdog.step_done()
        step, found = self.training.step, None
        logs = self.calendar.logs(step)
        if logs or self.job.device.type == "cpu":  # reading the device costs nothing there
            seen = self.training.tally.read()
            found = trouble(self.job, seen)
            if logs:
                self._interval(rate, seen)
        if self._slowness and (slow := self._slowness.step_done()):
            self._warn(
                f"rank {slow[0]} computes {slow[1]:.1f} times as slowly as the others, which wait for it: see what "
                "else runs on its device and its computer",
                rank=slow[0],
                times=round(slow[1], 2),
            )
        self._progress(force=step == self.calendar.total)
        return found

    def checkpoint_written(self, path: Path, state: dict[str, Any], seconds: float, stalled: float) -> None:
        """A checkpoint stands; training stood still for some of the seconds that it took."""
        fields = {
            "tokens": state["tokens"],
            "bytes": sum(file.stat().st_size for file in path.iterdir()),
            "seconds": seconds,
            "stalled": stalled,
            "best": state["best"] is not None and state["best"][0] == state["step"],
        }
        name = path.relative_to(self.job.folder).as_posix()
        self.job.with_space("an event", lambda: self.job.log.checkpoint(state["step"], name, **fields))

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[Callable[[], float]]:
        """Leave the time spent inside out of the speeds; yields what tells the seconds so far."""
        began = time.monotonic()
        try:
            yield lambda: time.monotonic() - began
        finally:
            self.clock.pause(time.monotonic() - began)
            self._next = 0.0

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The same of a checkpoint, which may take any time."""
        with self.set_aside(), self.watchdog.asleep():
            yield

    def _interval(self, rate: float, seen: dict[str, Any]) -> None:
        """Write the metrics of the logging interval that ends here, and begin the next.

        Reading the tally has waited for the device, so the clock is right.
        """
        training = self.training
        values = {"train/lr": rate, "train/epoch": self.calendar.epoch(training.step)}
        if seen["targets"]:
            values["train/loss"] = seen["loss"] / seen["targets"]
            values |= losses_by_source(self.job.plan.names, *seen["by_source"])
            values["train/grad_norm"] = seen["norm"] / seen["updates"]
        if skipped := seen["skipped"] + (seen["spikes"] if training.tally.skip_spikes else 0):
            values["train/skipped_updates"] = skipped
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
        if seen["spikes"] and self.job.on_spike != "rewind":
            done = "that update was skipped" if training.tally.skip_spikes else "training goes on"
            self._warn(
                f"the loss leapt at step {seen['first_spike']:.0f}, {SIGMAS:.0f} standard deviations above the last "
                f"ones or more ({seen['spikes']:.0f} times up to step {training.step}): {done}",
                step=training.step,
                first_spike=int(seen["first_spike"]),
            )
        training.tally.reset()
        self.clock.restart()

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


def losses_by_source(names: Sequence[str], nats: Sequence[float], targets: Sequence[float]) -> dict[str, float]:
    """``train/loss/NAME`` in nats a target, of each source with targets; nothing where there is one source only."""
    found = zip(names, nats, targets, strict=True) if len(names) > 1 else ()
    return {f"train/loss/{name}": loss / count for name, loss, count in found if count}
