"""events.jsonl, the record of a run: one JSON object a line, one writer, one write a line.

``{v, seq, attempt, time, stage, kind, ...}`` with kind state, progress, metric, checkpoint, warning
or result. Everything that is shown of a run comes from here. A torn last line (the process died in
the write) is not an event; the next attempt cuts it off. For a metric's (name, step) the last one
wins, because a resumed run may pass a step again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.errors import DataError
from rewarm.core.states import MOVES, check_move

VERSION = 1
_NUMBER = (int, float)
_ALWAYS = {"seq": int, "attempt": int, "time": _NUMBER, "stage": str}
KINDS: dict[str, dict[str, Any]] = {
    "state": {"state": str},
    "progress": {"done": _NUMBER, "total": _NUMBER, "unit": str},
    "metric": {"step": int, "tokens": int, "values": dict},
    "checkpoint": {"step": int, "path": str},
    "warning": {"message": str},
    "result": {"name": str, "value": object},
}
"""What an event of each kind has beside what all have; a line that lacks any of it is no event."""
TRAINING_FROM = "training from step"
"""The name of the result that says where an attempt's training begins."""
Event = dict[str, Any]


class EventLog:
    """The writer. It continues ``seq`` over attempts and cuts what is no event when it opens.

    Args:
        echo: is given each event once it is in the file.
        silent: write nothing; a run has one writer, and its other processes have nothing to say.
    """

    def __init__(
        self, path: Path, attempt: int, echo: Callable[[Event], None] = lambda event: None, *, silent: bool = False
    ) -> None:
        self.path, self.attempt, self.stage, self._echo, self.silent = path, attempt, "", echo, silent
        self.last_state: str | None = None
        if not silent:
            self._open()

    def _open(self) -> None:
        self._seq, self.last_state, self.was_damaged = _repair(self.path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Another process writes meanwhile."""
        self.close()
        try:
            yield
        finally:
            self._open()

    def write(self, kind: str, **fields: Any) -> Event:
        """Append one event; it is in the file when this returns."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of event {kind!r}")
        if self.silent:
            return {}
        event = {
            "v": VERSION,
            "seq": self._seq + 1,
            "attempt": self.attempt,
            "time": time.time(),
            "stage": self.stage,
            "kind": kind,
            **fields,
        }
        line = orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        written = os.write(self._file, line)
        if written != len(line):  # a full disk can take half a line; the rest must follow or be cut
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(28, "No space left on device", str(self.path))
        if kind in ("state", "checkpoint", "result"):
            os.fsync(self._file)  # what a resumed run builds on survives a power cut, and the curve before it
        self._seq += 1  # counted once it stands there: a full disk leaves no gap
        self._echo(event)
        return event

    def state(self, state: str, **fields: Any) -> None:
        """Raises ``ValueError`` unless the run may go from its state so far, if it has one, to ``state``."""
        if self.last_state is not None:
            check_move(self.last_state, state)
        self.write("state", state=state, **fields)
        self.last_state = state

    def progress(self, done: float, total: float, unit: str, **fields: Any) -> None:
        """``done`` of ``total`` in ``unit``; ``speed`` (unit per second) where it is known."""
        self.write("progress", done=done, total=total, unit=unit, **fields)

    def metric(self, step: int, tokens: int, values: Mapping[str, float]) -> None:
        """Numbers measured after ``step`` updates and ``tokens`` training tokens."""
        self.write("metric", step=step, tokens=tokens, values=dict(values))

    def checkpoint(self, step: int, path: str, **fields: Any) -> None:
        self.write("checkpoint", step=step, path=path, **fields)

    def warning(self, message: str, **fields: Any) -> None:
        self.write("warning", message=message, **fields)

    def result(self, name: str, value: Any) -> None:
        self.write("result", name=name, value=value)

    def close(self) -> None:
        if not self.silent:
            os.close(self._file)


def _repair(path: Path) -> tuple[int, str | None, bool]:
    """Cut off what is no event at the end; return the last ``seq`` (or 0), the last state, and whether lines went.

    A torn line is the rest of an event that nobody saw. Whole lines that are none (a power cut can leave
    zeros) are kept beside, in ``events.damaged``.
    """
    seq, state, whole, damaged = 0, None, 0, False
    for event, behind in read_events(path):
        whole, seq = behind, event["seq"]
        state = event["state"] if event["kind"] == "state" else state
    if path.exists() and path.stat().st_size > whole:
        with path.open("rb") as file:
            file.seek(whole)
            if damaged := b"\n" in (rest := file.read()):
                path.with_suffix(".damaged").write_bytes(rest)
        os.truncate(path, whole)
    return seq, state, damaged


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Whole events from byte ``offset`` on, each with the offset behind it; nothing behind a damaged line."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # a run may be deleted at any moment
        file.seek(offset)
        for line in file:
            event = _event(line)
            if event is None:
                return
            offset += len(line)
            yield event, offset


def all_events(path: Path, offset: int = 0) -> Iterator[Event]:
    """The events from byte ``offset`` on.

    Raises:
        DataError: at a line that is none; one that lacks its end only is still being written, or was torn.
    """
    for event, behind in read_events(path, offset):
        offset = behind
        yield event
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        if (line := file.readline()).endswith(b"\n") and _event(line) is None:
            file.seek(0)
            number = file.read(offset).count(b"\n") + 1
            raise DataError(
                "is no event: this record was damaged",
                where=f"{path}:{number}",
                remedy=f"rewarm resume {path.parent.name}: it keeps what stands before that line, and the rest in "
                "events.damaged",
            )


def last_events(path: Path, size: int = 1 << 18) -> list[Event]:
    """The events of the last ``size`` bytes, or all of them where there is no state among those.

    Raises:
        DataError: at a line that is none.
    """
    begin = 0
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if begin := max(0, os.fstat(file.fileno()).st_size - size):
            file.seek(begin)
            begin += len(file.readline())
    found = list(all_events(path, begin))
    if begin and not any(event["kind"] == "state" for event in found):
        return list(all_events(path))
    return found


def _event(line: bytes) -> Event | None:
    if not line.endswith(b"\n"):
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and _is_whole(value) else None


def _is_whole(value: Event) -> bool:
    fields: dict[str, Any] = _ALWAYS | KINDS.get(str(value.get("kind")), {"kind": type(None)})
    if not all(name in value and isinstance(value[name], kind) for name, kind in fields.items()):
        return False
    if value["kind"] == "result" and value["name"] == "stage":
        return isinstance(value["value"], dict) and value["value"].keys() >= {"name", "seconds", "skipped"}
    return value["kind"] != "state" or value["state"] in MOVES


def metrics(events: Iterator[Event]) -> dict[str, list[tuple[int, int, float]]]:
    """Each metric's points ``(step, tokens, value)`` in order of step; the last one wins.

    Points behind the step that a training went on from belong to one that was given up.
    """
    points: dict[str, dict[int, tuple[int, int, float]]] = {}
    for event in events:
        if event["kind"] == "result" and event["name"] == TRAINING_FROM:
            for by_step in points.values():
                for step in [step for step in by_step if step > event["value"]]:
                    del by_step[step]
        if event["kind"] == "metric":
            for name, value in event["values"].items():
                points.setdefault(name, {})[event["step"]] = (event["step"], event["tokens"], value)
    return {name: [by_step[step] for step in sorted(by_step)] for name, by_step in points.items() if by_step}
