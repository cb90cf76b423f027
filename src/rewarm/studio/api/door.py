"""The door: all that comes in passes here first, and nothing that is not let in reaches a route.

Who asks is known by a token (``Authorization: Bearer``) or by the cookie of a session. What is in neither and not in
``PUBLIC`` is answered 401, whether or not there is such a path. A browser sends the cookie with whatever any page makes
it send, so that a request by cookie that may change something must come from our own pages: ``Origin`` says so, and
JSON cannot be sent from elsewhere without being asked first. The ``Host`` must be ours: a name that somebody else
points at this machine is not (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewarm.core.errors import Forbidden
from rewarm.studio.api.errors import tell
from rewarm.studio.api.meter import Meter
from rewarm.studio.context import Studio, User
from rewarm.studio.service.accounts import NotSignedIn, by_session, by_token, hash_of

SIGN_IN = "/sign-in"
PUBLIC = {
    ("GET", "/health"),
    ("GET", SIGN_IN),
    ("GET", "/favicon.ico"),
    ("POST", "/api/v1/session"),
    ("POST", "/api/v1/session/link"),
}
PUBLIC_FILES = "/static/"
STREAMED = ("/api/v1/uploads/",)
"""What is PUT under these as ``application/octet-stream`` the route itself reads piece by piece, and limits."""
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
COOKIE = "rewarm_session"
BODY_BYTES, BODY_SECONDS, DEEPEST, MOST_RANGES = 2**20, 60, 64, 16
KNOWN_SECONDS, MOST_KNOWN = 5.0, 10_000
"""How long an answer to who asks is kept, which is how late an expiry may be seen; and how many."""
_SAFE = {"GET", "HEAD", "OPTIONS"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
"""Of every answer, unless the route says something else."""


class Door:
    """ASGI middleware. ``request.state`` gets ``user``, and ``session``: the cookie's secret, None with a token."""

    def __init__(self, app: ASGIApp, studio: Studio, meter: Meter) -> None:
        self.app, self.studio, self.meter = app, studio, meter
        self._known: dict[str, tuple[int, float, User]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message["headers"])
                known = {name for name, _ in headers}
                message["headers"] = headers + [header for header in _RAW_HEADERS if header[0] not in known]
            await send(message)

        try:
            await self._let_in(scope)
            if scope["type"] == "http":
                receive = await _checked_body(scope, receive)
            await self.app(scope, receive, send_guarded)
        except Exception as error:
            if status:  # the answer is on its way: it can only be cut off
                raise
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
            elif isinstance(error, NotSignedIn) and _wants_a_page(scope):
                wanted = scope["path"] + (f"?{query}" if (query := scope["query_string"].decode("latin-1")) else "")
                await RedirectResponse(f"{SIGN_IN}?next={quote(wanted)}", 303)(scope, receive, send_guarded)
            else:
                await tell(Request(scope), error)(scope, receive, send_guarded)
        finally:
            self.meter.count(scope, status, time.monotonic() - began)

    async def _let_in(self, scope: Scope) -> None:
        """Put who asks into the scope, or raise."""
        headers, path = Headers(scope=scope), scope["path"]
        method = scope.get("method", "GET")
        if "\0" in path or "%00" in scope["query_string"].decode("latin-1"):
            raise HTTPException(400, "an address holds no NUL")
        if headers.get("range", "").count(",") >= MOST_RANGES:
            raise HTTPException(400, "too many ranges")
        if path != "/health":  # whoever watches the server may know it by any name
            self._check_host(headers.get("host", ""))
        session = None if "authorization" in headers else _cookie(headers)
        user = await self._user(headers, session)
        if user is None and (method, path) not in PUBLIC and not path.startswith(PUBLIC_FILES):
            raise NotSignedIn("sign in first", remedy="or send a token: Authorization: Bearer rewarm_...")
        if "authorization" not in headers and (method not in _SAFE or scope["type"] == "websocket"):
            self._check_origin(scope, headers)
        scope.setdefault("state", {}).update(user=user, session=session, studio=self.studio)

    async def _user(self, headers: Headers, session: str | None) -> User | None:
        if session is not None:
            return await self._ask(by_session, session)
        kind, _, secret = headers.get("authorization", "").partition(" ")
        return await self._ask(by_token, secret.strip()) if kind.lower() == "bearer" else None

    async def _ask(self, who: Callable[[Studio, str], User | None], secret: str) -> User | None:
        """Who has the secret. What was answered lately still holds while nobody has changed the database."""
        key, now = who.__name__ + hash_of(secret), time.monotonic()
        version = self.studio.database.version()  # before it is asked: a change meanwhile makes that stale
        known = self._known.get(key)
        if known and known[0] == version and now - known[1] < KNOWN_SECONDS:
            return known[2]
        user = await run_in_threadpool(who, self.studio, secret)
        if user is not None and version is not None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = (version, now, user)
        return user

    def _check_host(self, host: str) -> None:
        if _host_name(host) not in LOOPBACK | {_host_name(urlsplit(self.studio.url).netloc)}:
            raise Forbidden("this is not this Studio's address", where=host[:200], remedy="start it with --url")

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        ours = {"{0.scheme}://{0.netloc}".format(urlsplit(self.studio.url))}
        if _host_name(host) in LOOPBACK:  # also through a tunnel from another port
            ours.add(f"{'https' if scope['scheme'] in ('https', 'wss') else 'http'}://{host}")
        if origin not in ours if origin is not None else headers.get("sec-fetch-site") != "same-origin":
            raise Forbidden("this request does not come from this Studio's pages", remedy="send a token, or an Origin")
        kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind not in ("application/json", "application/octet-stream"):
            raise Forbidden("a request by cookie is JSON", where=kind[:200], remedy="Content-Type: application/json")


def _wants_a_page(scope: Scope) -> bool:
    if scope["method"] != "GET" or scope["path"].startswith(("/api/", "/v1/")):
        return False
    return "text/html" in Headers(scope=scope).get("accept", "")


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


async def _checked_body(scope: Scope, receive: Receive) -> Receive:
    """Read the body, if there is one, within its limits of size, time and depth; what gives it to the route."""
    headers = Headers(scope=scope)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not {"content-length", "transfer-encoding"} & set(headers.keys()):
        return receive
    if kind == "application/octet-stream" and scope["method"] == "PUT" and scope["path"].startswith(STREAMED):
        return receive
    too_large = HTTPException(413, f"a body has at most {BODY_BYTES:,} bytes")
    if int(headers.get("content-length", 0)) > BODY_BYTES:
        raise too_large
    body, more = b"", True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPException(400, "the body broke off")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS} s") from None
    if body and (kind == "application/json" or kind.endswith("+json")):
        _check_json(body)
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def _check_json(body: bytes) -> None:
    """Refuse what a parser, a database or a reader of ours would fail at: depth, lone surrogates, NUL, NaN."""
    try:
        level: list[Any] = [orjson.loads(body)]
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error.msg}") from None
    if b"\\u0000" in body:
        raise HTTPException(400, "a text holds no NUL")
    for _ in range(DEEPEST):
        nested = [value for value in level if isinstance(value, dict | list)]
        level = [inner for value in nested for inner in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return
    raise HTTPException(400, f"the body is nested deeper than {DEEPEST}")
