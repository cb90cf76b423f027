"""Whether a run lives is computed from the files and the kernel, whoever asks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest

from rewarm.core import control, states
from rewarm.core import run as run_module
from rewarm.core.control import enqueue, launch, remove_run, set_priority, sole_process, stop_run, terminate
from rewarm.core.errors import Conflict, DataError, NotFound, UserError
from rewarm.core.events import EventLog
from rewarm.core.manifest import to_json
from rewarm.core.run import Run, claim, create_run, find_run, list_runs, read_launch
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
def test_f9_a_pid_alone_proves_nothing_and_nobody_else_is_ended(
    living: tuple[Run, subprocess.Popen[str]], change: dict[str, object]
) -> None:
    run, process = living
    record = run.process()
    assert record is not None
    (run.path / "process.json").write_bytes(to_json({**record, **change}))
    assert not run.alive()
    terminate(run)
    time.sleep(0.2)
    assert process.poll() is None


def test_attempts_are_counted(workspace: Workspace) -> None:
    run = new_run(workspace)
    assert claim(run)["attempt"] == 1
    assert claim(run)["attempt"] == 2


def test_one_process_works_on_a_run(workspace: Workspace) -> None:
    run = new_run(workspace)
    with sole_process(run), pytest.raises(UserError, match="in use by another process"), sole_process(run):
        pass


def test_a_folder_that_is_no_run_keeps_what_is_in_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "text.jsonl").write_text("{}")
    for folder in (corpus, tmp_path / "nothing"):
        with pytest.raises(NotFound), sole_process(Run(folder)):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["corpus", "text.jsonl"]


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


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"null", b'{"pid": "7"}', b"\xff"])
def test_a_damaged_process_record_is_named_with_its_remedy(workspace: Workspace, content: bytes) -> None:
    run = new_run(workspace)
    (run.path / "process.json").write_bytes(content)
    for ask in (run.process, run.alive, run.status, lambda: launch(run, [])):
        with pytest.raises(DataError, match=r"process\.json: this file is damaged") as caught:
            ask()
        assert f"rewarm resume {run.id}" in str(caught.value)


@pytest.mark.parametrize("pid", [0, -1, 2**40, 2**70])
def test_no_process_has_such_a_number(workspace: Workspace, pid: int) -> None:
    run = new_run(workspace)
    record = claim(run)
    (run.path / "process.json").write_text(json.dumps({**record, "pid": pid}))
    with contextlib.suppress(DataError):  # beyond 64 bits it is no JSON of ours
        assert not run.alive()


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"overrides": 3, "folder": "/"}'])
def test_a_damaged_launch_record_is_named_and_the_run_does_not_seem_to_start(
    workspace: Workspace, content: bytes
) -> None:
    run = new_run(workspace)
    (run.path / "launch.json").write_bytes(content)
    with pytest.raises(UserError, match=r"launch\.json: this file is damaged"):
        launch(run, [])
    assert run.status().state == "queued"


def test_attempts_are_counted_where_the_process_record_is_gone(workspace: Workspace) -> None:
    run = new_run(workspace)
    log = EventLog(run.events, 7)
    log.state("running")
    log.close()
    assert claim(run)["attempt"] == 8


def test_a_full_disk_leaves_no_run_that_nobody_sees(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(run_module, "write_file", full)
    with pytest.raises(OSError, match="No space left"):
        new_run(workspace)
    assert list(workspace.runs.iterdir()) == []


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A python that takes long to import anything."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 30\n")
    script.chmod(0o755)
    monkeypatch.setattr(control.sys, "executable", str(script))


@pytest.mark.usefixtures("slow")
def test_of_two_starts_right_after_one_another_the_second_is_refused(workspace: Workspace) -> None:
    run = new_run(workspace)
    process = launch(run, [])
    try:
        with pytest.raises(UserError, match="running already"):
            launch(run, [])
        hour_ago = time.time() - 3600
        os.utime(run.path / "control" / "launched", (hour_ago, hour_ago))
        assert run.status().state == "starting"  # however long the start takes, it is not lost
        with pytest.raises(UserError, match="this run is running"):
            remove_run(run)
    finally:
        process.kill()
        process.wait()
    assert run.status().state == "lost"  # nor does one that died at once seem to start


def test_a_recipe_name_is_its_newest_run(workspace: Workspace) -> None:
    for stamp, name in (("20260101T000000", "law"), ("20260102T000000", "law"), ("20260103T000000", "law-2")):
        run = workspace.runs / f"{stamp}-{name}-abcd"
        run.mkdir(parents=True)
        (run / "recipe.yaml").touch()
    assert find_run(workspace, "law").id == "20260102T000000-law-abcd"
    assert find_run(workspace, "law-2").id == "20260103T000000-law-2-abcd"
    assert find_run(workspace, "20260101").id == "20260101T000000-law-abcd"
    with pytest.raises(UserError, match="fits 3 runs"):
        find_run(workspace, "aw")


def test_a_run_is_removed_unless_it_runs(living: tuple[Run, subprocess.Popen[str]], workspace: Workspace) -> None:
    run, process = living
    with pytest.raises(UserError, match="this run is running"):
        remove_run(run)
    process.kill()
    process.wait()
    (run.path / "process.json").write_bytes(b"{")  # not even damage keeps it
    remove_run(run)
    assert list_runs(workspace) == []
    assert not run.path.exists()


def test_a_folder_that_is_not_utf_8_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="is not UTF-8"):
        create_run(workspace, "a", "name: a\n", [], Path(os.fsdecode(b"/data/\xff")))
    assert list_runs(workspace) == [] == list(workspace.runs.iterdir())
    made = create_run(workspace, "a", "name: a\n", ["name=luật"], Path("/data/điều"))
    assert read_launch(made) == {"overrides": ["name=luật"], "folder": "/data/điều"}


def test_a_process_ends_with_the_one_that_started_it() -> None:
    child = "import time, rewarm.core.process as own; own.end_with_parent(); print(1, flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        (grandchild,) = psutil.Process(process.pid).children()
        process.kill()
        grandchild.wait(10)


def queued_run(workspace: Workspace) -> Run:
    queue = {"priority": 0, "arguments": [], "by": "ana", "time": 1.0}
    return create_run(workspace, "test", "name: test\n", [], workspace.root, origin={"by": "ana"}, queue=queue)


def states_of(run: Run) -> list[str]:
    return [
        event["state"] for event in map(json.loads, run.events.read_text().splitlines()) if event["kind"] == "state"
    ]


def test_a_queued_run_is_stopped_at_once_and_can_be_queued_again(workspace: Workspace) -> None:
    run = queued_run(workspace)
    assert run.status().state == "queued" and run.queued() is not None
    stop_run(run, "ana: not now")
    assert (run.status().state, run.status().reason) == ("stopped", "ana: not now")
    assert not run.queue_file.exists() and not run.stop_file.exists()
    with pytest.raises(Conflict, match="not running: stopped"):
        stop_run(run)
    enqueue(run, ["--from", "train"], 5, "bob")
    assert run.status().state == "queued"
    with pytest.raises(Conflict, match="queued already"):
        enqueue(run, [], 0, "bob")
    set_priority(run, -3)
    assert {**run.queued(), "time": 0} == {"priority": -3, "arguments": ["--from", "train"], "by": "bob", "time": 0}
    stop_run(run)
    assert states_of(run) == ["stopped"]  # it was that already
    with pytest.raises(Conflict, match="does not wait"):
        set_priority(run, 1)


def test_a_run_that_was_withdrawn_is_not_launched(workspace: Workspace) -> None:
    run = queued_run(workspace)
    stop_run(run)
    with pytest.raises(Conflict, match="any more"):
        launch(run, [], queued=True)
    assert run.status().state == "stopped"


def test_a_launch_takes_the_run_out_of_the_queue(workspace: Workspace) -> None:
    run = queued_run(workspace)  # its recipe is none: the process ends at once
    process = launch(run, [], queued=True)
    assert not run.queue_file.exists()
    assert run.status().state == "starting"
    stop_run(run, "ana: wait")  # while it starts, a wish is left for it
    assert run.stop_wish() == "ana: wait"
    process.kill()
    process.wait()


def test_a_launcher_that_was_killed_leaves_the_run_in_the_queue(workspace: Workspace) -> None:
    run = queued_run(workspace)
    mark = run.path / "control" / "launched"
    mark.write_bytes(to_json({"attempt": 1}))
    assert run.status().state == "starting"
    os.utime(mark, (1, 1))  # half a minute later there is no process still
    assert run.status().state == "queued"
    claim(run)  # and had there been one, it would not be launched twice
    assert run.queued() is None


def test_a_stopped_lost_run_is_told_as_lost_first(living: tuple[Run, subprocess.Popen[str]]) -> None:
    run, process = living
    process.kill()
    process.wait()
    stop_run(run, "ana: enough")
    assert states_of(run) == ["starting", "running", "lost", "stopped"]
    assert run.status().state == "stopped"


def test_a_run_on_another_computer_is_asked_through_the_workspace(
    living: tuple[Run, subprocess.Popen[str]],
) -> None:
    run, _ = living
    away = {"host": "elsewhere", "boot_id": "another"}
    (run.path / "process.json").write_bytes(to_json({**(run.process() or {}), **away}))
    stop_run(run, "ana: enough")
    assert run.stop_wish() == "ana: enough" and states_of(run) == ["starting", "running"]


def test_a_living_run_is_asked_with_the_reason(living: tuple[Run, subprocess.Popen[str]]) -> None:
    run, _ = living
    stop_run(run, "ana: enough")
    stop_run(run, "bob: really")
    assert (run.status().state, run.status().reason) == ("stopping", "ana: enough")
    with pytest.raises(Conflict, match="running already"):
        enqueue(run, [], 0, "ana")
