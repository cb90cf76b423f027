"""Whether a run lives is computed from the files and the kernel, whoever asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from rewarm.core import states
from rewarm.core.errors import UserError
from rewarm.core.events import EventLog
from rewarm.core.manifest import to_json
from rewarm.core.run import Run, claim, create_run, find_run, launch, list_runs, read_launch, sole_process
from rewarm.core.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def new_run(workspace: Workspace, name: str = "test") -> Run:
    return create_run(workspace, name, "name: test\n", ["a=1"], Path("/somewhere"))


CLAIM = """
import sys, time
from pathlib import Path
from rewarm.core.events import EventLog
from rewarm.core.run import Run, claim
run = Run(Path(sys.argv[1]))
claim(run)
log = EventLog(run.events, 1)
log.state("starting"); log.state("running")
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def living(workspace: Workspace) -> object:
    run = new_run(workspace)
    process = subprocess.Popen([sys.executable, "-c", CLAIM, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    yield run, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_create_keeps_text_and_launch(workspace: Workspace) -> None:
    run = new_run(workspace)
    assert run.recipe.read_text() == "name: test\n"
    assert read_launch(run) == {"overrides": ["a=1"], "folder": "/somewhere"}
    assert run.status().state == "queued"
    assert list_runs(workspace) == [run]


def test_a_killed_process_is_lost_at_once(living: tuple[Run, subprocess.Popen[str]]) -> None:
    run, process = living
    assert run.alive()
    assert run.status().state == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not run.alive()
    status = run.status()
    assert status.state == "lost"
    assert status.reason is not None


def test_an_unreaped_zombie_does_not_live(living: tuple[Run, subprocess.Popen[str]]) -> None:
    run, process = living
    os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 5
    while run.alive() and time.monotonic() < until:
        time.sleep(0.02)
    assert process.returncode is None  # nobody has waited for it: the kernel still knows the pid
    assert not run.alive()


@pytest.mark.parametrize("change", [{"start_ticks": "1"}, {"boot_id": "another boot"}, {"pid": 2**22 - 1}])
def test_a_pid_alone_proves_nothing(living: tuple[Run, subprocess.Popen[str]], change: dict[str, object]) -> None:
    run, _ = living
    record = run.process()
    assert record is not None
    (run.path / "process.json").write_bytes(to_json({**record, **change}))
    assert not run.alive()


def test_attempts_are_counted(workspace: Workspace) -> None:
    run = new_run(workspace)
    assert claim(run)["attempt"] == 1
    assert claim(run)["attempt"] == 2


def test_one_process_works_on_a_run(workspace: Workspace) -> None:
    run = new_run(workspace)
    with sole_process(run), pytest.raises(UserError, match="in use by another process"), sole_process(run):
        pass


def test_a_finished_run_stays_what_it_was(workspace: Workspace) -> None:
    run = new_run(workspace)
    claim(run)
    log = EventLog(run.events, 1)
    log.state("running")
    log.state("failed", reason="no data", exit_code=3)
    log.close()
    (run.path / "process.json").unlink()
    status = run.status()
    assert (status.state, status.reason) == ("failed", "no data")


def test_find(workspace: Workspace) -> None:
    first, second = new_run(workspace, "one"), new_run(workspace, "two")
    assert find_run(workspace, first.id) == first
    assert find_run(workspace, "two") == second
    assert find_run(workspace, "last") in (first, second)
    with pytest.raises(UserError, match="no run is called"):
        find_run(workspace, "three")
    with pytest.raises(UserError, match="fits 2 runs"):
        find_run(workspace, first.id[:8])
    with pytest.raises(UserError, match="not a run's id"):
        find_run(workspace, "../escape")


def test_moves() -> None:
    for old, allowed in states.MOVES.items():
        for new in allowed:
            states.check_move(old, new)
            assert new in states.MOVES
    with pytest.raises(ValueError, match="cannot go from succeeded to running"):
        states.check_move("succeeded", "running")
    assert set(states.MOVES) >= states.LIVE


def test_process_record_is_whole_json(workspace: Workspace) -> None:
    run = new_run(workspace)
    claim(run)
    record = orjson.loads((run.path / "process.json").read_bytes())
    assert record["pid"] == os.getpid()
    assert run.alive()


def test_a_stop_asked_for_during_the_start_is_honoured(workspace: Workspace) -> None:
    run = new_run(workspace)
    run.request_stop()
    claim(run)
    assert run.stop_file.exists()


def test_a_run_on_another_host_is_not_called_lost(living: tuple[Run, subprocess.Popen[str]]) -> None:
    run, _ = living
    record = run.process()
    (run.path / "process.json").write_bytes(to_json({**(record or {}), "host": "elsewhere", "boot_id": "another"}))
    assert not run.alive()
    assert run.status().state == "running"
    with pytest.raises(UserError, match="another computer, elsewhere"):
        launch(run, [])


def test_asked_to_stop_it_is_stopping(living: tuple[Run, subprocess.Popen[str]]) -> None:
    run, _ = living
    run.request_stop()
    assert run.status().state == "stopping"
