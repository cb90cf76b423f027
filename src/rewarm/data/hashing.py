"""What every file that will be read is known by: the SHA-256 of its content, or what its server says of it.

The hash of a local file is remembered, so that only files that are new or changed are read for it.
Remote files are never read for it: URI, size and version say the same.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import orjson

from rewarm.core.errors import DataError, Stopped
from rewarm.core.manifest import canonical
from rewarm.core.storage import sha256_bytes, write_file
from rewarm.data.files import File, Meter, errors_named, raw_blocks, signature
from rewarm.data.remote import is_remote
from rewarm.data.signature import ChangedError, Signature, UnsettledError

_RACY = 2_000_000_000
"""Nanoseconds after a change in which another one may leave the same timestamp."""
_SAVE_EVERY = 30.0  # seconds


def hash_files(
    paths: Sequence[str],
    listed: Mapping[str, Signature],
    skip: Collection[str],
    index: Path,
    cores: int,
    progress: Callable[[float, float], None],
    stop: Callable[[], bool],
) -> dict[str, File | DataError]:
    """Each file with its hash, or, for those in ``skip``, the error that it could not be read with.

    Args:
        listed: the signatures of remote files.
        index: a file in which the hashes of local ones are remembered.

    Raises:
        DataError: if another file is no regular file or cannot be read. Stopped: if ``stop`` said so.
    """
    found: dict[str, File | DataError] = {}
    known, fresh = _read_index(index), dict[str, tuple[int, str, str]]()
    wanted: dict[str, Signature] = {}
    for path in paths:
        try:
            now = listed[path] if is_remote(path) else signature(path)
        except DataError as error:
            if path not in skip:
                raise
            found[path] = error
            continue
        size, version, digest = known.get(path, (-1, "", ""))
        if is_remote(path):
            found[path] = File(path, now, sha256=sha256_bytes(canonical([path, *now])))
        elif now == (size, version):
            found[path] = File(path, now, sha256=digest)
        else:
            wanted[path] = now
    meter, halt, saved = Meter(), threading.Event(), time.monotonic()
    total = sum(now.size for now in wanted.values())
    progress(0, total)
    with ThreadPoolExecutor(cores) as pool:  # hashlib works outside the interpreter's lock
        futures = {pool.submit(_hash, File(path, now), meter, halt): path for path, now in wanted.items()}
        try:
            left = set(futures)
            while left:
                ended, left = wait(left, timeout=0.2)
                for future in ended:
                    path, problem = futures[future], future.exception()
                    if isinstance(problem, DataError) and path in skip and not isinstance(problem, UnsettledError):
                        found[path] = problem
                        continue
                    result, settled = future.result()
                    found[path] = result
                    if settled:
                        fresh[path] = (*result.signature, result.sha256)
                progress(min(meter.bytes, total), total)
                if stop():
                    raise Stopped
                if fresh and time.monotonic() - saved > _SAVE_EVERY:
                    saved = _extend_index(index, fresh)
        finally:
            halt.set()
            pool.shutdown(cancel_futures=True)
            if fresh:
                _extend_index(index, fresh)
    return found


def _hash(file: File, meter: Meter, halt: threading.Event) -> tuple[File, bool]:
    """The hash of a file, and whether the time of its change will show the next one."""
    own, digest = Meter(), hashlib.sha256()
    settled = time.time_ns() - int(file.signature.version.rpartition("-")[0]) > _RACY
    with errors_named(file.uri):
        for block in raw_blocks(file, own):
            digest.update(block)
            meter.bytes += len(block)  # a figure for the display; a lost update does no harm
            if halt.is_set():
                raise Stopped
    if signature(file.uri) != file.signature:
        raise ChangedError(file.uri)
    return replace(file, sha256=digest.hexdigest()), settled


def _read_index(path: Path) -> dict[str, tuple[int, str, str]]:
    try:
        value = orjson.loads(path.read_bytes())
        return {name: (int(size), str(version), str(digest)) for name, (size, version, digest) in value.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _extend_index(path: Path, fresh: Mapping[str, tuple[int, str, str]]) -> float:
    """Add hashes to those that this and other builds have written; returns the time."""
    names = {name: value for name, value in fresh.items() if name.isprintable() or name.isascii()}
    write_file(path, orjson.dumps({**_read_index(path), **names}))
    return time.monotonic()
