"""A remote file as a file: seekable, read in blocks that are cached."""

from __future__ import annotations

import io
from typing import Any

from rewarm.data.remote.cache import BlockCache
from rewarm.data.remote.place import Place
from rewarm.data.signature import Signature

BLOCK = 8 << 20


class RemoteFile(io.RawIOBase):
    """Reads a file of ``place`` as it was when it had this ``signature``.

    Raises:
        ChangedError: on reading, if the server has another version by now.
        UnsettledError, Unreachable: on reading, if the server refuses, or fails for good.
    """

    def __init__(self, place: Place, uri: str, signature: Signature, cache: BlockCache) -> None:
        super().__init__()
        self._place, self._uri, self._signature, self._cache = place, uri, signature, cache
        self._at, self._block, self._data = 0, -1, b""

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
            self._data, self._block = self._fetch(number), number
        piece = memoryview(self._data)[begin : begin + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _fetch(self, number: int) -> bytes:
        """A block, from the cache or from the server."""
        start, version = number * BLOCK, self._signature.version
        length = min(BLOCK, self._signature.size - start)
        data = self._cache.get(self._uri, version, number, length)
        if data is None:
            data = self._place.read(self._uri, self._signature, start, length)
            self._cache.put(self._uri, version, number, data)
        return data
