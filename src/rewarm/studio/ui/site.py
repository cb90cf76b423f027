"""The Studio's application with its pages: NiceGUI behind the same door as the API.

NiceGUI's page holds inline scripts, which get a number that is used once; a script that data might smuggle in has none
and does not run. It also compiles its templates in the browser and sets styles, so that its pages (they alone) allow
``'unsafe-eval'``, and ``'unsafe-inline'`` for styles. Everything else stays ``'self'``, and nothing is loaded from
elsewhere. Signing in is a page without any of that: who is not signed in gets no socket and no state on the server.
"""

from __future__ import annotations

import html
import secrets
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.datastructures import MutableHeaders
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewarm.studio.api.app import build_app
from rewarm.studio.context import Studio
from rewarm.studio.ui import pages
from rewarm.studio.ui.words import choose_language, say

STATIC = files("rewarm.studio.ui") / "static"
NOT_PAGES = ("/api/", "/v1/", "/health", "/metrics")
POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)


def build_site(studio: Studio) -> FastAPI:
    """The API and the pages over an open workspace. One for each process: NiceGUI is a singleton."""
    app = build_app(studio)
    app.mount("/static", StaticFiles(directory=str(STATIC)), name="static")
    app.add_api_route("/sign-in", _sign_in, include_in_schema=False)
    pages.register()
    nicegui_app.add_middleware(_Nonce)
    nicegui_app.config.quasar_config["loadingBar"]["skipHijack"] = True  # a bar without a name, at every request
    ui.run_with(
        app, title="Rewarm", favicon=str(STATIC / "icon.svg"), dark=None, reconnect_timeout=30.0, tailwind=False
    )
    mount = app.router.routes.pop()
    assert isinstance(mount, Mount)
    app.router.routes.append(_Pages(mount.path or "/", app=mount.app))
    return app


class _Pages(Mount):
    """NiceGUI's part: everything that is not the API's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["path"].startswith(NOT_PAGES):
            return Match.NONE, {}  # the API says itself what it does not have
        return super().matches(scope)


class _Nonce:
    """Gives the scripts of a page its number, and the page the policy that names it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        nonce = secrets.token_urlsafe(16)
        head: Message | None = None

        async def send_page(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("Content-Type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = POLICY.format(nonce=nonce)
                    head = message
                    return
            elif head is not None:  # text of ours stands in the page with < written as an entity
                body = message["body"].replace(b"<script", f'<script nonce="{nonce}"'.encode())
                MutableHeaders(scope=head)["Content-Length"] = str(len(body))
                await send(head)
                message, head = {**message, "body": body}, None
            await send(message)

        await self.app(scope, receive, send_page)


def _sign_in(request: Request) -> HTMLResponse:
    """The page before all others: plain HTML and one script."""
    language = choose_language(request)
    text = (STATIC / "sign-in.html").read_text(encoding="utf-8")
    for word in ("title", "name", "password", "submit", "link_text", "link_submit", "why", "failed"):
        text = text.replace("{{" + word + "}}", html.escape(say(language, f"sign_in.{word}")))
    return HTMLResponse(text.replace("{{language}}", language))
