"""The SHA-256 of every file that will be read: the content is what a dataset is known by."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from rewarm.core.errors import DataError
from rewarm.data.files import Meter, errors_named, raw_blocks, signature
from rewarm.data.slices import ChangedError, SliceFile
from rewarm.data.workers import Stopped


def hash_files(
    paths: Sequence[Path],
    skip: Collection[Path],
    cores: int,
    progress: Callable[[float, float], None],
    stop: Callable[[], bool],
) -> dict[Path, SliceFile | DataError]:
    """Each file with its hash, or, for those in ``skip``, the error that it could not be read with.

    Raises:
        DataError: if another file is no regular file or cannot be read. Stopped: if ``stop`` said so.
    """
    found: dict[Path, SliceFile | DataError] = {}
    sizes: dict[Path, int] = {}
    for path in paths:
        try:
            sizes[path] = signature(path)[0]
        except DataError as error:
            if path not in skip:
                raise
            found[path] = error
    meter, halt = Meter(), threading.Event()
    total = sum(sizes.values())
    with ThreadPoolExecutor(cores) as pool:  # hashlib works outside the interpreter's lock
        futures = {pool.submit(_hash, path, meter, halt): path for path in sizes}
        try:
            left = set(futures)
            while left:
                ended, left = wait(left, timeout=0.2)
                for future in ended:
                    path, problem = futures[future], future.exception()
                    if isinstance(problem, DataError) and path in skip and not isinstance(problem, ChangedError):
                        found[path] = problem
                    else:
                        found[path] = future.result()
                progress(min(meter.bytes, total), total)
                if stop():
                    raise Stopped
        finally:
            halt.set()
            pool.shutdown(cancel_futures=True)
    return found


def _hash(path: Path, meter: Meter, halt: threading.Event) -> SliceFile:
    before, digest = signature(path), hashlib.sha256()
    own = Meter()
    with errors_named(path):
        for block in raw_blocks(path, own):
            digest.update(block)
            meter.bytes += len(block)  # a figure for the display; a lost update does no harm
            if halt.is_set():
                raise Stopped
    if signature(path) != before:
        raise ChangedError(path)
    return SliceFile(str(path), digest.hexdigest(), before)
