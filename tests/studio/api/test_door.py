"""What the door lets in: S2 (routes outside it), S13 (forgery, rebinding, origins), S15 (bodies, ranges, nesting)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from rewarm.studio.api.door import BODY_BYTES, COOKIE, Door
from rewarm.studio.api.meter import Meter
from rewarm.studio.context import Studio
from tests.studio.api.ask import ask
from tests.studio.conftest import HOME, Client, TestClient, token_of

TOKENS = "/api/v1/tokens"
NEW = {"name": "made", "role": "viewer"}


@pytest.fixture
def browser(app: FastAPI, cookie: str) -> TestClient:
    """Signed in by cookie as an administrator, on our own pages."""
    client = TestClient(app, base_url=HOME, headers={"Origin": HOME})
    client.cookies.set(COOKIE, cookie)
    return client


def test_s2_nothing_is_open_but_what_is_public(client: Client) -> None:
    nobody = client(None)
    for path in (
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/api/v1/openapi.json",
        "/static",
        "/metrics",
        "/v1/models",
    ):
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PROPFIND"):
            assert nobody.request(method, path).status_code == 401, (method, path)
    for path in (
        "/health/",
        "//health",
        "/health/../metrics",
        "/HEALTH",
        "/api/v1/session/",
        "/health;x",
        "/health%2f",
    ):
        assert nobody.get(path).status_code == 401, path
    assert nobody.get("/health").status_code == 200
    assert nobody.head("/api/v1/session").status_code == 401
    for path in ("/static/x", "/static/../metrics", "/static/%2e%2e/metrics", "/static/..%2fmetrics"):
        assert nobody.get(path).status_code in (401, 404), path


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "Bearer rewarm_ộ", "bearer\t"])
def test_s2_a_wrong_token_is_none(client: Client, browser: TestClient, value: str) -> None:
    headers = {"Authorization": value.encode()}
    answer = client(None).get(TOKENS, headers=headers)
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    assert browser.get(TOKENS, headers=headers).status_code == 401  # the cookie does not make up for it


def test_s13_a_request_by_cookie_must_come_from_our_pages(browser: TestClient) -> None:
    assert browser.post(TOKENS, json=NEW).status_code == 201
    foreign = ["null", "http://evil.test", "http://127.0.0.1", "http://127.0.0.1:8766", "https://127.0.0.1:8765"]
    foreign += ["http://127.0.0.1:8765.evil.test", "http://evil.test:8765", "http://localhost:8765", ""]
    for origin in foreign:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = browser.request(method, TOKENS, json=NEW, headers={"Origin": origin})
            assert answer.status_code == 403, (method, origin)
    del browser.headers["origin"]
    assert browser.post(TOKENS, json=NEW).status_code == 403
    for site, status in (("cross-site", 403), ("same-site", 403), ("none", 403), ("same-origin", 201)):
        assert browser.post(TOKENS, json=NEW, headers={"Sec-Fetch-Site": site}).status_code == status, site


def test_s13_a_form_or_plain_text_is_not_taken(browser: TestClient) -> None:
    body = json.dumps(NEW)
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "x",
    ):
        assert browser.post(TOKENS, content=body, headers={"Content-Type": kind}).status_code == 403, kind
    made = {"Content-Type": "application/json; charset=utf-8"}
    assert browser.post(TOKENS, content=body, headers=made).status_code == 201
    assert browser.get(f"{TOKENS}?_method=DELETE", headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 200
    assert len(browser.get(TOKENS).json()) == 1


def test_s13_signing_in_must_come_from_our_pages_too(client: Client) -> None:
    for path in ("/api/v1/session", "/api/v1/session/link"):
        for headers in ({}, {"Origin": "http://evil.test"}):
            assert client(None).post(path, json={"name": "a", "password": "b"}, headers=headers).status_code == 403


def test_s13_another_name_for_this_machine_is_not_answered(browser: TestClient, client: Client) -> None:
    hosts = [
        "evil.test",
        "evil.test:8765",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
        "169.254.1.1",
        "[::2]",
        "[",
        "",
    ]
    for host in hosts:
        for asker in (browser, client("administrator"), client(None)):
            answer = asker.get(TOKENS, headers={"Host": host, "Origin": f"http://{host}"})
            assert answer.status_code == 403, host
            assert asker.post(TOKENS, json=NEW, headers={"Host": host, "Origin": f"http://{host}"}).status_code == 403
    for host in ("localhost:9000", "127.0.0.1", "[::1]:8765"):
        answer = browser.post(TOKENS, json=NEW, headers={"Host": host, "Origin": f"http://{host}"})
        assert answer.status_code == 201, host
    assert client(None).get("/health", headers={"Host": "10.0.0.7"}).status_code == 200


def test_s13_behind_a_proxy_only_its_address_is_ours(studio: Studio) -> None:
    from dataclasses import replace

    from rewarm.studio.api.app import build_app

    token = token_of(studio, "viewer")
    public = TestClient(build_app(replace(studio, url="https://studio.example.com")), base_url=HOME)
    for origin, status in (
        ("https://studio.example.com", 401),
        ("http://studio.example.com", 403),
        ("https://studio.example.com.evil.test", 403),
    ):
        headers = {"Host": "studio.example.com", "Origin": origin}
        answer = public.post("/api/v1/session/link", json={"key": "none"}, headers=headers)
        assert answer.status_code == status, origin
    assert public.get(TOKENS, headers={"Host": "studio.example.com", "Authorization": f"Bearer {token}"}).is_success


def test_s13_no_other_page_may_read_or_frame(client: Client) -> None:
    for asker in (client("administrator"), client(None)):
        for path in (TOKENS, "/none", "/health"):
            for method in ("GET", "OPTIONS"):
                answer = asker.request(
                    method, path, headers={"Origin": "http://evil.test", "Access-Control-Request-Method": "POST"}
                )
                assert not [name for name in answer.headers if name.startswith("access-control")]
                policy = answer.headers["content-security-policy"]
                assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert answer.headers["cache-control"] == "no-store"


def test_s13_asking_changes_nothing(studio: Studio, app: FastAPI, browser: TestClient) -> None:
    paths = [path for path, verbs in app.openapi()["paths"].items() if "get" in verbs]
    before = _dump(studio)
    for path in paths:
        path = path.replace("{name:path}", "x").replace("{", "").replace("}", "")
        assert ask(app, "GET", path, {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}) < 500
    assert _dump(studio) == before and len(paths) > 8


def _dump(studio: Studio) -> list[str]:
    with sqlite3.connect(studio.workspace.root / "rewarm.db") as database:
        return list(database.iterdump())


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"origin": HOME}, True),
        ({"origin": "http://evil.test"}, False),
        ({"origin": f"{HOME}.evil.test"}, False),
        ({"origin": "null"}, False),
        ({}, False),
        ({"origin": HOME, "host": "evil.test"}, False),
        ({"origin": HOME, "cookie": ""}, False),
    ],
)
def test_s13_websockets_open_to_our_pages_alone(
    studio: Studio, browser: TestClient, headers: dict[str, str], let_in: bool
) -> None:
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["state"]["user"].name)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1:8765", "cookie": f"{COOKIE}={browser.cookies[COOKIE]}", **headers}
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "websocket", "path": "/socket", "scheme": "ws", "query_string": b"", "headers": pairs}
    asyncio.run(Door(app, studio, Meter())(scope, None, send))  # type: ignore[arg-type]
    assert bool(reached) is let_in
    assert let_in or sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream"])
def test_s15_of_a_large_body_little_is_read(studio: Studio, app: FastAPI, announced: bool, kind: str) -> None:
    read = 0

    async def endless() -> Message:
        nonlocal read
        read += 65536
        return {"type": "http.request", "body": b" " * 65536, "more_body": True}

    headers = {"content-type": kind, "authorization": f"Bearer {token_of(studio, 'viewer')}"}
    headers |= {"content-length": str(10**9)} if announced else {"transfer-encoding": "chunked"}
    for path in (TOKENS, "/api/v1/uploads/x/finish"):
        read = 0
        assert ask(app, "POST", path, headers, receive=endless) == 413
        assert read == 0 if announced else read <= BODY_BYTES + 65536


def test_s15_half_a_body_is_none(studio: Studio, app: FastAPI) -> None:
    pieces: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b" ", "more_body": True}]

    async def broken() -> Message:
        return pieces.pop()

    headers = {"content-length": "1000", "authorization": f"Bearer {token_of(studio, 'viewer')}"}
    assert ask(app, "DELETE", "/api/v1/session", headers, receive=broken) == 400


def test_s15_nested_json_is_refused_at_once(client: Client) -> None:
    viewer = client("viewer")
    began = time.monotonic()
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        for depth in (65, 500, 1000, 10_000, 170_000):
            body = opening * depth + "1" + closing * depth
            answer = viewer.post(TOKENS, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, depth
    assert time.monotonic() - began < 5
    within = "[" * 60 + "]" * 60
    assert viewer.post(TOKENS, content=within, headers={"Content-Type": "application/json"}).status_code == 422


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a": NaN}', b'"\\ud800"', b'"\xff"', b'{"name": "\\u0000"}', b"9" * 5000, b"\xef\xbb\xbf{}"]
)
def test_s15_what_is_no_json_is_the_users_mistake(client: Client, body: bytes) -> None:
    answer = client("viewer").post(TOKENS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["what"]


def test_s15_ranges_and_addresses_have_limits(client: Client) -> None:
    viewer = client("viewer")
    began = time.monotonic()
    ranges = "bytes=" + ",".join(f"{n}-{n}" for n in range(10_000))
    assert viewer.get(TOKENS, headers={"Range": ranges}).status_code == 400
    assert time.monotonic() - began < 1
    assert viewer.get("/api/v1/users/a%00b").status_code == 400
    assert viewer.get("/api/v1/audit?user=%00").status_code == 400


def test_an_error_of_ours_tells_nothing(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("canary")

    headers = {"authorization": f"Bearer {token_of(studio, 'viewer')}"}
    bodies: list[bytes] = []
    assert ask(Door(app, studio, Meter()), "GET", "/x", headers, bodies=bodies) == 500
    assert b"canary" not in b"".join(bodies) and b"an error of ours" in b"".join(bodies)
    assert "canary" in caplog.text


def test_what_is_wrong_with_a_value_is_said_with_its_place(client: Client) -> None:
    answer = client("administrator").post("/api/v1/users", json={"name": ["canary"], "role": "king", "x/y": "canary"})
    problem = answer.json()
    assert answer.status_code == 422 and problem["where"] == "/body/name" and "canary" not in answer.text
    assert "role: " in problem["what"] and "x/y: " in problem["what"]
    assert client("administrator").get("/api/v1/audit?limit=0").json()["where"] == "/query/limit"
    assert client("administrator").get("/api/v1/none").json()["what"] == "not found"
