"""F16: a database that is away or held by somebody else costs a run nothing; its points are all there afterwards."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from rewarm.core.events import metrics, read_events
from rewarm.core.run import Run
from rewarm.core.workspace import Workspace
from tests.studio.postgres import cluster
from tests.studio.run_files import new_run
from tests.studio.server import Server, serving

TRAIN = """
import sys, time
from pathlib import Path
from rewarm.core.events import EventLog
from rewarm.core.run import Run, claim
run = Run(Path(sys.argv[1]))
claim(run)
log, step = EventLog(run.events, 1), 0
log.state("starting")
log.state("running")
while run.stop_wish() is None:
    step += 1
    log.metric(step, step * 100, {"train/loss": 1 / step})
    time.sleep(0.01)
log.state("failed", reason="told to")
"""


@contextlib.contextmanager
def training(root: Path) -> Iterator[tuple[Run, subprocess.Popen[bytes]]]:
    """A run whose process writes a point a hundred times a second until it is asked to end."""
    run = new_run(Workspace(root))
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(run.path)])
    try:
        yield run, process
    finally:
        process.kill()
        process.wait()


def until(ask: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError, KeyError):
            if ask():
                return
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def steps(server: Server, run: Run) -> list[int]:
    """Of the points that the Studio has."""
    return list(server.client.get(f"/runs/{run.id}/metrics/train/loss?buckets=5000").json()["step"])


def health(server: Server) -> int:
    return server.client.get(f"http://127.0.0.1:{server.port}/health").status_code


def end_and_compare(server: Server, run: Run, process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None
    run.request_stop()
    assert process.wait(30) == 0
    told = [step for step, *_ in metrics(event for event, _ in read_events(run.events))["train/loss"]]
    assert told == list(range(1, len(told) + 1))
    until(lambda: steps(server, run) == told)


def test_f16_a_database_server_that_is_stopped_and_started_again_loses_no_point(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with (
        cluster() as postgres,
        serving(root, f"{postgres.url}/postgres") as server,
        training(root) as (run, process),
    ):
        until(lambda: len(steps(server, run)) > 20)
        for mode in ("immediate", "fast"):  # as killed, and in order
            postgres.stop(mode)
            size = run.events.stat().st_size
            until(lambda: health(server) == 503)
            assert server.client.get("/runs").status_code == 503
            until(lambda size=size: run.events.stat().st_size > size + 5000)  # training goes on
            postgres.start()
            until(lambda: health(server) == 200)
            before = len(steps(server, run))
            until(lambda before=before: len(steps(server, run)) > before)
        end_and_compare(server, run, process)


@pytest.mark.parametrize("seconds", [3, pytest.param(32, marks=pytest.mark.nightly)])
def test_f16_a_database_that_somebody_else_holds_loses_no_point(tmp_path: Path, seconds: float) -> None:
    root = tmp_path / "home"
    with serving(root) as server, training(root) as (run, process):
        until(lambda: len(steps(server, run)) > 20)
        with contextlib.closing(sqlite3.connect(root / "rewarm.db", isolation_level=None, timeout=30)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            held = time.monotonic()
            seen = steps(server, run)
            while time.monotonic() - held < seconds:
                assert steps(server, run) == seen  # who only reads is answered
                time.sleep(0.2)
            holder.execute("ROLLBACK")
        until(lambda: len(steps(server, run)) > len(seen) + 100)
        end_and_compare(server, run, process)
