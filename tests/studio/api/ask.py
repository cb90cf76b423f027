"""A request whose answer may have no end: only its status is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

SECONDS = 20.0


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    receive: Callable[[], Awaitable[Message]] | None = None,
    bodies: list[bytes] | None = None,
) -> int:
    """The status that ``app`` answers; what it sends of the answer by then goes to ``bodies``."""
    return asyncio.run(_ask(app, method, path, headers or {}, body, receive, bodies))


async def _ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    receive: Callable[[], Awaitable[Message]] | None,
    bodies: list[bytes] | None,
) -> int:
    status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        if pending:
            return pending.pop()
        return await asyncio.Future()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            status.set_result(message["status"])
        elif bodies is not None:
            bodies.append(message["body"])

    given = {"host": "127.0.0.1:8765", **({"content-length": str(len(body))} if body else {}), **headers}
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }
    task = asyncio.create_task(app(scope, receive or give, send))  # type: ignore[arg-type]
    waited = {task, status} if bodies is None else {task}
    await asyncio.wait(waited, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not status.done():
        task.result()  # raises what it raised
    return status.result()
