"""What runs append to their files goes into the store: a batch of lines and how far they were read, in one transaction.

So a server that is killed at any moment goes on where it was: no point is lost, none is there twice. What the database
knows of runs can be lost as a whole: the marks are lost with it, and all is read again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.exc import DatabaseError

from rewarm.core.errors import ResourceError, UserError
from rewarm.core.events import TRAINING_FROM, Event, read_events
from rewarm.core.machine import JOULES, Meter
from rewarm.core.run import Run, list_runs
from rewarm.studio.context import Studio
from rewarm.studio.store import runs
from rewarm.studio.store.offsets import Mark, mark, offsets, set_mark
from rewarm.studio.store.points import MACHINE, SYSTEM, Point, add_points, drop_points, forget_points

log = logging.getLogger("rewarm.studio")

BATCH = 2000
"""Events in one transaction, so that other writers get their turn."""
BATCH_BYTES = 1 << 20
KEPT_SECONDS = 30 * 86400
"""How long the computer's own samples are kept."""


def ship_live(studio: Studio) -> None:
    """Read on in the files of the runs that are at work, and see whether they still live."""
    with studio.database.read() as session:
        ids = runs.live(session)
    for run in (Run(studio.workspace.runs / name) for name in ids):
        with _alone(run):
            if ship(studio, run) or not run.alive():
                _index(studio, run)


def ship_all(studio: Studio) -> None:
    """Look at every run: those that are new here, that went on without us, and that are gone."""
    with studio.database.read() as session:  # before the folders: what is known and not there then was deleted
        known, read = runs.known(session), offsets(session)
    there = list_runs(studio.workspace)
    for run in there:
        with _alone(run):
            if run.id not in known:
                _index(studio, run)
            if any(_size(path) != read.get((run.id, path.name), 0) for path in (run.events, run.system)):
                ship(studio, run)
                if run.id in known:
                    _index(studio, run)
    for name in known.keys() - {run.id for run in there}:
        with studio.database.write() as session:
            runs.forget(session, name)


def ship(studio: Studio, run: Run) -> bool:
    """Read on in the run's files up to their ends; whether anything was new."""
    events = _ship(studio, run, run.events, _read_events, training=True)
    samples = _ship(studio, run, run.system, _read_samples, training=False)
    return events or samples


class SampleMachine:
    """Keeps how busy this computer is."""

    def __init__(self) -> None:
        self._meter: Meter | None = None

    def __call__(self, studio: Studio) -> None:
        if self._meter is None:
            self._meter = Meter(studio.workspace.root)
        now, values = int(time.time()), self._meter.read()
        with studio.database.write() as session:
            add_points(session, MACHINE, [(name, now, 0, value) for name, value in values.items()])
            forget_points(session, MACHINE, before=now - KEPT_SECONDS)


def _index(studio: Studio, run: Run) -> None:
    with studio.database.write() as session:
        runs.upsert(session, run)


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """What is wrong with one run is no reason not to read the others."""
    try:
        yield
    except (ResourceError, DatabaseError):  # the same for all
        raise
    except UserError as error:
        log.warning("%s is not read: %s", run.id, error)
    except Exception:
        log.exception("%s is not read", run.id)


class Batch:
    """What was read of a file: the points, and the step behind which those of before were taken back."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, int], Point] = {}
        self.above: int | None = None
        self.end: int | None = None

    def add(self, values: dict[str, Any], step: int, tokens: int) -> None:
        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):  # a NaN stands there as null
                self.points[name, step] = (name, step, tokens, value)

    def take_back(self, step: int) -> None:
        self.above = step if self.above is None else min(step, self.above)
        self.points = {key: point for key, point in self.points.items() if key[1] <= step}


def _ship(studio: Studio, run: Run, path: Path, read: Callable[[Path, int], Batch], training: bool) -> bool:
    with studio.database.read() as session:
        begin = before = mark(session, run.id, path.name)
    if replaced := not _goes_on(path, begin):
        begin = Mark()
    moved = False
    while (batch := read(path, begin.offset)).end is not None:
        end = Mark(batch.end, _tail(path, batch.end))
        with studio.database.write() as session:
            if mark(session, run.id, path.name) != before:
                return moved  # somebody else was here
            above = -1 if replaced else batch.above
            if above is not None and training:
                drop_points(session, run.id, above)
            add_points(session, run.id, batch.points.values())
            set_mark(session, run.id, path.name, end)
            if joules := [point[3] for point in batch.points.values() if point[0] == JOULES]:
                runs.set_joules(session, run.id, max(joules))
        begin = before = end
        moved, replaced = True, False
    return moved


def _read_events(path: Path, begin: int) -> Batch:
    batch = Batch()
    for event, behind in itertools.islice(read_events(path, begin), BATCH):
        _take(batch, event)
        batch.end = behind
    return batch


def _take(batch: Batch, event: Event) -> None:
    if event["kind"] == "metric":
        batch.add(event["values"], event["step"], event["tokens"])
    elif event["kind"] == "result" and event["name"] == TRAINING_FROM and isinstance(event["value"], int):
        batch.take_back(event["value"])


def _read_samples(path: Path, begin: int) -> Batch:
    batch, offset = Batch(), begin
    for line in _whole_lines(path, offset):
        offset += len(line)
        batch.end = offset
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            sample = orjson.loads(line)
            values = {name: value for name, value in sample["values"].items() if name.startswith(SYSTEM)}
            batch.add(values, int(sample["time"]), 0)
    return batch


def _whole_lines(path: Path, offset: int) -> list[bytes]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(offset)
        return [line for line in file.readlines(BATCH_BYTES) if line.endswith(b"\n")]


def _goes_on(path: Path, begin: Mark) -> bool:
    """Whether what was read of the file still stands there: it may be replaced, or its end lost with the power."""
    return begin.offset == 0 or (_size(path) >= begin.offset and _tail(path, begin.offset) == begin.tail)


def _tail(path: Path, end: int) -> int:
    """A checksum of the last bytes before ``end``: a line of an event says when it was written."""
    with path.open("rb") as file:
        file.seek(max(0, end - 256))
        return zlib.crc32(file.read(min(256, end)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
