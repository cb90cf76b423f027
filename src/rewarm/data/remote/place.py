"""A server that files lie on, and reading parts of them whatever the line to it does.

Every answer is checked for its place in the file, its length and the file's version. What fails in
passing (status 500, 503 or 429, timeouts, resets, cut bodies) is asked for again, from where the
last answer ended, with pauses that grow. Bodies of error answers are never shown: they can hold
what was sent. On behalf of a user of the Studio every line goes to an address that ``core.network``
has judged.
"""

from __future__ import annotations

import itertools
import random
import re
import socket
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError

from rewarm.core.errors import DataError, Unreachable
from rewarm.core.network import allowed, check_address, is_guarded
from rewarm.core.workspace import Workspace
from rewarm.data.signature import ChangedError, LockedError, Signature, UnsettledError

T = TypeVar("T")
QUESTION = "\0?"
"""Stands between a URI and a question about it that is no file; no file's name holds it."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 20.0  # seconds
_PROGRESS = 64 << 10  # bytes that make a cut answer count as no failure
_PIECE = 1 << 20
_LONGEST_ANSWER = 64 << 20  # to a question that is no file
_TIMEOUT = urllib3.Timeout(connect=10, read=30)
PASSING = {408, 425, 429, 500, 502, 503, 504}
_ERRORS = (urllib3.exceptions.HTTPError, OSError)
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "rewarm"}
_WORDS = {
    "NewConnectionError": "nothing answers there",
    "NameResolutionError": "no host has that name",
    "ConnectTimeoutError": "no answer in time",
    "ReadTimeoutError": "no answer in time",
    "SSLError": "no https there, or no certificate that this machine trusts",
}


class Entry(NamedTuple):
    """What a listing shows: a file, or (without a signature) a folder."""

    uri: str
    signature: Signature | None


class PassingError(Exception):
    """Asking again may help."""

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause


class Place(ABC):
    """One server, as one connection sees it."""

    redirects = 0
    """How often an answer may lead elsewhere."""
    spread = False
    """Whether what it holds lies on other hosts, so that its answers lead there."""
    patience = 9
    """Failures one behind the other after which the server counts as gone: 20 seconds at least."""
    gone = False
    """It was given up; until it answers again it is asked twice and no more, so that whoever waits can be stopped."""
    accepted = False
    """It took the connection's key before: one that it refuses now has expired, and work waits for another."""

    @abstractmethod
    def ask(self, uri: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """The URL and the headers, signed or with a token, to get ``uri`` with."""

    @abstractmethod
    def entries(self, uri: str, deep: bool) -> Iterator[Entry]:
        """The file ``uri`` itself, or what lies in that folder: directly, or (``deep``) all files below it."""

    def page(self, uri: str, after: str | None, most: int) -> tuple[list[Entry], str | None]:
        """Up to ``most`` of what lies in a folder directly, behind ``after``; and where to go on, if there is more."""
        found = self.entries(uri, deep=False)
        if after is not None:
            found = itertools.islice(itertools.dropwhile(lambda entry: entry.uri != after, found), 1, None)
        part = list(itertools.islice(found, most + 1))
        return part[:most], part[most - 1].uri if len(part) > most else None

    def version(self, headers: Mapping[str, str]) -> str:
        """What an answer says the version of the file is."""
        return headers.get("ETag", "").strip('"')

    def condition(self, signature: Signature) -> dict[str, str]:
        """Headers that make the server refuse another version."""
        return {}

    def refused(self, uri: str, status: int, code: str) -> DataError:
        """The error for a status that asking again does not help against."""
        if status in (401, 403):
            remedy = "name a connection that may read it: rewarm connections add"
            return UnsettledError(f"the server refused to show it (HTTP {status})", where=uri, remedy=remedy)
        if status in (404, 410):
            return DataError("there is no such file", where=uri, remedy="correct the path in the recipe")
        return UnsettledError(f"the server answered HTTP {status}", where=uri)

    # ---- reading ----

    def signature(self, uri: str) -> Signature:
        """Size and version of a file.

        Raises:
            DataError: if it is not there or not to be had.
        """
        return self.patiently(uri, lambda: self._first_byte(uri))

    def _first_byte(self, uri: str) -> Signature:
        response, version = self._send(uri, {"Range": "bytes=0-0"}, (200, 206, 416))
        try:
            total = _range_of(response)[1] if response.status != 200 else response.headers.get("Content-Length")
            if total == "0":
                version = version or "empty"  # there are servers that say no more of such a file
            if total is None or not version:
                missing = "its size" if total is None else "what its version is (ETag or Last-Modified)"
                raise DataError(f"the server does not say {missing}", where=uri, remedy="download it first")
            if response.status == 200 and total != "0":
                raise DataError("the server cannot send parts of files", where=uri, remedy="download it first")
            return Signature(int(total), version)
        finally:
            _let_go(response)

    def read(self, uri: str, signature: Signature, start: int, length: int) -> bytes:
        """``length`` bytes of a file from ``start`` on.

        Raises:
            ChangedError: if the file has another version by now. UnsettledError: if it may not be read.
            Unreachable: if the server fails for good, or no longer accepts the key.
        """
        data, self.accepted = bytearray(), True  # or there would be no signature

        def go_on() -> None:
            before = len(data)
            try:
                self._append(data, uri, signature, start, length)
            except (PassingError, *_ERRORS):
                if len(data) - before < _PROGRESS:
                    raise

        while len(data) < length:
            self.patiently(uri, go_on)
        return bytes(data)

    def _append(self, data: bytearray, uri: str, signature: Signature, start: int, length: int) -> None:
        first, last = start + len(data), start + length - 1
        wanted = {"Range": f"bytes={first}-{last}", **self.condition(signature)}
        response, version = self._send(uri, wanted, (206, 404, 412, 416))
        try:
            if response.status == 404:
                raise ChangedError(uri, "the file is no longer there")
            if response.status != 206 or version != signature.version:
                raise ChangedError(uri)
            begin, total = _range_of(response)
            if total != str(signature.size):
                raise ChangedError(uri)
            if begin != first:
                raise PassingError(f"bytes {begin} on instead of {first} on")
            while len(data) < length and (piece := response.read1(_PIECE)):
                data += memoryview(piece)[: length - len(data)]
        finally:
            _let_go(response)
        if len(data) < length:
            raise PassingError("a cut answer")

    def _send(
        self, uri: str, headers: Mapping[str, str], wanted: tuple[int, ...]
    ) -> tuple[urllib3.BaseHTTPResponse, str]:
        """An answer with one of the ``wanted`` statuses, its body unread, and the version that it names."""
        url, sent = self.ask(uri, {**_HEADERS, **headers})
        version, uri = "", uri.partition(QUESTION)[0]
        for left in range(self.redirects, -1, -1):
            response = _pool(urlsplit(url)).request(
                "GET", url, headers=sent, redirect=False, retries=False, preload_content=False, timeout=_TIMEOUT
            )
            if response.status in wanted:
                return response, version or self.version(response.headers)
            version = version or response.headers.get("X-Linked-Etag", "").strip('"')  # a hub, on the way to the bytes
            target = response.get_redirect_location()
            if not target:
                break
            _let_go(response)
            before, url = url, urljoin(url, target)
            astray = is_guarded() and not self.spread and urlsplit(before).hostname != urlsplit(url).hostname
            if left == 0 or astray or not _may_lead(urlsplit(before), urlsplit(url)):
                where = urlsplit(url).netloc.rpartition("@")[2]
                what = f"the server leads elsewhere ({where}), and that is not followed"
                raise UnsettledError(what, where=uri, remedy="correct the endpoint or the region of the connection")
            if urlsplit(before)[:2] != urlsplit(url)[:2]:
                sent = {key: value for key, value in sent.items() if key != "Authorization"}
        try:
            code = re.search(rb"<Code>([A-Za-z]{1,64})</Code>", response.read(_PIECE))
        except _ERRORS:
            code = None
        _let_go(response)
        if response.status in PASSING or (code and code[1] in (b"SlowDown", b"RequestTimeout", b"InternalError")):
            pause = response.headers.get("Retry-After", "")
            raise PassingError(f"HTTP {response.status}", float(pause) if pause.isdigit() else 0.0)
        raise self.refused(uri, response.status, code[1].decode() if code else response.headers.get("X-Error-Code", ""))

    def whole(self, uri: str, parse: Callable[[bytes, Mapping[str, str]], T]) -> T:
        """The whole answer to a short question such as a listing, parsed with its headers."""

        def once() -> T:
            response, _ = self._send(uri, {}, (200,))
            try:
                answer = response.read(_LONGEST_ANSWER + 1)
                if len(answer) > _LONGEST_ANSWER:
                    raise UnsettledError("the server's answer has no end", where=uri.partition(QUESTION)[0])
                return parse(answer, response.headers)
            finally:
                _let_go(response)

        return self.patiently(uri, once)

    def patiently(self, uri: str, action: Callable[[], T]) -> T:
        """What ``action`` returns; after a ``PassingError`` or a broken line it is tried again.

        Raises:
            Unreachable: if it fails again and again, or refuses a key that it accepted before.
        """
        patience = 2 if self.gone else self.patience
        for failed in range(patience):
            try:
                answer = action()
                self.gone, self.accepted = False, True
                return answer
            except LockedError as error:
                if not self.accepted:
                    raise
                what = f"{error.what}, and accepted the connection before: give it another key (rewarm connections add)"
                raise Unreachable(what, where=error.where, remedy="a run that waits for it goes on by itself") from None
            except (PassingError, *_ERRORS) as error:
                name = type(error).__name__
                problem = str(error) if isinstance(error, PassingError) else _WORDS.get(name, name)
                pause = min(_LONGEST_PAUSE, max(getattr(error, "pause", 0.0), _FIRST_PAUSE * 2**failed))
            if failed + 1 < patience:
                time.sleep(pause * random.uniform(0.5, 1))  # so that many workers do not come back at once
        self.gone = True
        kind = UnsettledError if name == "SSLError" else Unreachable  # which waiting does not mend
        raise kind(
            f"the server {urlsplit(self.ask(uri, {})[0]).netloc} fails "
            f"({problem}; {patience} times one behind the other)",
            where=uri.partition(QUESTION)[0],
            remedy="compare its address, see that it is up, then run again: what was fetched is kept",
        )


def _range_of(response: urllib3.BaseHTTPResponse) -> tuple[int, str | None]:
    """First byte and size of the file, as an answer says."""
    if found := re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", "")):
        return int(found[1] or 0), found[2]
    if response.status == 416:
        return 0, None
    raise PassingError("an answer that does not say which bytes it holds")


def _may_lead(before: SplitResult, after: SplitResult) -> bool:
    return after.scheme == "https" or (after.scheme == "http" and before.scheme == "http")


def _let_go(response: urllib3.BaseHTTPResponse) -> None:
    """Keep the line where the answer was read to its end, and close it where it was not."""
    if response.length_remaining:
        response.close()
    response.release_conn()


def _pool(url: SplitResult) -> urllib3.PoolManager:
    proxy: str | None = urllib.request.getproxies().get(url.scheme)
    proxy = None if urllib.request.proxy_bypass(url.hostname or "") else proxy
    if not is_guarded():
        return _pool_through(proxy, None)
    if proxy:  # which resolves the name again: it has to refuse what lies inside, too
        check_address(url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    return _pool_through(proxy, tuple(allowed(Workspace.default())))


@lru_cache
def _pool_through(proxy: str | None, guard: tuple[str, ...] | None) -> urllib3.PoolManager:
    """Lines that are kept open; those that were judged by other rules (``guard``) are not used again."""
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=16)
    pools = urllib3.PoolManager(maxsize=16)
    if guard is not None:
        pools.pool_classes_by_scheme = {"http": _JudgedPool, "https": _JudgedTlsPool}
    return pools


class _Judged(HTTPConnection):
    """A line to the address that the host's name stood for when it was judged."""

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        try:
            self._dns_host = check_address(name, self.port)
            return super()._new_conn()
        except socket.gaierror as error:
            raise NameResolutionError(name, self, error) from error
        finally:
            self._dns_host = name


class _JudgedTls(_Judged, HTTPSConnection): ...


class _JudgedPool(HTTPConnectionPool):
    ConnectionCls = _Judged


class _JudgedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _JudgedTls
