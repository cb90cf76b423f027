"""Runs as files alone, for tests that are not about the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import orjson

from rewarm.core.events import EventLog
from rewarm.core.run import Run, claim, create_run
from rewarm.core.workspace import Workspace


def new_run(workspace: Workspace, name: str = "tiny") -> Run:
    return create_run(workspace, name, f"name: {name}\n", [], Path("/"))


def write_events(run: Run, losses: Mapping[int, float], state: str | None = None, attempt: int = 1) -> None:
    """A loss by step, and the state that the run ends in; without one it goes on, in this process."""
    log = EventLog(run.events, attempt)
    log.stage = "train"
    if log.last_state is None:
        claim(run)
        log.state("starting")
        log.state("running")
    for step, loss in losses.items():
        log.metric(step, step * 100, {"train/loss": loss, "train/lr": 1e-3})
    if state:
        log.state(state)
        (run.path / "process.json").unlink()
    log.close()


def write_sample(run: Run, values: Mapping[str, float], at: float | None = None) -> None:
    with run.system.open("ab") as file:
        file.write(orjson.dumps({"time": at or time.time(), "values": values}) + b"\n")


def set_back(path: Path, size: int) -> None:
    """What a power cut leaves of a file."""
    os.truncate(path, size)
