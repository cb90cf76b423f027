"""S15 and S2 on the wire itself: what is too long, half or said twice, and what stands behind a body."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import pytest
import uvicorn

from rewarm.studio.api import wire
from rewarm.studio.api.wire import HEAD_BYTES, Wire

NEXT = b"GET / HTTP/1.1\r\n\r\n"
GET, POST = b"GET / HTTP/1.1\r\nConnection: close\r\n", b"POST / HTTP/1.1\r\nConnection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def answers(*requests: list[bytes]) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """The states that each connection answers what comes on it in pieces; and what reached the application."""
    told: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await asyncio.sleep(0.5 if scope["path"] == "/slow" else 0)
        told.append({"headers": dict(scope["headers"]), "body": body})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def ask(port: int, pieces: list[bytes]) -> list[str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02)
        try:
            return re.findall(r"HTTP/1.1 (\d+)", (await asyncio.wait_for(reader.read(), 10)).decode())
        except ConnectionError:  # closed while more was on its way
            return ["400"]
        finally:
            writer.close()

    async def serve() -> list[list[str]]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, http=Wire, lifespan="off", log_config=None))
            running = asyncio.create_task(server.serve([listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            found = [await ask(listener.getsockname()[1], pieces) for pieces in requests]
            server.should_exit = True
            await running
        return found

    return asyncio.run(serve()), told


def test_s15_a_head_has_its_limit_and_a_body_has_none_here() -> None:
    long = b"x: " + b"a" * HEAD_BYTES + b"\r\n\r\n"
    upload = b"Content-Length: 1000000\r\n\r\n" + b"a" * 1_000_000
    found, told = answers([GET + long], [GET, *[b"a" * 9000] * 9], [POST + upload], [NEXT * 3000 + GET + b"\r\n"])
    assert found == [["400"], ["400"], ["200"], ["200"] * 3001]
    assert len(told) == 3002 and len(told[0]["body"]) == 1_000_000


def test_s15_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    slow = [
        NEXT.replace(b"/", b"/slow", 1),
        *[b""] * 15,
        GET,
        b"\r\n",
    ]  # an answer may take longer, and so may what follows
    found, told = answers([b""], [b"GET / HT"], [GET, b"x: y\r\n"], slow)
    assert found == [[], [], [], ["200", "200"]] and len(told) == 2


def test_s2_a_request_has_one_length_and_its_headers_stand_before_its_body() -> None:
    trailer = [POST + CHUNKED + b"3\r\nabc\r\n", b"0\r\nauthorization: x\r\ncontent-type: y\r\nz: z\r\n\r\n"]
    found, told = answers(
        [POST + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n" + NEXT],
        [POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"],
        trailer,
        [b"".join(trailer)],
    )
    assert found == [["400"], ["400"], ["200"], ["200"]]
    assert [one["body"] for one in told] == [b"abc"] * 2
    assert all(one["headers"].keys() == {b"connection", b"transfer-encoding"} for one in told)
