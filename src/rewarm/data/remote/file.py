"""A remote file as a file: seekable, read in blocks that are verified and cached, the next one ahead."""

from __future__ import annotations

import contextlib
import io
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from rewarm.core.errors import DataError
from rewarm.data.remote.cache import BlockCache
from rewarm.data.remote.place import Place
from rewarm.data.signature import ChangedError, Signature, UnsettledError

BLOCK = 8 << 20
_LINES = 4  # that blocks are fetched ahead on, in each process
_CHECKED = -1  # the block that says that the whole file is what its version says
_SMALL = 1 << 20  # a file of this size may be fetched whole ahead of its turn
_ahead: dict[tuple[str, str, int], Future[bytes | None]] = {}


class RemoteFile(io.RawIOBase):
    """Reads a file of ``place`` as it was when it had this ``signature``.

    A file that is read from its first byte to its last is compared with the hash that its version
    is, where it is one.

    Raises:
        ChangedError: on reading, if the server has another version by now.
        UnsettledError: on reading, if the server fails for good.
    """

    def __init__(self, place: Place, uri: str, signature: Signature, cache: BlockCache) -> None:
        super().__init__()
        self._place, self._uri, self._signature, self._cache = place, uri, signature, cache
        self._at, self._block, self._data = 0, -1, b""
        checked = cache.get(uri, signature.version, _CHECKED, 1) is not None  # once is enough: it costs a third
        self._digest, self._digested = None if checked else place.digest(signature), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._signature.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, target: Any) -> int:
        if self._at >= self._signature.size:
            return 0
        number, begin = divmod(self._at, BLOCK)
        if number != self._block:
            self._turn_to(number)
        piece = memoryview(self._data)[begin : begin + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._forget(self._block + 1)
        super().close()

    def _turn_to(self, number: int) -> None:
        if number != self._block + 1:
            self._forget(self._block + 1)
        waiting = _ahead.pop((self._uri, self._signature.version, number), None)
        data = waiting.result() if waiting else None
        self._data = data or fetch(self._place, self._uri, self._signature, self._cache, number)
        if number == self._block + 1 > 0 and (number + 1) * BLOCK < self._signature.size:  # a head alone is no reading
            fetch_ahead(self._place, self._uri, self._signature, self._cache, number + 1)
        self._block = number
        if self._digest is not None and number == self._digested:
            self._digest.update(self._data)
            self._digested += 1
            if self._digested * BLOCK >= self._signature.size:
                if (found := self._digest.hexdigest()) != self._signature.version:
                    self._look_again(found)
                self._cache.put(self._uri, self._signature.version, _CHECKED, b"1")

    def _forget(self, number: int) -> None:
        if waiting := _ahead.pop((self._uri, self._signature.version, number), None):
            waiting.cancel()

    def _look_again(self, found: str) -> None:
        """The content is not what its version says: fetch it anew; if it is the same, the version is no hash of it."""
        self._cache.drop(self._uri, self._signature.version, self._digested)
        again = self._place.digest(self._signature)
        for number in range(self._digested):
            again.update(fetch(self._place, self._uri, self._signature, self._cache, number))
        if again.hexdigest() != found:
            raise ChangedError(self._uri, "the file arrived damaged: it is not what its checksum says")
        self._place.digest = lambda signature: None  # type: ignore[method-assign]  # on this server it never is


def fetch(place: Place, uri: str, signature: Signature, cache: BlockCache, number: int, patient: bool = True) -> bytes:
    """A block of a file, from the cache or from its server."""
    start = number * BLOCK
    length = min(BLOCK, signature.size - start)
    data = cache.get(uri, signature.version, number, length)
    if data is None:
        data = place.read(uri, signature, start, length, patient)
        cache.put(uri, signature.version, number, data)
    return data


def fetch_ahead(place: Place, uri: str, signature: Signature, cache: BlockCache, number: int = 0) -> None:
    """Begin to fetch a block that will be wanted soon. What goes wrong is left to whoever wants it."""

    def attempt() -> bytes | None:
        with contextlib.suppress(DataError, UnsettledError):
            return fetch(place, uri, signature, cache, number, patient=False)
        return None

    key = (uri, signature.version, number)
    if key not in _ahead and (number or 0 < signature.size <= _SMALL):
        _ahead[key] = _lines().submit(attempt)


@lru_cache(1)
def _lines() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_LINES, "fetch")
