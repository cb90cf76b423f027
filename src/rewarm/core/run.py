"""A run directory: where it is, whether its process lives, and what state it is truly in.

Whoever asks computes the truth from the files: no daemon has to be alive for a dead run to be
called dead. A process is ours only if pid, start ticks and boot id all match ``process.json``;
a pid alone may belong to somebody else by now.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil

from rewarm.core import states
from rewarm.core.errors import Conflict, DataError, NotFound, UserError
from rewarm.core.events import Event, EventLog, last_events, read_events
from rewarm.core.manifest import to_json
from rewarm.core.storage import TEMPORARY, locked, remove_folder, write_file
from rewarm.core.workspace import Workspace

STAGES = ("prepare", "baseline", "train", "evaluate", "publish")


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def recipe_name(self) -> str:
        """The name in the id."""
        return self.id.partition("-")[2].rpartition("-")[0]

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def system(self) -> Path:
        """How busy the computer was meanwhile: ``{time, values}`` a line."""
        return self.path / "system.jsonl"

    @property
    def stop_file(self) -> Path:
        return self.path / "control" / "stop"

    @property
    def queue_file(self) -> Path:
        return self.path / "control" / "queued"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def stage_record(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def process(self) -> dict[str, Any] | None:
        """The content of ``process.json``, or None where no process was ever started. Raises ``DataError``."""
        fields = {"pid": int, "start_ticks": str, "boot_id": str, "host": str, "attempt": int}
        remedy = f"if nothing works on this run any more, delete that file; then: rewarm resume {self.id}"
        return _read_record(self.path / "process.json", fields, remedy)

    def stage(self, stage: str) -> dict[str, Any] | None:
        """The record of a finished stage, or None where there is none. Raises ``DataError``."""
        fields = {"inputs": str, "outputs": dict, "facts": dict, "seconds": (int, float)}
        remedy = f"rewarm resume {self.id} does that stage again"
        return _read_record(self.stage_record(stage), fields, remedy)

    def queued(self) -> dict[str, Any] | None:
        """``{priority, arguments, by, time}`` of a run that waits for the scheduler. Raises ``DataError``."""
        fields = {"priority": int, "arguments": list, "by": str, "time": (int, float)}
        return _read_record(self.queue_file, fields, f"rewarm resume {self.id}")

    def stop_wish(self) -> str | None:
        """Why it is to stop, which may be empty; None where nobody wishes that."""
        try:
            return self.stop_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def alive(self) -> bool:
        """Whether the process of the newest attempt lives on this computer."""
        record = self.process()
        return record is not None and _same_process(record)

    def elsewhere(self) -> bool:
        """Whether the newest attempt may live on another computer, of whose processes nothing is known here."""
        record = self.process()
        return record is not None and _foreign(record) and Status.told(self) in states.LIVE

    def status(self) -> Status:
        """The run as its events tell it, corrected by whether its process lives."""
        return Status.read(self)

    def request_stop(self, reason: str = "") -> None:
        """Ask the run to write a checkpoint and end; it does so within a step. The first reason stands."""
        if not self.stop_file.exists():
            write_file(self.stop_file, reason)


def _read_record(path: Path, fields: dict[str, Any], remedy: str) -> dict[str, Any] | None:
    """The JSON object in ``path``, which has these fields; None where there is no such file.

    Raises:
        DataError: if it is anything else.
    """
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in fields.items()):
        return value
    raise DataError("this file is damaged", where=path, remedy=remedy)


@dataclass(frozen=True)
class Status:
    """What a run is doing."""

    state: str
    stage: str
    attempt: int
    progress: Event | None
    last: Event | None
    reason: str | None

    @staticmethod
    def told(run: Run) -> str | None:
        """The last state that the run itself wrote."""
        found = [event["state"] for event in last_events(run.events) if event["kind"] == "state"]
        return found[-1] if found else None

    @classmethod
    def read(cls, run: Run) -> Status:
        alive = run.alive()  # asked first: a process that ends meanwhile has written its last state
        state = progress = last = None
        for event in last_events(run.events):
            last = event
            if event["kind"] == "state":
                state = event
            elif event["kind"] == "progress":
                progress = event
        name = state["state"] if state else "starting" if _launch_mark(run).exists() else "queued"
        reason = state.get("reason") if state else None
        if not alive and _just_started(run):
            name, reason = "starting", None
        elif (not alive or name not in states.LIVE) and run.queue_file.exists():
            name, reason = "queued", None
        elif not alive and name in states.LIVE and (state or name == "starting"):
            record = run.process()
            if record is not None and _foreign(record):
                reason = f"as it said last; it runs on {record['host']}, which cannot be seen from here"
            else:
                name, reason = "lost", "its process is gone and did not say why"
        elif name in ("queued", "running") and (wish := run.stop_wish()) is not None:
            name, reason = "stopping", wish or None
        return cls(
            state=name,
            stage=last["stage"] if last else "",
            attempt=last["attempt"] if last else 0,
            progress=progress,
            last=last,
            reason=reason,
        )


def _just_started(run: Run) -> bool:
    """A launched process needs a moment until it writes process.json; the launcher's mark says so."""
    record, path = run.process(), _launch_mark(run)
    try:
        mark = _read_record(path, {"attempt": int}, "")
        ago = time.time() - path.stat().st_mtime
    except (OSError, DataError):
        return False
    if mark is None or mark["attempt"] <= (record["attempt"] if record else 0):
        return False
    # An import can take minutes on a busy computer, so the process is looked at, as soon as the mark names it.
    return _same_process(mark) if "pid" in mark else 0 <= ago < 30


