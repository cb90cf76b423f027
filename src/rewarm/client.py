"""A Studio seen from elsewhere: its API for the command line and for scripts.

    client = Client("https://rewarm.example.com", token)
    run = client.post("/runs", {"recipe": text})
    for event in client.events(run["id"]): ...

Every POST carries an Idempotency-Key, so that one whose answer was lost can be sent again and is done once.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
import urllib3

from rewarm.core.errors import Conflict, Forbidden, NotFound, ResourceError, UserError

_ERRORS: dict[int, type[UserError]] = {401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 507: ResourceError}
_TRIES = 4
_POLL_SECONDS = 0.5
ENDED = frozenset({"succeeded", "failed", "stopped", "preempted", "lost"})


class Client:
    """One Studio, asked with one token.

    Every method raises the ``UserError`` that the Studio answers with, and ``ResourceError`` where it gives no answer.

    Args:
        url: of the Studio, without ``/api/v1``.
        token: one made with ``rewarm studio token`` or in the Studio.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UserError("this is not the address of a Studio", where="REWARM_URL", remedy="http://127.0.0.1:8765")
        self.url = url.rstrip("/")
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=10, read=300))
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    @classmethod
    def from_environment(cls) -> Client | None:
        """That of ``REWARM_URL`` and ``REWARM_TOKEN``; None where no address is set."""
        url = os.environ.get("REWARM_URL")
        if not url:
            return None
        token = os.environ.get("REWARM_TOKEN")
        if not token:
            raise UserError(
                f"{url} needs a token", where="REWARM_TOKEN", remedy="set it; make one in the Studio under Tokens"
            )
        return cls(url, token)

    def get(self, path: str, **query: Any) -> Any:
        """What the Studio answers, from JSON. Values of None are left out of the query."""
        return self._ask("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self._ask("POST", path, body, query)

    def put(self, path: str, body: Any, **query: Any) -> Any:
        return self._ask("PUT", path, body, query)

    def patch(self, path: str, body: Any, **query: Any) -> Any:
        return self._ask("PATCH", path, body, query)

    def delete(self, path: str, **query: Any) -> Any:
        return self._ask("DELETE", path, query=query)

    def pages(self, path: str, key: str, size: int = 500, **query: Any) -> Iterator[dict[str, Any]]:
        """All rows of a list, page by page; each page begins behind the last row's ``key``."""
        after = None
        while True:
            page = self.get(path, after=after, limit=size, **query)
            yield from page
            if len(page) < size:
                return
            after = page[-1][key]

    def send(self, path: str, data: bytes, **query: Any) -> Any:
        """PUT a piece of a file."""
        headers = {"Content-Type": "application/octet-stream"}
        return orjson.loads(self._send("PUT", path, data, query, headers).data)

    def complete(self, body: dict[str, Any]) -> Any:
        """Let a model continue a prompt: the body and the answer are those of OpenAI's ``/v1/completions``."""
        return orjson.loads(self._send("POST", "/completions", orjson.dumps(body), root="/v1").data)

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file from ``start`` on."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._send("GET", path, headers=headers, preload_content=False)
        if start and answer.status == 200:  # the whole file came instead
            raise UserError("the server sent no range", where=path, remedy="delete the part and begin again")
        yield from answer.stream(1 << 20)
        answer.release_conn()

    def events(self, run: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """The events of a run behind number ``after``, as they come, until the run has ended."""
        while True:
            ended = self.get(f"/runs/{run}")["state"] in ENDED  # asked first: what has ended wrote its last state
            found = self.get(f"/runs/{run}/events", after=after, limit=1000)
            yield from found
            after = found[-1]["seq"] if found else after
            if not found:
                if ended:
                    return
                time.sleep(_POLL_SECONDS)

    def _ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        data = self._send(method, path, None if body is None else orjson.dumps(body), query).data
        return orjson.loads(data) if data else None

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        *,
        preload_content: bool = True,
        root: str = "/api/v1",
    ) -> urllib3.BaseHTTPResponse:
        given = [(name, value) for name, value in (query or {}).items() if value is not None]
        url = f"{self.url}{root}{quote(path, safe='/@:')}" + (f"?{urlencode(given, doseq=True)}" if given else "")
        headers = {**self._headers, "Content-Type": "application/json", **(headers or {})}
        if method == "POST":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        answer = self._patiently(method, url, body, headers, preload_content)
        if answer.status < 400:
            return answer
        raise _error(answer, self.url)

    def _patiently(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], preload: bool
    ) -> urllib3.BaseHTTPResponse:
        """Sent again where no answer came: reading and replacing do no harm twice, and a POST has its key."""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(2 ** (attempt - 1))
            try:
                answer = self._pool.request(
                    method, url, body=body, headers=headers, redirect=False, preload_content=preload
                )
            except urllib3.exceptions.HTTPError as error:
                reason = str(error.args[-1] if error.args else error).rpartition(": ")[2]
                continue
            if answer.status not in (502, 503, 504):
                return answer
            reason = f"status {answer.status}"
        raise ResourceError(f"the Studio gives no answer ({reason})", where=self.url, remedy="is it running there?")


def _error(answer: urllib3.BaseHTTPResponse, url: str) -> UserError:
    try:
        problem = orjson.loads(answer.data)
        what, where, remedy = problem["what"], problem.get("where"), problem.get("remedy")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        what, where, remedy = f"answered with status {answer.status}", url, "is this the address of a Studio?"
    if answer.status == 401:
        what, where, remedy = "the token is not valid", "REWARM_TOKEN", "make another one in the Studio"
    return _ERRORS.get(answer.status, UserError)(what, where=where, remedy=remedy)
