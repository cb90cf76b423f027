from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest

from rewarm.core.events import TRAINING_FROM, EventLog, metrics, read_events
from rewarm.core.run import Run
from rewarm.core.workspace import Workspace
from rewarm.studio.background import ship
from rewarm.studio.context import OWNER, Studio, open_studio
from rewarm.studio.service import housekeeping, logs, notifications, runs
from rewarm.studio.store import points
from rewarm.studio.store.database import Database
from rewarm.studio.store.tables import NoticeRow, RunRow
from tests.studio.run_files import new_run, set_back, write_events, write_sample


@pytest.fixture
def studio(tmp_path: Path, database: Database) -> Studio:
    return Studio(Workspace(tmp_path / "home"), database)


def stored(studio: Studio, run: Run) -> dict[str, list[tuple[int, int, float]]]:
    with studio.database.read() as session:
        numbers = points.numbers(session, run.id)
        pages = {name: points.page(session, number, None) for name, number in numbers.items()}
    return {name: [tuple(point) for point in page] for name, page in pages.items() if page}


def told(run: Run) -> dict[str, list[tuple[int, int, float]]]:
    return metrics(event for event, _ in read_events(run.events))


def row(studio: Studio, run: Run) -> RunRow | None:
    with studio.database.read() as session:
        return session.get(RunRow, run.id)


def test_points_and_state_follow_the_record(studio: Studio) -> None:
    run = new_run(studio.workspace)
    write_events(run, {1: 2.5, 2: 2.4})
    ship.ship_all(studio)
    assert stored(studio, run) == told(run)
    assert (found := row(studio, run)) and found.state == "running"
    write_events(run, dict.fromkeys(range(3, 3 + ship.BATCH), 2.0), "failed")
    ship.ship_live(studio)
    assert stored(studio, run) == told(run)
    assert (found := row(studio, run)) and found.state == "failed"


def test_a_line_that_is_being_written_waits(studio: Studio) -> None:
    run = new_run(studio.workspace)
    write_events(run, {1: 2.5})
    whole = run.events.read_bytes()
    write_events(run, {2: 2.4})
    both = run.events.read_bytes()
    for size in range(len(whole), len(both), 9):
        run.events.write_bytes(both[:size])
        ship.ship(studio, run)
        assert [point[0] for point in stored(studio, run)["train/loss"]] == [1]
    run.events.write_bytes(both)
    ship.ship(studio, run)
    assert stored(studio, run) == told(run)


def test_a_training_that_is_given_up_takes_its_points_along(studio: Studio) -> None:
    run = new_run(studio.workspace)
    write_sample(run, {"system/cpu_percent": 40.0})
    write_events(run, {n: float(n) for n in range(1, 31)})
    ship.ship_all(studio)
    log = EventLog(run.events, 2)
    log.result(TRAINING_FROM, 10)
    log.metric(11, 0, {"train/loss": 7.0})
    log.result(TRAINING_FROM, 5)
    log.metric(6, 0, {"train/loss": 8.0, "train/grad_norm": math.nan})
    log.close()
    ship.ship_all(studio)
    found = stored(studio, run)
    assert len(found.pop("system/cpu_percent")) == 1
    expected = told(run)
    expected.pop("train/grad_norm")  # a NaN is no point
    assert found == expected and [point[0] for point in found["train/loss"]] == [1, 2, 3, 4, 5, 6]


def test_f17_where_the_log_of_the_database_was_deleted_runs_and_points_come_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    run = new_run(workspace)
    write_events(run, {n: float(n) for n in range(1, 400)})
    url = f"sqlite:///{workspace.root / 'rewarm.db'}"
    reader = subprocess.Popen([sys.executable, "-c", KILLED, str(workspace.root), url], stdout=subprocess.PIPE)
    assert reader.stdout and reader.stdout.readline()
    time.sleep(0.3)
    reader.kill()
    reader.wait()
    reader.stdout.close()
    (workspace.root / "rewarm.db-wal").unlink()
    studio = open_studio(workspace)
    ship.ship_all(studio)
    assert stored(studio, run) == told(run)
    studio.database.close()


@pytest.mark.parametrize("lost", ["a line", "half a line", "all"])
def test_a_record_whose_end_was_lost_with_the_power_is_read_again(studio: Studio, lost: str) -> None:
    run = new_run(studio.workspace)
    write_events(run, {n: float(n) for n in range(1, 21)})
    ship.ship_all(studio)
    data = run.events.read_bytes()
    last = data.rindex(b"\n", 0, -1) + 1
    set_back(run.events, {"a line": last, "half a line": last + 20, "all": 0}[lost])
    write_events(run, dict.fromkeys(range(18, 60), 0.5))
    ship.ship_all(studio)
    assert stored(studio, run) == told(run)


