"""What is measured: the metrics of runs, and how busy the computer is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict

from rewarm.core.errors import NotFound, UserError
from rewarm.recipe.facts import Machine
from rewarm.studio.context import Studio, User
from rewarm.studio.service.runs import find
from rewarm.studio.store import points as store
from rewarm.studio.store.points import MACHINE

MOST_RUNS = 50
"""Runs that are compared at once."""


class Metric(BaseModel):
    """A metric and its last value. Of a name that begins with ``system/``, steps are seconds since 1970."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "train/loss", "step": 2670, "tokens": 5599395840, "value": 1.87}}
    )
    name: str
    step: int
    tokens: int
    value: float


class Series(BaseModel):
    """A metric over its steps, as columns: each point where they are few (``exact``), else buckets of equal width."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "run": "20261123T101500-vietnamese-1a2b",
                "name": "train/loss",
                "exact": False,
                "step": [10, 1010],
                "tokens": [2097152, 211812352],
                "min": [2.31, 2.02],
                "mean": [2.64, 2.13],
                "max": [3.02, 2.29],
            }
        }
    )
    run: str
    name: str
    exact: bool
    step: list[int]
    """The first step of each bucket."""
    tokens: list[int]
    min: list[float]
    mean: list[float]
    max: list[float]


class Computer(BaseModel):
    """The computer of the Studio, and how busy it is."""

    system: str
    cores: int
    memory_bytes: int
    disk_bytes: int
    gpus: list[str]
    gpu_memory_bytes: list[int]
    now: list[Metric]


def metrics(studio: Studio, user: User, run: str) -> list[Metric]:
    """The metrics of a run, by name. Raises ``NotFound``."""
    find(studio, run)
    return _metrics(studio, run)


def series(
    studio: Studio, user: User, runs: list[str], name: str, begin: int | None, end: int | None, buckets: int
) -> list[Series]:
    """One metric of each of these runs that has it, between two steps.

    Raises:
        NotFound: if one of the runs is not there, or none has the metric.
        UserError: for more than ``MOST_RUNS`` runs.
    """
    if len(runs) > MOST_RUNS:
        raise UserError(f"{len(runs)} runs are too many", where="run", remedy=f"compare {MOST_RUNS} at most")
    for run in runs:
        find(studio, run)
    return _series(studio, runs, name, begin, end, buckets)


def as_csv(studio: Studio, user: User, run: str) -> Iterator[str]:
    """All points of a run, ``name,step,tokens,value``, by name and step. Raises ``NotFound`` at once."""
    find(studio, run)
    return _csv(studio, run)


def computer(studio: Studio, user: User) -> Computer:
    """The computer now; what is busy in it is at most ten seconds old."""
    here = Machine.here()
    return Computer(
        system=here.system,
        cores=here.cores,
        memory_bytes=here.memory,
        disk_bytes=psutil.disk_usage(str(studio.workspace.root)).total,
        gpus=[name for name, _ in here.gpus],
        gpu_memory_bytes=[memory for _, memory in here.gpus],
        now=_metrics(studio, MACHINE),
    )


def computer_series(studio: Studio, user: User, name: str, begin: int | None, end: int | None, buckets: int) -> Series:
    """One sample of the computer between two times, in seconds since 1970. Raises ``NotFound``."""
    return _series(studio, [MACHINE], name, begin, end, buckets)[0]


def _metrics(studio: Studio, run: str) -> list[Metric]:
    with studio.database.read() as session:
        found = store.last_points(session, run)
    return [Metric(name=name, step=step, tokens=tokens, value=value) for name, step, tokens, value in found]


def _series(
    studio: Studio, runs: list[str], name: str, begin: int | None, end: int | None, buckets: int
) -> list[Series]:
    with studio.database.read() as session:
        numbers = {run: store.number(session, run, name) for run in runs}
        found = [
            _columns(run, name, store.series(session, number, begin, end, buckets))
            for run, number in numbers.items()
            if number is not None
        ]
    if not found:
        raise NotFound(f"there is no metric {name!r}", where=", ".join(runs) or "this computer")
    return found


def _columns(run: str, name: str, buckets: list[store.Bucket]) -> Series:
    values: dict[str, list[Any]] = {
        key: [getattr(bucket, key) for bucket in buckets] for key in ("step", "tokens", "min", "mean", "max")
    }
    return Series(run=run, name=name, exact=all(bucket.points == 1 for bucket in buckets), **values)


def _csv(studio: Studio, run: str) -> Iterator[str]:
    yield "name,step,tokens,value\r\n"
    with studio.database.read() as session:
        metrics = store.numbers(session, run)
    for name, number in metrics.items():
        after: int | None = None
        while True:
            with studio.database.read() as session:  # a session for a page: a slow reader must not hold one
                page = store.page(session, number, after)
            if not page:
                break
            text = io.StringIO()
            csv.writer(text).writerows((name, *point) for point in page)
            yield text.getvalue()
            after = page[-1][0]
