"""Blocks of remote files on this disk, so that the second pass and the next build find them here.

Each block is a file of its own that begins with its checksum: what a killed process, a bad disk or
another program left of it is noticed and fetched again. Any number of processes may use one cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import uuid
from pathlib import Path

from rewarm.core.storage import TEMPORARY, free_bytes

_CHECK = 16
_SWEEPS = 64
"""How often a process sweeps while it writes as much as the cache may hold; of many processes one soon does."""


class BlockCache:
    """A folder of blocks that stays under a number of bytes: the least recently used go first.

    Args:
        limit: in bytes; a tenth of the free disk, and 20 GB at most, when None. 0 keeps nothing.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder = folder
        self.limit = min(20_000_000_000, free_bytes(folder) // 10) if limit is None else limit
        self._written = int(random.random() * self.limit) // _SWEEPS  # so that they do not all sweep at once

    def _path(self, uri: str, version: str, block: int) -> Path:
        name = hashlib.sha256(f"{uri}\0{version}\0{block}".encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / name[:2] / name

    def get(self, uri: str, version: str, block: int, length: int) -> bytes | None:
        """A block of ``length`` bytes; None where it is not there, or not as it was written."""
        path = self._path(uri, version, block)
        try:
            stored = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        data = stored[_CHECK:]
        if len(data) == length and hashlib.blake2b(data, digest_size=_CHECK).digest() == stored[:_CHECK]:
            return data
        path.unlink(missing_ok=True)
        return None

    def put(self, uri: str, version: str, block: int, data: bytes) -> None:
        """Keep a block; a disk without room, or one that may not be written, keeps none."""
        if len(data) > self.limit // 8:
            return
        path = self._path(uri, version, block)
        beside = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:  # not flushed to the disk: the checksum tells
                    file.write(hashlib.blake2b(data, digest_size=_CHECK).digest())
                    file.write(data)
                beside.replace(path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
            self._written += len(data) + 4096
            if self._written > self.limit // _SWEEPS:
                self._sweep()

    def _sweep(self) -> None:
        """Delete the oldest blocks, so that with what is written until the next sweep it still is within its limit."""
        self._written, found = 0, []
        for folder in self._folder.glob("??"):
            for entry in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):
                    info = entry.stat()
                    found.append((info.st_mtime_ns, info.st_blocks * 512, entry.path))
        held = sum(size for _, size, _ in found)
        for _, size, name in sorted(found):
            if held <= self.limit * 3 // 4:
                return
            Path(name).unlink(missing_ok=True)
            held -= size
