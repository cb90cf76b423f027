"""Files that are whole or not there: written beside, flushed to disk, renamed into place.

A process may be killed at any instruction. What stands under its final name was complete when it
was renamed; what a dead process left beside it starts with ``.tmp-`` and can be deleted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import resource
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rewarm.core.errors import Conflict, ResourceError, UserError

TEMPORARY = ".tmp-"
_BLOCK = 1 << 20
_POLL_SECONDS = 0.2
_MANY_FILES = 1 << 16


class At:
    """An attribute of a class that is a folder: the path of what lies there under ``name``."""

    def __init__(self, name: str, folder: str = "path") -> None:
        self.name, self.folder = name, folder

    def __get__(self, owner: Any, _: type | None = None) -> Path:
        found: Path = getattr(owner, self.folder)
        return found / self.name


def expand_home(path: str | Path) -> Path:
    """``path`` with ``~`` and ``~user`` replaced. Raises ``UserError`` where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError("there is no such home folder", where=path, remedy="write the folder out") from None


def allow_many_files() -> None:
    """Let this process and its children open as many files as they may: a dataset keeps two of each shard open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):  # macOS has another limit behind this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of ``data``, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex, read in blocks of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush everything inside ``folder``, and the folder itself, to the disk."""
    for item in folder.rglob("*"):
        sync(item)
    sync(folder)


def write_file(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data`` in one step; a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, data.encode() if isinstance(data, str) else data) as whole:
        whole.replace(path)
    sync(path.parent)


def create_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new file in one step; of several that do so at once, one succeeds.

    Args:
        mode: permissions, before the umask.

    Raises:
        FileExistsError: if ``path`` is there already.
        FileNotFoundError: if its folder is not.
    """
    with _beside(path, data, mode) as whole:
        path.hardlink_to(whole)


@contextlib.contextmanager
def _beside(path: Path, data: bytes, mode: int = 0o666) -> Iterator[Path]:
    """``data`` in a file beside ``path``, down to the disk; what is still under that name in the end goes."""
    beside = path.parent / f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"
    try:
        with open(beside, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names no file
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_checked(path: Path, content: bytes) -> None:
    """Write a file that ``read_checked`` can tell from a damaged one: its SHA-256, a newline, and the content."""
    write_file(path, sha256_bytes(content).encode() + b"\n" + content)


def read_checked(path: Path, check: bool = True) -> bytes | None:
    """What ``write_checked`` wrote; None where it is not there or (if that is to be checked) damaged."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return content if not check or sha256_bytes(content).encode() == digest else None


@contextlib.contextmanager
def staged_folder(path: Path, staging: Path | None = None, flush: bool = True) -> Iterator[Path]:
    """A new folder to fill; on leaving without an error it becomes ``path``, all at once.

    Args:
        staging: where it is filled, on the same disk; unset, beside ``path``.
        flush: whether it must survive a power cut; what is checked by hash and can be made again need not.

    Raises:
        FileExistsError: if ``path`` exists by then; nothing is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = (staging or path.parent) / f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"
    beside.mkdir(parents=True)
    try:
        yield beside
        if flush:
            sync_folder(beside)
        if path.exists():
            raise FileExistsError(errno.EEXIST, "already there", str(path))
        beside.rename(path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def sweep(folder: Path, older_than: float = 0.0) -> None:
    """Delete what dead processes left half-written directly inside ``folder``, some seconds ago or more."""
    for item in folder.glob(f"{TEMPORARY}*") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - item.stat().st_mtime >= older_than:
                shutil.rmtree(item) if item.is_dir() else item.unlink()


def remove_folder(path: Path) -> None:
    """Delete a folder so that no half of it is ever seen under its name."""
    beside = path.parent / f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"
    path.rename(beside)
    shutil.rmtree(beside)


def link_or_copy(source: Path, target: Path) -> None:
    """The file ``source`` under a second name, or a copy of it where the file system has no links."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if is_disk_full(error):
            raise
        shutil.copyfile(source, target)
        sync(target)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk or the quota is full.

    Native writers (safetensors, Arrow) wrap the operating system's code in words of their own.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def as_user_error(error: OSError) -> UserError | None:
    """What the operating system refused, and what to do; None where it names no file, which is our bug."""
    if is_disk_full(error):
        remedy = "free some space, or put the workspace on a larger disk with REWARM_HOME"
        return ResourceError("the disk is full", where=error.filename, remedy=remedy)
    if error.filename is None:
        return None
    return ResourceError(
        (error.strerror or str(error)).lower(),
        where=os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename,
        remedy="see that it is there and that this user may write to it; REWARM_HOME puts the workspace elsewhere",
    )


def bytes_of(folder: Path, sole: bool = False) -> int:
    """Bytes of all files in ``folder``; ``sole``: only of those that have no second name elsewhere."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a run at work deletes old checkpoints
                stat = Path(base, name).lstat()
                total += stat.st_size if not sole or stat.st_nlink == 1 else 0
    return total


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write on the disk that holds ``path`` (which need not exist)."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def require_space(path: Path, needed: int, purpose: str) -> None:
    """Raise ``ResourceError`` unless ``needed`` bytes are free where ``path`` lies."""
    free = free_bytes(path)
    if free < needed:
        raise ResourceError(
            f"{purpose} needs {needed / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free",
            where=path,
            remedy="free some space, or put the workspace on a larger disk with REWARM_HOME",
        )


@contextlib.contextmanager
def locked(path: Path, holder: str, wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` (the kernel lets go of it when the process dies).

    Args:
        wait: called several times a second as long as another process holds it, and may raise.

    Raises:
        Conflict: if another process holds it and there is no ``wait``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait is None:
                    raise Conflict(
                        f"{holder} is in use by another process", where=path, remedy="wait until it has ended"
                    ) from None
            wait()
            time.sleep(_POLL_SECONDS)
        yield
