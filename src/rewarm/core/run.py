"""A run directory: where it is, whether its process lives, and what state it is truly in.

Whoever asks computes the truth from the files: no daemon has to be alive for a dead run to be
called dead. A process is ours only if pid, start ticks and boot id all match ``process.json``;
a pid alone may belong to somebody else by now.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil

from rewarm.core import states
from rewarm.core.errors import UserError
from rewarm.core.events import Event, last_events
from rewarm.core.manifest import to_json
from rewarm.core.storage import locked, write_file
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
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def stop_file(self) -> Path:
        return self.path / "control" / "stop"

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
        """The content of ``process.json``, or None where no process was ever started."""
        try:
            value: dict[str, Any] = orjson.loads((self.path / "process.json").read_bytes())
        except FileNotFoundError:
            return None
        return value

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

    def request_stop(self) -> None:
        """Ask the run to write a checkpoint and end; it does so within a step."""
        self.stop_file.parent.mkdir(exist_ok=True)
        self.stop_file.touch()


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
        elif name in states.LIVE and not alive:
            record = run.process()
            if record is not None and _foreign(record):
                reason = f"as it said last; it runs on {record['host']}, which cannot be seen from here"
            else:
                name, reason = "lost", "its process is gone and did not say why"
        elif name == "running" and run.stop_file.exists():
            name = "stopping"
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
    record, mark = run.process(), _launch_mark(run)
    try:
        ago, attempt = time.time() - mark.stat().st_mtime, int(mark.read_text() or 0)
    except (FileNotFoundError, ValueError):
        return False
    return 0 <= ago < 30 and attempt > (record["attempt"] if record else 0)


def _launch_mark(run: Run) -> Path:
    return run.path / "control" / "launched"


def _start_ticks(pid: int) -> str:
    """When a process started, in a form that no later process with the same pid shares."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        return stat.read_text().rpartition(")")[2].split()[19]
    return repr(psutil.Process(pid).create_time())


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(int(psutil.boot_time()))


def _same_process(record: dict[str, Any]) -> bool:
    if record["boot_id"] != _boot_id():
        return False
    try:
        if psutil.Process(record["pid"]).status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(_start_ticks(record["pid"]) == record["start_ticks"])
    except (psutil.Error, OSError):
        return False


def _foreign(record: dict[str, Any]) -> bool:
    """Whether another computer wrote the record; a container that was started again has a new name alone."""
    return bool(record["host"] != socket.gethostname() and record["boot_id"] != _boot_id())


def claim(run: Run) -> dict[str, Any]:
    """Write this process into ``process.json`` as the next attempt, and return the record."""
    before = run.process()
    record = {
        "pid": os.getpid(),
        "start_ticks": _start_ticks(os.getpid()),
        "boot_id": _boot_id(),
        "host": socket.gethostname(),
        "token": secrets.token_hex(8),
        "attempt": before["attempt"] + 1 if before else 1,
        "started": time.time(),
    }
    write_file(run.path / "process.json", to_json(record))
    return record


def create_run(workspace: Workspace, name: str, recipe_text: str, overrides: Sequence[str], folder: Path) -> Run:
    """Make ``runs/<UTC>-<name>-<4 hex>`` and put the recipe into it, as it was given.

    ``launch.json`` keeps what the text alone does not say: the overrides of the command line, and
    the folder that relative paths are seen from.
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
    write_file(run.path / "launch.json", to_json({"overrides": list(overrides), "folder": str(folder)}))
    write_file(run.recipe, recipe_text)
    return run


def read_launch(run: Run) -> dict[str, Any]:
    """``{overrides, folder}`` of a run."""
    try:
        value: dict[str, Any] = orjson.loads((run.path / "launch.json").read_bytes())
    except FileNotFoundError:
        raise UserError("not a run directory: launch.json is missing", where=run.path) from None
    return value


def launch(run: Run, arguments: list[str], take_over: bool = False) -> subprocess.Popen[bytes]:
    """Start ``python -m rewarm.pipeline DIR`` in a session of its own; its output goes to log.txt.

    Args:
        take_over: also where another computer, gone by now, said last that it works on the run.

    Raises:
        UserError: if the run runs already.
    """
    if run.elsewhere() and not take_over:
        host = (run.process() or {})["host"]
        raise UserError(
            f"this run may still run on another computer, {host}",
            where=run.id,
            remedy=f"stop it there; or, if that computer is gone: rewarm resume {run.id} --take-over",
        )
    try:
        with sole_process(run):
            if run.alive() or _just_started(run):
                raise UserError("this run is running already")
            run.stop_file.unlink(missing_ok=True)  # an old wish; one that comes from here on is honoured
            write_file(_launch_mark(run), str((run.process() or {"attempt": 0})["attempt"] + 1))
    except UserError as error:
        follow = f"look at it with: rewarm runs logs -f {run.id}"
        raise UserError("this run is running already", where=run.id, remedy=follow) from error
    folder = Path(read_launch(run)["folder"])
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "rewarm.pipeline", str(run.path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder if folder.is_dir() else run.path,  # a task's data files are seen from the recipe's folder
            start_new_session=True,
            # Threads that spin for long while they wait make a step ten times slower as soon as anything else wants a
            # core; those that never spin cost a quarter. This is some tens of microseconds.
            env={"GOMP_SPINCOUNT": "20000", **os.environ},
        )


def terminate(run: Run) -> None:
    """Send SIGTERM to the run's process, if it is truly the run's."""
    record = run.process()
    if record and run.alive():
        os.kill(record["pid"], signal.SIGTERM)


def sole_process(run: Run) -> Any:
    """A context in which no second process can work on the run."""
    return locked(run.path / "control" / "lock", f"run {run.id}")


def list_runs(workspace: Workspace) -> list[Run]:
    """All runs, the oldest first."""
    if not workspace.runs.is_dir():
        return []
    return [Run(path) for path in sorted(workspace.runs.iterdir()) if (path / "recipe.yaml").is_file()]


def find_run(workspace: Workspace, name: str) -> Run:
    """The run whose id is, starts with or contains ``name``; ``last`` is the newest.

    Raises:
        UserError: if none or several match.
    """
    runs = list_runs(workspace)
    if name == "last" and runs:
        return runs[-1]
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UserError(f"{name!r} is not a run's id", remedy="rewarm runs ls")
    for match in (
        [run for run in runs if run.id == name],
        [run for run in runs if run.id.startswith(name)],
        [run for run in runs if name in run.id],
    ):
        if len(match) == 1:
            return match[0]
        if match:
            raise UserError(f"{name!r} fits {len(match)} runs", remedy=f"choose one: {', '.join(r.id for r in match)}")
    raise UserError(f"no run is called {name!r}", where=workspace.runs, remedy="rewarm runs ls")