def _launch_mark(run: Run) -> Path:
    return run.path / "control" / "launched"


def _start_ticks(pid: int) -> str:
    """When a process started, in a form that no later process with the same pid shares."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        return stat.read_bytes().rpartition(b")")[2].split()[19].decode()
    return repr(psutil.Process(pid).create_time())


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else str(int(psutil.boot_time()))


def _same_process(record: dict[str, Any]) -> bool:
    if record["boot_id"] != _boot_id():
        return False
    try:
        if psutil.Process(record["pid"]).status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(_start_ticks(record["pid"]) == record["start_ticks"])
    except (psutil.Error, OSError, ValueError, OverflowError):
        return False


def _foreign(record: dict[str, Any]) -> bool:
    """Whether another computer wrote the record; a container that was started again has a new name alone."""
    return bool(record["host"] != socket.gethostname() and record["boot_id"] != _boot_id())


def claim(run: Run) -> dict[str, Any]:
    """Write this process into ``process.json`` as the next attempt, and return the record."""
    record = {
        "pid": os.getpid(),
        "start_ticks": _start_ticks(os.getpid()),
        "boot_id": _boot_id(),
        "host": socket.gethostname(),
        "token": secrets.token_hex(8),
        "attempt": _attempts(run) + 1,
        "started": time.time(),
    }
    write_file(run.path / "process.json", to_json(record))
    run.queue_file.unlink(missing_ok=True)  # its launcher may have been killed before it could
    return record


def _attempts(run: Run) -> int:
    """How many there were; the record of the run knows where process.json is gone."""
    before = run.process()
    return before["attempt"] if before else max((event["attempt"] for event, _ in read_events(run.events)), default=0)


def create_run(
    workspace: Workspace,
    name: str,
    recipe_text: str,
    overrides: Sequence[str],
    folder: Path,
    *,
    origin: Mapping[str, Any] | None = None,
    queue: Mapping[str, Any] | None = None,
) -> Run:
    """Make ``runs/<UTC>-<name>-<4 hex>`` and put the recipe into it, as it was given.

    ``launch.json`` keeps what the text alone does not say: the overrides of the command line, and
    the folder that relative paths are seen from.

    Args:
        origin: what else ``launch.json`` is to keep.
        queue: see ``Run.queued``; the run waits for the scheduler from the moment on that it can be seen.
    """
    workspace.runs.mkdir(parents=True, exist_ok=True)
    while True:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        path = workspace.runs / f"{stamp}-{name}-{secrets.token_hex(2)}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        break
    run = Run(path)
    try:
        kept = {"overrides": [_utf8(text) for text in overrides], "folder": _utf8(str(folder))}
        write_file(run.path / "launch.json", to_json({**(origin or {}), **kept}))
        if queue is not None:
            write_file(run.queue_file, to_json(dict(queue)))
        write_file(run.recipe, recipe_text)
    except BaseException:  # a folder without a recipe is a run that nobody would ever see
        shutil.rmtree(path, ignore_errors=True)
        raise
    return run


def _utf8(text: str) -> str:
    """What came from the command line or the file system, as records keep it, whatever the locale is."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError("is not UTF-8", where=ascii(text), remedy="give it a name in UTF-8") from None


