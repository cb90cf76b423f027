"""S2: every route asks for a role, and roles.txt says which; one without a row there fails.

After a route was added or changed: ``REWARM_WRITE=1 python -m pytest tests/studio/api/test_roles.py``, and read what
that changed in roles.txt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from rewarm.studio.api.door import COOKIE, PUBLIC
from rewarm.studio.context import Role, Studio
from tests.studio.api.ask import ask
from tests.studio.conftest import HOME, token_of

TABLE = Path(__file__).with_name("roles.txt")
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def _routes(routes: Any) -> Iterator[tuple[str, str]]:
    """(method, path) of all there are, in the order that they are asked in."""
    for route in routes:
        inner = route.effective_candidates() if hasattr(route, "effective_candidates") else None
        if inner is not None:
            yield from _routes(inner)
        elif methods := getattr(route, "methods", None):
            yield from ((method, route.path) for method in sorted(methods - {"HEAD"}))
        else:  # a mount or a websocket: the row must be written by hand
            yield (type(route).__name__, route.path)


def _status(app: FastAPI, method: str, path: str, token: str | None) -> int:
    """What is answered to a request whose body is wrong for any route, so that nothing is done."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    body = b"" if method == "GET" else b"[]"
    headers |= {"content-type": "application/json"} if body else {}
    return ask(app, method, re.sub(r"\{[^}]*\}", "99999", path), headers, body)


def _needed(app: FastAPI, method: str, path: str, tokens: dict[Role, str]) -> str:
    """The lowest role that is not turned away, after a look at what the others are answered."""
    anonymous = _status(app, method, path, None)
    if (method, path) in PUBLIC:
        assert anonymous == (200 if method == "GET" else 403), path  # 403: it does not come from our pages
        return "public"
    assert anonymous == 401, (method, path, anonymous)
    let_in = []
    for role, token in tokens.items():
        status = _status(app, method, path, token)
        assert status not in (401, 500), (method, path, role, status)
        let_in.append(status != 403)
    assert let_in == sorted(let_in) and let_in[-1], (method, path, let_in)  # who is above another may do as much
    return list(tokens)[let_in.index(True)]


def test_s2_every_route_asks_for_the_role_in_the_table(studio: Studio, app: FastAPI) -> None:
    tokens = {role: token_of(studio, role) for role in Role}
    found = sorted({(path, method) for method, path in _routes(app.routes)})
    lines = [f"{method:6} {path} {_needed(app, method, path, tokens)}" for path, method in found]
    if os.environ.get("REWARM_WRITE"):
        TABLE.write_text("\n".join(lines) + "\n")
    assert TABLE.read_text().splitlines() == lines


def test_s2_nobody_gets_past_the_door_with_another_method(app: FastAPI) -> None:
    for path in {path for _, path in _routes(app.routes)} | {"/", "/api", "/api/v1/", "/none"}:
        for method in METHODS:
            if (method, path) not in PUBLIC:
                assert _status(app, method, path, None) == 401, (method, path)


def test_s13_no_route_that_changes_anything_is_open_to_other_pages(app: FastAPI, cookie: str) -> None:
    headers = {"cookie": f"{COOKIE}={cookie}", "content-type": "application/json", "origin": HOME}
    wrong = [{"origin": "null"}, {"origin": "http://evil.test"}, {"content-type": "text/plain"}, {"host": "evil.test"}]
    for method, path in _routes(app.routes):
        if method != "GET":
            path = re.sub(r"\{[^}]*\}", "99999", path)
            assert [ask(app, method, path, headers | each, b"[]") for each in wrong] == [403] * 4, (method, path)


def test_the_schema_knows_every_route(app: FastAPI) -> None:
    known = {(method.upper(), path) for path, verbs in app.openapi()["paths"].items() for method in verbs}
    routes = {(method, path.replace(":path}", "}")) for method, path in _routes(app.routes)}
    assert routes - {("GET", "/api/v1/openapi.json")} == known
