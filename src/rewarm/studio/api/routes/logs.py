"""The text and the record of runs: by the piece, and live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import Header, Query
from fastapi.responses import StreamingResponse

from rewarm.studio.api.access import TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import logs as verbs
from rewarm.studio.service.logs import MOST, PIECE, Found, Message, Piece
from rewarm.studio.service.runs import find

router = routes("/runs/{run}", "logs")

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"example": "10:15:02 INFO prepare\n"}}}}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"example": 'event: event\nid: 7\ndata: {"seq": 7, "kind": "state"}\n\n'}}}
}
Offset = Annotated[int, Query(description="bytes from the beginning; below 0: from the end")]
Length = Annotated[int, Query(ge=1, le=MOST)]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^\d{1,18}(-\d{1,18})?$")]


@router.get("/log", responses=documented(404))
def log(run: str, studio: TheStudio, user: Viewer, offset: Offset = 0, length: Length = PIECE) -> Piece:
    """A piece of the log."""
    return verbs.log_piece(studio, user, run, offset, length)


@router.get("/log/search", responses=documented(404))
def search(
    run: str,
    text: Annotated[str, Query(min_length=1, max_length=1000)],
    studio: TheStudio,
    user: Viewer,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Found:
    """Lines of the log in which a text stands."""
    return verbs.search_log(studio, user, run, text, offset, limit)


@router.get("/log/download", responses=_TEXT | documented(404), response_class=StreamingResponse)
def download(run: str, studio: TheStudio, user: Viewer) -> StreamingResponse:
    """The log so far, as a file."""
    size, blocks = verbs.log_file(studio, user, run)
    headers = {"Content-Disposition": f'attachment; filename="{run}.txt"', "Content-Length": str(size)}
    return StreamingResponse(blocks, media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/events", responses=documented(404))
def events(
    run: str,
    studio: TheStudio,
    user: Viewer,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10000)] = 1000,
) -> list[dict[str, Any]]:
    """The record of the run behind the event number ``after``."""
    return verbs.events(studio, user, run, after, limit)


@router.get("/stream", responses=_STREAM | documented(404), response_class=StreamingResponse)
async def stream(
    run: str,
    studio: TheStudio,
    user: Viewer,
    after: Annotated[int, Query(ge=0)] = 0,
    log: Annotated[int | None, Query(ge=0, description="from this byte of the log on, too")] = None,
    last: LastId = None,
) -> StreamingResponse:
    """Events (and the log) as they come, until the run has ended: server-sent events named event, log and end.

    Who comes again with the id that it got last misses nothing and gets nothing twice.
    """
    find(studio, run)
    if last:
        number, _, place = last.partition("-")
        after, log = int(number), int(place) if place else log
    lines = _lines(verbs.follow(studio, user, run, after, log))
    return StreamingResponse(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _lines(messages: AsyncIterator[Message | None]) -> AsyncIterator[bytes]:
    async for message in messages:
        if message is None:
            yield b": alive\n\n"
            continue
        place = "" if message.offset < 0 else f"-{message.offset}"
        head = f"event: {message.kind}\nid: {message.seq}{place}\ndata: "
        yield head.encode() + orjson.dumps(message.data) + b"\n\n"