def read_launch(run: Run) -> dict[str, Any]:
    """``{overrides, folder}`` of a run. Raises ``UserError`` where the file is missing or damaged."""
    remedy = "start a new run of the same recipe; how it was started is not known any more"
    value = _read_record(run.path / "launch.json", {"overrides": list, "folder": str}, remedy)
    if value is None:
        raise UserError("not a run directory: launch.json is missing", where=run.path, remedy="rewarm runs ls")
    return value


def enqueue(run: Run, arguments: list[str], priority: int, by: str) -> None:
    """Let the run wait for the scheduler, which launches it with ``arguments``.

    A run that has said how it ended may wait already while its process takes its last seconds.

    Raises:
        Conflict: if it runs, or waits already.
    """
    if (state := run.status().state) in states.LIVE and not run.queue_file.exists():
        remedy = f"rewarm stop {run.id}"
        raise Conflict(f"this run is running already: {state}", where=run.id, remedy=remedy)
    if run.elsewhere():
        remedy = f"rewarm resume {run.id} --take-over"
        raise Conflict("this run may still run on another computer", where=run.id, remedy=remedy)
    record = {"priority": priority, "arguments": arguments, "by": by, "time": time.time()}
    beside = run.queue_file.with_name(f"{TEMPORARY}queued-{secrets.token_hex(4)}")
    try:
        beside.parent.mkdir(exist_ok=True)
        beside.write_bytes(to_json(record))
        run.queue_file.hardlink_to(beside)  # of several that do this at once, one can
    except FileNotFoundError:
        raise NotFound("there is no such run", where=run.id) from None
    except FileExistsError:
        raise Conflict("this run is queued already", where=run.id) from None
    finally:
        beside.unlink(missing_ok=True)


def set_priority(run: Run, priority: int) -> None:
    """Raises ``Conflict`` unless the run waits for the scheduler."""
    refusal = Conflict("this run does not wait in the queue", where=run.id)
    with _alone(run, refusal):
        if (record := run.queued()) is None:
            raise refusal
        write_file(run.queue_file, to_json({**record, "priority": priority}))


def stop_run(run: Run, reason: str = "") -> None:
    """Ask the run to end. One that no process works on (it waits in the queue, or to be resumed) is stopped at once.

    Raises:
        Conflict: if it has ended.
    """

    def busy() -> None:  # what waits in the queue is not, though its last process may take some seconds to go
        if (run.alive() or _just_started(run)) and not run.queue_file.exists():
            raise _Busy("a process works on this run")

    try:
        # Whoever has the lock for a moment only is waited for: a wish from before a launch would be forgotten.
        with sole_process(run, wait=busy):
            busy()
            _stop_idle(run, reason)
    except _Busy:
        run.request_stop(reason)


class _Busy(Conflict):
    pass


def give_up(run: Run, reason: str) -> None:
    """Let a lost run be failed, so that it is not resumed by itself. Raises ``Conflict`` where it runs again."""
    with _alone(run, Conflict("this run is running", where=run.id)):
        if not run.queue_file.exists():
            _stop_idle(run, reason, "failed")


def _stop_idle(run: Run, reason: str, into: str = "stopped") -> None:
    """Under the run's lock, and while it has no process, the one that writes its record is this one."""
    state = run.status().state
    if state not in states.LIVE | states.RESUMED or run.elsewhere():
        raise Conflict(f"is not running: {state}", where=run.id, remedy="rewarm runs ls")
    log = EventLog(run.events, _attempts(run))
    try:
        if log.last_state in states.LIVE:
            log.state("lost", reason="its process ended without a word")
        if log.last_state is None or log.last_state in states.RESUMED:
            log.state(into, reason=reason or into)
    finally:
        log.close()
    run.queue_file.unlink(missing_ok=True)


def launch(run: Run, arguments: list[str], take_over: bool = False, *, queued: bool = False) -> subprocess.Popen[bytes]:
    """Start ``python -m rewarm.pipeline DIR`` in a session of its own; its output goes to log.txt.

    Args:
        take_over: also where another computer, gone by now, said last that it works on the run.
        queued: only if it still waits in the queue.

    Raises:
        UserError: if the run runs already.
    """
    folder = Path(read_launch(run)["folder"])
    if not take_over and run.elsewhere():
        host = (run.process() or {})["host"]
        raise Conflict(
            f"this run may still run on another computer, {host}",
            where=run.id,
            remedy=f"stop it there; or, if that computer is gone: rewarm resume {run.id} --take-over",
        )
    follow = f"look at it with: rewarm runs logs -f {run.id}"
    with _alone(run, Conflict("this run is running already", where=run.id, remedy=follow)):
        if queued and not run.queue_file.exists():
            raise Conflict("this run does not wait in the queue any more", where=run.id)
        run.stop_file.unlink(missing_ok=True)  # an old wish; one that comes from here on is honoured
        mark: dict[str, Any] = {"attempt": _attempts(run) + 1}
        write_file(_launch_mark(run), to_json(mark))
    process = _start(run, folder if folder.is_dir() else run.path, arguments)
    with contextlib.suppress(psutil.Error, OSError):  # it may have ended already
        mark |= {"pid": process.pid, "start_ticks": _start_ticks(process.pid), "boot_id": _boot_id()}
        write_file(_launch_mark(run), to_json(mark))
    run.queue_file.unlink(missing_ok=True)  # last: a run whose launcher is killed before is launched again
    return process