def test_a_lost_database_is_made_again_and_a_deleted_run_is_forgotten(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    runs = [new_run(workspace, name) for name in ("one", "two")]
    for run in runs:
        write_events(run, {n: float(n) for n in range(1, 50)}, "succeeded")
    for again in range(2):
        studio = open_studio(workspace)
        ship.ship_all(studio)
        assert [stored(studio, run) for run in runs] == [told(run) for run in runs], again
        studio.database.close()
        (workspace.root / "rewarm.db").unlink()
    studio = open_studio(workspace)
    ship.ship_all(studio)
    for path in sorted(runs[0].path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    runs[0].path.rmdir()
    ship.ship_all(studio)
    assert row(studio, runs[0]) is None and not stored(studio, runs[0])
    assert stored(studio, runs[1]) == told(runs[1])
    studio.database.close()


def test_f22_whatever_the_clock_does_events_keep_their_order(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour on, an hour back, the night of a change of hours, and behind 2038."""
    now = time.time()
    run = new_run(studio.workspace)
    moments = [now, now + 3600, now - 3600, 1_774_746_000.0, 2.0**31 + 5, now]
    for step, moment in enumerate(moments, 1):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        write_events(run, {step: float(step)})
        ship.ship_all(studio)
        found = runs.show(studio, OWNER, run.id)
        assert (found.state, found.changed) == ("running", moment)  # and nobody calls it lost
        assert housekeeping.device_seconds(run) >= 0
    assert [event["seq"] for event in logs.events(studio, OWNER, run.id)] == list(range(1, len(moments) + 3))
    assert [point[0] for point in stored(studio, run)["train/loss"]] == list(range(1, len(moments) + 1))
    monkeypatch.setattr(time, "time", lambda: now - 7200)
    write_events(run, {}, "failed")
    ship.ship_live(studio)
    for moment in (now - 7200, now + 3600, now):
        notifications.collect(studio, moment)
    with studio.database.read() as session:
        assert len(session.query(NoticeRow).all()) == 1  # told once


def test_samples_of_the_computer_are_kept_by_the_second(studio: Studio) -> None:
    run = new_run(studio.workspace)
    write_events(run, {1: 1.0})
    write_sample(run, {"system/cpu_percent": 50.0, "system/run/joules": 12.5}, at=1_700_000_000.4)
    with run.system.open("ab") as file:
        file.write(b'{"time": 1700000005, "val\n\x00\x00\n[1]\n{"time": "x", "values": {"system/a": 1}}\n')
    write_sample(run, {"system/cpu_percent": 60.0, "train/loss": 5.0, "system/run/joules": 20.0}, at=1_700_000_010.9)
    with run.system.open("ab") as file:
        file.write(b'{"time": 17')
    ship.ship_all(studio)
    assert stored(studio, run)["system/cpu_percent"] == [(1_700_000_000, 0, 50.0), (1_700_000_010, 0, 60.0)]
    assert len(stored(studio, run)["train/loss"]) == 1
    assert (found := row(studio, run)) and found.joules == 20.0


def test_the_computer_itself_is_sampled(studio: Studio) -> None:
    studio.workspace.root.mkdir()
    ship.SampleMachine()(studio)
    with studio.database.read() as session:
        names = {point[0] for point in points.last_points(session, points.MACHINE)}
    assert {"system/memory_bytes", "system/disk_bytes"} <= names


def test_one_damaged_run_does_not_keep_the_others_from_being_read(studio: Studio) -> None:
    bad, good = new_run(studio.workspace, "bad"), new_run(studio.workspace, "good")
    write_events(bad, {1: 1.0})
    line = {"v": 1, "seq": 9, "attempt": 1, "time": 0, "stage": "", "kind": "metric"}
    with bad.events.open("ab") as file:
        file.write(orjson.dumps(line | {"step": 2**63, "tokens": 1, "values": {"a": 1}}) + b"\n")
    write_events(good, {1: 1.0})
    ship.ship_all(studio)
    assert stored(studio, good) == told(good)


KILLED = """
import sys
from rewarm.core.workspace import Workspace
from rewarm.studio.background import ship
from rewarm.studio.context import open_studio
from pathlib import Path
ship.BATCH = 7
studio = open_studio(Workspace(Path(sys.argv[1])), sys.argv[2])
print("reading", flush=True)
while True:
    ship.ship_all(studio)
    ship.ship_live(studio)
"""


def test_a_reader_that_is_killed_again_and_again_loses_no_point_and_keeps_none_twice(studio: Studio) -> None:
    run = new_run(studio.workspace)
    write_events(run, {0: 0.0})
    ended = threading.Event()

    def train() -> None:
        step = 0
        while not ended.is_set():
            step += 1
            write_events(run, {step: 1 / step})
            time.sleep(0.002)

    training = threading.Thread(target=train)
    training.start()
    url = studio.database.engine.url.render_as_string(hide_password=False)
    try:
        for wait in (0.05, 0.15, 0.3):
            command = [sys.executable, "-c", KILLED, str(studio.workspace.root), url]
            reader = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert reader.stdout and reader.stdout.readline()
            time.sleep(wait)
            os.kill(reader.pid, signal.SIGKILL)
            reader.wait()
            reader.stdout.close()
    finally:
        ended.set()
        training.join()
    before = len(stored(studio, run)["train/loss"])
    ship.ship_all(studio)
    assert stored(studio, run) == told(run) and before > 1
