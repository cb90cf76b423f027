"""Idempotency-Key: a POST that comes twice is done once, and answered twice.

A client that does not know whether its request arrived sends it again with the same key (any text of up to 200
characters, for 24 hours): the stored answer comes back. Another request under the same key is an error (422), as is one
that comes while the first is still worked on (409). Only what succeeded is stored: what was refused may be possible
later. An answer may hold a secret that is shown once, so it is kept encrypted.
"""

from __future__ import annotations

import functools
import hashlib
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewarm.core.connections import cipher
from rewarm.core.errors import Conflict, UserError
from rewarm.studio.context import Studio, User
from rewarm.studio.store import keys

LONGEST = 200
STORED_BYTES = 2**20


class Idempotency:
    """ASGI middleware behind the door, which has read the body and says who asks."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self.app, self.studio = app, studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        user: User | None = scope.get("state", {}).get("user")
        streamed = key and Headers(scope=scope).get("content-type", "").startswith("application/octet-stream")
        if key is None or user is None or scope["method"] != "POST" or streamed:
            await self.app(scope, receive, send)
            return
        if not 0 < len(key) <= LONGEST or "\0" in key:
            raise UserError(f"an Idempotency-Key has 1 to {LONGEST} characters", where="/header/idempotency-key")
        body, again = await _body(receive)
        request = hashlib.sha256(b"\0".join((scope["path"].encode(), scope["query_string"], body))).hexdigest()
        stored = await run_in_threadpool(self._claim, user, key, request)
        if stored is not None:
            await stored(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self.app(scope, again, answer.send)
        finally:
            await run_in_threadpool(self._keep, user, key, answer)

    @functools.cached_property
    def _cipher(self) -> Any:
        return cipher(self.studio.workspace)

    def _claim(self, user: User, key: str, request: str) -> Response | None:
        """The stored answer; None for a key that was free. Raises ``UserError`` for one that cannot be used."""
        now = time.time()
        with self.studio.database.write() as session:
            row = keys.claim(session, user.name, key, request, now)
        if row is None:
            return None
        if row.request != request:
            raise UserError("this Idempotency-Key came with another request before", remedy="take a new key")
        if row.status is None:
            raise Conflict("the first request with this Idempotency-Key is still worked on", remedy="ask again soon")
        body = self._cipher.decrypt(row.body or b"")
        headers = {"Idempotent-Replay": "true"}
        return Response(body or None, row.status, headers, "application/json" if body else None)

    def _keep(self, user: User, key: str, answer: _Answer) -> None:
        with self.studio.database.write() as session:
            if answer.is_kept:
                body = self._cipher.encrypt(answer.body).decode()
                keys.answer(session, user.name, key, answer.status, body)
            else:
                keys.release(session, user.name, key)


class _Answer:
    """Passes an answer on, and remembers it unless it is long, a stream, no JSON, or cut off."""

    def __init__(self, send: Send) -> None:
        self._send, self.status, self.body = send, 0, b""
        self._json, self._whole = False, False

    @property
    def is_kept(self) -> bool:
        return self._whole and (200 <= self.status < 300) and (self._json or not self.body)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._json = Headers(raw=message["headers"]).get("content-type", "").startswith("application/json")
        elif message["type"] == "http.response.body" and len(self.body) <= STORED_BYTES:
            self.body += message.get("body", b"")
            self._whole = not message.get("more_body", False) and len(self.body) <= STORED_BYTES
        await self._send(message)


async def _body(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and what gives it once more."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return body, again