@contextlib.contextmanager
def _alone(run: Run, refusal: UserError) -> Iterator[None]:
    """Hold the run's lock while no process works on it; raises ``refusal`` where one does or is about to."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole_process(run))
        except NotFound:
            raise
        except UserError:
            raise refusal from None
        if run.alive() or _just_started(run):
            raise refusal
        yield


def _start(run: Run, folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "rewarm.pipeline", str(run.path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,  # a task's data files are seen from the recipe's
            start_new_session=True,
            # Threads that spin for long while they wait make a step ten times slower as soon as anything else wants a
            # core; those that never spin cost a quarter. This is some tens of microseconds.
            # Texts, paths and records are UTF-8, whatever the locale of who starts the run.
            env={"GOMP_SPINCOUNT": "20000", **os.environ, "PYTHONUTF8": "1"},
        )


def terminate(run: Run) -> None:
    """Send SIGTERM to the run's process, if it is truly the run's."""
    record = run.process()
    if record and run.alive():
        os.kill(record["pid"], signal.SIGTERM)


def end_with_parent() -> None:
    """Watch, in a thread, that the process lives that started this one; once it is gone, this one ends at once."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="rewarm-parent", daemon=True).start()


@contextlib.contextmanager
def sole_process(run: Run, wait: Callable[[], object] | None = None) -> Iterator[None]:
    """A context in which no second process can work on the run; ``wait`` as for ``locked``.

    Raises:
        NotFound: if somebody has deleted the run.
        Conflict: if another process works on it.
    """
    gone = NotFound("there is no such run", where=run.id)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(run.path / "control" / "lock", f"run {run.id}", wait))
        except (FileExistsError, FileNotFoundError):  # deleted at this very moment
            raise gone from None
        if not run.recipe.is_file():
            shutil.rmtree(run.path, ignore_errors=True)  # the lock has made the folder again
            raise gone
        yield


def remove_run(run: Run) -> None:
    """Delete the run. Raises ``UserError`` while a process works on it, here or maybe on another computer."""
    with sole_process(run):  # held as long as the process lives, whatever process.json has become
        with contextlib.suppress(DataError):
            if run.alive() or _just_started(run) or run.elsewhere():
                raise Conflict("this run is running", where=run.id, remedy=f"rewarm stop {run.id}")
        remove_folder(run.path)


def list_runs(workspace: Workspace) -> list[Run]:
    """All runs, the oldest first."""
    if not workspace.runs.is_dir():
        return []
    folders = [path for path in sorted(workspace.runs.iterdir()) if not path.name.startswith(TEMPORARY)]
    return [Run(path) for path in folders if (path / "recipe.yaml").is_file()]


def find_run(workspace: Workspace, name: str) -> Run:
    """The run that ``name`` means: an id, the newest of a recipe, or what an id begins with or contains.

    ``last`` is the newest of all.

    Raises:
        UserError: if none or several match.
    """
    return choose_run(list_runs(workspace), name, workspace.runs)


def choose_run(runs: Sequence[Run], name: str, where: object) -> Run:
    """Of these runs, the oldest first, the one that ``name`` means (see ``find_run``)."""
    if name == "last" and runs:
        return runs[-1]
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UserError(f"{name!r} is not a run's id", remedy="rewarm runs ls")
    for match in (
        [run for run in runs if run.id == name],
        [run for run in runs if run.recipe_name == name][-1:],
        [run for run in runs if run.id.startswith(name)],
        [run for run in runs if name in run.id],
    ):
        if len(match) == 1:
            return match[0]
        if match:
            raise UserError(f"{name!r} fits {len(match)} runs", remedy=f"choose one: {', '.join(r.id for r in match)}")
    raise NotFound(f"no run is called {name!r}", where=where, remedy="rewarm runs ls")
