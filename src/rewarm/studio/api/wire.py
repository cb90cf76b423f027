"""HTTP as it comes over the wire: uvicorn's quick parser, which alone keeps heads of any size and waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES, HEAD_SECONDS = 2**16, 60.0
"""Of a request's first line and headers; and of whatever has arrived and is not complete, such as half a header."""


class Wire(HttpToolsProtocol):
    """Answers 400 to what is longer, and closes the connection, as where a head does not come."""

    _head = _unread = 0
    _complete = False
    """The headers have been read, and the door looks at them: what comes behind the body is none."""
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too long.")

    def on_message_begin(self) -> None:
        self._head, self._complete = 0, False
        self._wait()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(name + value)
        if not self._complete:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unread, self._complete = 0, True
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def _grow(self, part: bytes) -> None:
        self._head += len(part)
        if self._head > HEAD_BYTES:
            raise ValueError("the head is too long")  # the parser ends there, and the answer is 400

    def _wait(self) -> None:
        self._wait_no_more()
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
