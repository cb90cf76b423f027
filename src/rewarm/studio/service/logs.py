"""The text and the record of a run, by the piece: files of gigabytes are never read whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict

from rewarm.core import states
from rewarm.core.events import Event, read_events
from rewarm.core.run import Run
from rewarm.studio.context import Studio, User
from rewarm.studio.service.runs import find
from rewarm.studio.store.offsets import mark

PIECE = 1 << 16
MOST = 1 << 20
"""Bytes of a log in one answer."""
_SEARCHED = 1 << 28
"""Bytes that one search looks through."""
_BLOCK = 1 << 20
_POLL_SECONDS = 0.5
_ALIVE_SECONDS = 15.0
_FOLLOW_SECONDS = 600.0
"""A stream ends after so long, and whoever listens comes again with what it got last: and is asked again who it is."""


class Piece(BaseModel):
    """A piece of a log, cut behind a line where there is one."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"offset": 0, "next": 28, "size": 51234, "text": "10:15:02 INFO prepare\n"}}
    )
    offset: int
    next: int
    """Where the text goes on."""
    size: int
    """Bytes of the log now."""
    text: str


class Line(BaseModel):
    offset: int
    text: str


class Found(BaseModel):
    """Lines of a log with what was looked for."""

    lines: list[Line]
    next: int | None
    """Where the search goes on; None once it reached the end."""


class Message(NamedTuple):
    """One of a stream: its kind (event, log or end), where it goes on from, and what it says."""

    kind: str
    seq: int
    offset: int
    data: dict[str, Any]


def log_piece(studio: Studio, user: User, run: str, offset: int = 0, length: int = PIECE) -> Piece:
    """``length`` bytes of the log from ``offset`` on, or from so many before its end. Raises ``NotFound``."""
    return _piece(find(studio, run).log, offset, min(length, MOST))


def search_log(studio: Studio, user: User, run: str, text: str, offset: int = 0, limit: int = 100) -> Found:
    """Lines from ``offset`` on in which ``text`` stands, whatever the case of ASCII letters. Raises ``NotFound``."""
    path, wanted, lines = find(studio, run).log, text.encode().lower(), []
    end = min(offset + _SEARCHED, _size(path))
    for at, line in _lines(path, offset, end):
        if wanted in line.lower():
            shown = line[:PIECE].decode("utf-8", "replace").rstrip("\n")
            lines.append(Line(offset=at, text=shown))
        offset = at + len(line)
        if len(lines) == limit:
            break
    return Found(lines=lines, next=offset if offset < _size(path) else None)


def log_file(studio: Studio, user: User, run: str) -> tuple[int, Iterator[bytes]]:
    """Size of the log now, and its bytes so far. Raises ``NotFound``."""
    path = find(studio, run).log
    size = _size(path)
    return size, _blocks(path, size)


def events(studio: Studio, user: User, run: str, after: int = 0, limit: int = 1000) -> list[Event]:
    """The events of a run behind number ``after``. Raises ``NotFound``."""
    return [event for event, _ in _events(find(studio, run).events, after, limit)]


def shipped(studio: Studio, user: User, run: str) -> int:
    """The number of the last event whose points are in the store, or a lower one. Raises ``NotFound``."""
    path = find(studio, run).events
    with studio.database.read() as session:
        end = mark(session, run, path.name).offset
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        *_, (_, line) = _lines(path, max(0, end - PIECE), end)
        return int(orjson.loads(line)["seq"])
    return 0


async def follow(
    studio: Studio, user: User, run: str, after: int = 0, offset: int | None = None
) -> AsyncIterator[Message | None]:
    """What a run says from here on, until it has ended: its events behind ``after``, its log from ``offset`` on.

    ``None`` comes every 15 s where there is nothing to say. Without ``offset`` the log is left out.
    """
    found = find(studio, run)
    loop = asyncio.get_running_loop()
    began = said = loop.time()
    place = -1 if offset is None else offset
    read = 0
    while loop.time() - began < _FOLLOW_SECONDS:
        ended = not await asyncio.to_thread(_is_live, found)  # asked first: what it said last is in the files by then
        news: list[Message] = []
        if _size(found.events) > read:
            for event, behind in await asyncio.to_thread(_events, found.events, after, 1000, read):
                read, after = behind, event["seq"]
                news.append(Message("event", after, place, event))
        if 0 <= place < _size(found.log):
            piece = await asyncio.to_thread(_piece, found.log, place, PIECE)
            place = piece.next
            news.append(Message("log", after, place, piece.model_dump()))
        for message in news:
            yield message
        if not news and ended:
            yield Message("end", after, place, {"state": (await asyncio.to_thread(found.status)).state})
            return
        if news:
            said = loop.time()
            continue
        if loop.time() - said > _ALIVE_SECONDS:
            said = loop.time()
            yield None
        await asyncio.sleep(_POLL_SECONDS)


def _is_live(run: Run) -> bool:
    return run.alive() or run.status().state in states.LIVE


def _piece(path: Path, offset: int, length: int) -> Piece:
    size = _size(path)
    begin = max(0, size + offset) if offset < 0 else min(offset, size)
    data = b""
    if size:
        with path.open("rb") as file:
            if offset < 0 < begin:  # from the beginning of a line
                file.seek(begin - 1)
                begin = min(begin - 1 + len(file.readline(length)), size)
            file.seek(begin)
            data = file.read(length)
    whole = data[: data.rfind(b"\n") + 1] or data
    return Piece(offset=begin, next=begin + len(whole), size=size, text=whole.decode("utf-8", "replace"))


def _lines(path: Path, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Lines with their offsets; one that is longer than a block comes in several."""
    if offset >= end:
        return
    with path.open("rb") as file:
        file.seek(offset)
        while offset < end and (line := file.readline(_BLOCK)):
            yield offset, line
            offset += len(line)


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    if not size:
        return
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(_BLOCK, size))):
            size -= len(block)
            yield block


def _events(path: Path, after: int, limit: int, offset: int = 0) -> list[tuple[Event, int]]:
    """Events behind number ``after`` with the offsets behind them, looked for from ``offset`` on."""
    found: list[tuple[Event, int]] = []
    for event, behind in read_events(path, max(offset, _offset_of(path, after))):
        if event["seq"] > after:
            found.append((event, behind))
            if len(found) == limit:
                break
    return found


def _offset_of(path: Path, after: int) -> int:
    """The beginning of a line at or before the event behind number ``after``: numbers grow, so halves are compared."""
    low, high = 0, _size(path)
    if after <= 0 or not high:
        return 0
    with path.open("rb") as file:
        while high - low > PIECE:
            middle = (low + high) // 2
            file.seek(middle)
            file.readline()
            begin = file.tell()
            try:
                seq = orjson.loads(file.readline())["seq"]
            except (orjson.JSONDecodeError, KeyError, TypeError):  # damaged, or the last line
                high = middle
                continue
            if seq <= after:
                low = begin
            else:
                high = middle
    return low


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
