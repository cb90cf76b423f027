"""A run directory: what lies where in it, whether its process lives, and what state it is truly in.

Whoever asks computes the truth from the files: no daemon has to be alive for a dead run to be
called dead.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from rewarm.core import process, states
from rewarm.core.errors import DataError, NotFound, UserError
from rewarm.core.events import Event, last_events, read_events
from rewarm.core.manifest import to_json
from rewarm.core.storage import TEMPORARY, At, write_file
from rewarm.core.workspace import Workspace

STAGES = ("prepare", "baseline", "train", "evaluate", "publish")


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path
    recipe = At("recipe.yaml")
    events = At("events.jsonl")
    log = At("log.txt")
    system = At("system.jsonl")  # how busy the computer was meanwhile: {time, values} a line
    stop_file = At("control/stop")
    queue_file = At("control/queued")
    launch_mark = At("control/launched")  # the attempt launched last and, until that writes process.json, its process
    checkpoints = At("checkpoints")
    results = At("results")
    report = At("report")

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.path.parent.parent)

    @property
    def recipe_name(self) -> str:
        """The name in the id."""
        return self.id.partition("-")[2].rpartition("-")[0]

    def check_beginning(self, first: str) -> None:
        """Raise ``UserError`` unless the run can begin again from ``first``: a stage, or a checkpoint (step-100)."""
        is_step = re.fullmatch(r"step-[0-9]+", first) and (self.checkpoints / first).is_dir()
        if first not in STAGES and not is_step:
            kept = ", ".join(path.name for path in sorted(self.checkpoints.glob("step-*"), key=lambda p: len(p.name)))
            raise UserError(
                f"there is no stage or checkpoint {first[:100]!r}",
                where=self.id,
                remedy=f"take one of: {', '.join(STAGES)}" + (f"; or {kept}" if kept else ""),
            )

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
        return record is not None and process.lives(record)

    def attempts(self) -> int:
        """How many there were; the record of the run knows where process.json is gone."""
        if before := self.process():
            return int(before["attempt"])
        return max((event["attempt"] for event, _ in read_events(self.events)), default=0)

    def just_started(self) -> bool:
        """A launched process needs a moment until it writes process.json; the launcher's mark says so."""
        record = self.process()
        try:
            mark = _read_record(self.launch_mark, {"attempt": int}, "")
            ago = time.time() - self.launch_mark.stat().st_mtime
        except (OSError, DataError):
            return False
        if mark is None or mark["attempt"] <= (record["attempt"] if record else 0):
            return False
        # An import can take minutes on a busy computer, so the process is looked at, as soon as the mark names it.
        return process.lives(mark) if "pid" in mark else 0 <= ago < 30

    def elsewhere(self) -> bool:
        """Whether the newest attempt may live on another computer, of whose processes nothing is known here."""
        record = self.process()
        return record is not None and process.is_foreign(record) and Status.told(self) in states.LIVE

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
        name = state["state"] if state else "starting" if run.launch_mark.exists() else "queued"
        reason = state.get("reason") if state else None
        if not alive and run.just_started():
            name, reason = "starting", None
        elif (not alive or name not in states.LIVE) and run.queue_file.exists():
            name, reason = "queued", None
        elif not alive and name in states.LIVE and (state or name == "starting"):
            record = run.process()
            if record is not None and process.is_foreign(record):
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


def claim(run: Run) -> dict[str, Any]:
    """Write this process into ``process.json`` as the next attempt, and return the record."""
    record = {
        **process.identity(os.getpid()),
        "host": socket.gethostname(),
        "token": secrets.token_hex(8),
        "attempt": run.attempts() + 1,
        "started": time.time(),
    }
    write_file(run.path / "process.json", to_json(record))
    run.queue_file.unlink(missing_ok=True)  # its launcher may have been killed before it could
    return record


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
