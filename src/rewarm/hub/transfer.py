"""Versions on their way: out as single files that resume and are verified, or as one archive; in out of an archive."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from rewarm.core.errors import ModelError, NotFound, UserError
from rewarm.core.manifest import MANIFEST
from rewarm.core.storage import require_space, sync
from rewarm.hub.models import Version

Progress = Callable[[str, float, float, str], None]
Read = Callable[[str, int], Iterator[bytes]]
"""The bytes of the file with this name, from this place on."""
PART = ".part"
_BLOCK = 1 << 20
_MOST_FILES = 1_000
_GZIP = b"\x1f\x8b"
_MOST_DIRECTORY = 1 << 20  # bytes of a zip's list of files


# -- out --------------------------------------------------------------------------------------------------------


def chosen(
    files: Mapping[str, dict[str, Any]], include: list[str] | None = None, exclude: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    """The files whose names fit one of ``include`` (all where there is none), and none of ``exclude``.

    Raises:
        NotFound: if none does.
    """
    found = {
        name: entry
        for name, entry in files.items()
        if (not include or any(fnmatch(name, pattern) for pattern in include))
        and not any(fnmatch(name, pattern) for pattern in exclude or ())
    }
    if not found:
        raise NotFound("no file fits --include and --exclude", remedy=f"it has: {', '.join(sorted(files))}")
    return found


def reader(version: Version) -> Read:
    """Files of a version of this workspace, for ``download``."""

    def read(name: str, start: int) -> Iterator[bytes]:
        with (version.path / name).open("rb") as file:
            file.seek(start)
            yield from iter(lambda: file.read(_BLOCK), b"")

    return read


def download(files: Mapping[str, dict[str, Any]], read: Read, target: Path, progress: Progress) -> None:
    """Bring files into the folder ``target``, each verified before it has its name.

    What an earlier try left is used: whole files that match stay, a begun one goes on where it ended.

    Args:
        files: ``bytes`` and ``sha256`` of each, as a manifest has them.

    Raises:
        UserError: a name leads out of the folder.
        ModelError: a file does not come as the manifest says, not even from the beginning.
    """
    total, done = sum(entry["bytes"] for entry in files.values()), 0
    require_space(target, sum(e["bytes"] - _there(_inside(target, n)) for n, e in files.items()), "the download")
    for name, entry in files.items():
        path = _inside(target, name)
        if not (path.is_file() and path.stat().st_size == entry["bytes"] and _sha256(path) == entry["sha256"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            begun = _there(path) > 0
            came = _fetch(name, path, entry, read, lambda n, done=done: progress("download", done + n, total, "bytes"))  # type: ignore[misc]
            if not came and not (begun and _fetch(name, path, entry, read, lambda n: None)):
                raise ModelError("what came is not what its manifest says", where=name, remedy="try again")
        done += entry["bytes"]
        progress("download", done, total, "bytes")


def _there(path: Path) -> int:
    part = path.with_name(path.name + PART)
    return part.stat().st_size if part.is_file() else path.stat().st_size if path.is_file() else 0


def _fetch(name: str, path: Path, entry: dict[str, Any], read: Read, told: Callable[[int], None]) -> bool:
    """Whether the file came as it should; a wrong one is deleted, a cut one stays for the next try."""
    part = path.with_name(path.name + PART)
    with part.open("ab") as file:
        if file.tell() > entry["bytes"]:
            file.truncate(0)
        at = file.seek(0, os.SEEK_END)
        for block in read(name, at) if at < entry["bytes"] else ():
            file.write(block)
            at += len(block)
            told(at)
            if at > entry["bytes"]:
                break
    if at < entry["bytes"]:
        raise ModelError(f"broke off after {at} of {entry['bytes']} bytes", where=name, remedy="the same command again")
    if _sha256(part) != entry["sha256"]:
        part.unlink()
        return False
    sync(part)
    part.replace(path)
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UserError("a file's name leads out of the folder", where=ascii(name), remedy="do not use this model")
    return folder.joinpath(*parts)


def archive_size(version: Version) -> int:
    """Bytes of ``archive(version)``."""
    files = _packed(version).items()
    return sum(len(_head(version, name, size)) + -(-size // 512) * 512 for name, size in files) + 1024


def archive(version: Version) -> Iterator[bytes]:
    """The version as a tar file, in blocks, without a copy on the disk: all its files below ``NAME-N/``."""
    for name, size in _packed(version).items():
        yield _head(version, name, size)
        with (version.path / name).open("rb") as file:
            left = size
            while left and (block := file.read(min(_BLOCK, left))):
                left -= len(block)
                yield block
        if left:
            raise ModelError("is shorter than its manifest says", where=version.path / name)
        yield b"\0" * (-size % 512)
    yield b"\0" * 1024


def _head(version: Version, name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(f"{version.name}-{version.number}/{name}")
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


def _packed(version: Version) -> dict[str, int]:
    sizes = {name: int(entry["bytes"]) for name, entry in version.manifest["files"].items()}
    return {**sizes, MANIFEST: (version.path / MANIFEST).stat().st_size}


# -- in ---------------------------------------------------------------------------------------------------------


def is_archive(path: Path) -> bool:
    """Whether ``path`` is a zip or tar file."""
    return path.is_file() and (_is_zip(path) or _is_tar(path))


def unpack(path: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    """Write the wanted files of a zip or tar file (also .tar.gz) into the folder ``target``, side by side.

    They may lie in one folder within the archive. Nothing is ever extracted under a name that the archive chose: a
    file is written by its last name alone, and links, devices and what leads elsewhere are refused.

    Raises:
        ModelError: the archive is damaged, has more than 1,000 files, or something else than files of one folder.
        ResourceError: the disk has too little room.
    """
    if not _is_zip(path) and not _is_tar(path):
        raise ModelError("is neither a folder, a zip nor a tar file", where=path, remedy="pack the model's folder")
    require_space(target, path.stat().st_size, "the archive's content")
    folders: set[str] = set()
    try:
        for name, odd, size, source in _zip(path) if _is_zip(path) else _tar(path):
            where = f"{path}: {name!a}"
            if odd or _inside_or_none(name) is None:
                raise ModelError("is no plain file below the archive's folder", where=where, remedy=_REPACK)
            inner = PurePosixPath(name)
            if not wanted(inner.name):
                continue
            folders.add(str(inner.parent))
            if len(folders) > 1:
                raise ModelError("the model's files lie in several folders", where=path, remedy=_REPACK)
            require_space(target, size, where)
            _write(target / inner.name, source(), size, where)
    except FileExistsError as error:
        raise ModelError("holds a file twice", where=f"{path}: {error.filename}", remedy=_REPACK) from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ModelError(f"the archive is damaged: {error}", where=path, remedy=_REPACK) from None


_REPACK = "pack the files of one Hugging Face model folder, and nothing else"
_Member = tuple[str, bool, int, Callable[[], IO[bytes]]]


def _inside_or_none(name: str) -> Path | None:
    try:
        return _inside(Path(), name)
    except UserError:
        return None


def _write(path: Path, source: IO[bytes], size: int, where: str) -> None:
    """Exactly ``size`` bytes: what an archive says of a file, it must hold to, however far it unpacks."""
    left = size
    with source, path.open("xb") as file:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                break
            file.write(block)
    if left:
        raise ModelError(f"does not have the {size} bytes that the archive says", where=where, remedy=_REPACK)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _zip(path: Path) -> Iterator[_Member]:
    """The files of a zip. Its list is bounded before it is read: a million entries would fill the memory."""
    with path.open("rb") as raw:
        size = raw.seek(0, io.SEEK_END)
        raw.seek(max(0, size - 66_000))
        tail = raw.read()
    at = tail.rfind(b"PK\x05\x06")
    listed = struct.unpack("<I", tail[at + 12 : at + 16])[0] if 0 <= at <= len(tail) - 22 else 0
    if 0 <= (far := tail.rfind(b"PK\x06\x06")) <= len(tail) - 56:  # a large zip's own
        listed = max(listed if listed != 0xFFFFFFFF else 0, struct.unpack("<Q", tail[far + 40 : far + 48])[0])
    if listed > _MOST_DIRECTORY:
        raise ModelError("lists too many files", where=path, remedy=_REPACK)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            kind = entry.external_attr >> 16 & 0o170000
            odd = kind not in (0, 0o100000, 0o040000) or bool(entry.flag_bits & 1)  # a link, a device; encrypted
            if not entry.is_dir():
                yield entry.filename, odd, entry.file_size, lambda entry=entry: archive.open(entry)  # type: ignore[misc]


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(512)
    return head[:2] == _GZIP or head[257:262] == b"ustar"


class _Entry(tarfile.TarInfo):
    """An entry whose long names and other headers are bounded: tarfile takes them into memory whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) and self.size > _MOST_DIRECTORY:
            raise tarfile.ReadError("a header is too large")
        return super()._proc_member(archive)  # type: ignore[misc]


def _tar(path: Path) -> Iterator[_Member]:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(path.open("rb"))
        if source.peek(2)[:2] == _GZIP:  # tarfile's own would unpack a block without bound
            source = cast(io.BufferedReader, stack.enter_context(gzip.open(source)))
        archive = stack.enter_context(tarfile.open(fileobj=source, mode="r|", bufsize=_BLOCK, tarinfo=_Entry))
        for count, entry in enumerate(archive):
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if count >= _MOST_FILES:
                raise ModelError(f"has more than {_MOST_FILES} files", where=path, remedy=_REPACK)
            if not entry.isdir():
                yield entry.name, not entry.isreg(), entry.size, lambda e=entry: cast(IO[bytes], archive.extractfile(e))  # type: ignore[misc]
