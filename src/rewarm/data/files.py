"""The files of a text, and their bytes: listed in a fixed order, unpacked as a stream, checked to the end.

Nothing is ever unpacked to disk. A compressed file counts as whole only when its end was seen:
a cut gzip or zstd file otherwise looks like a shorter text.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from rewarm.core.errors import DataError
from rewarm.data import remote
from rewarm.data.signature import Signature

BLOCK = 1 << 20
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    **dict.fromkeys((".txt", ".md", ".markdown", ".html", ".htm", ".xhtml"), "txt"),
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pdf": "pdf",
}
PACKED = (".gz", ".tgz", ".zst", ".zstd", ".zip", ".tar")
_ABOUT_THE_DATA = {
    *("readme", "license", "licence", "notice", "manifest", "checksums", "dataset_info", "dataset_infos"),
    *("changelog", "citation", "contributing", "datasheet", "data_card", "dataset_card"),
}
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_NO_ZIP_ENTRIES, _ZIP_MEMBER = b"PK\x05\x06", b"PK\x01\x02"
PACKED_MAGIC = (_GZIP, _ZSTD, _ZIP)
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 500
_MAX_MEMBERS = 100_000
_MAX_LIST = 64 << 20  # bytes of the list of members of a zip archive
_SOLID = 4 << 30  # bytes up to which a file may have holes
_ESCAPED = re.compile(r"\[([*?[])\]")  # as glob.escape writes it

Blocks = Iterator[bytes]


@dataclass
class Meter:
    """How far a reader has come: bytes of the file as it lies on disk, and lines or records.

    And what it met: the columns that texts were found in, and members of archives that it passed over.
    """

    bytes: int = 0
    lines: int = 0
    columns: set[str] = field(default_factory=set)
    ignored: list[str] = field(default_factory=list)


@dataclass
class Listing:
    """The files of a text in reading order, and those that were passed over because they hold no documents.

    ``signatures`` has those of remote files, as their servers listed them.
    """

    files: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    signatures: dict[str, Signature] = field(default_factory=dict)

    def file(self, uri: str, connection: str | None) -> File:
        """One of them, as its server listed it or as it is now. Raises ``DataError`` as ``signature`` does."""
        return File(uri, self.signatures.get(uri) or signature(uri, connection), connection)


@dataclass(frozen=True)
class File:
    """A file to read, wherever it lies, as it was when it had that signature.

    ``sha256``, where that is known, is of a local file's content, and of a remote one's URI, size and version.
    """

    uri: str
    signature: Signature
    connection: str | None = None
    sha256: str = ""

    @classmethod
    def at(cls, uri: str | Path, connection: str | None = None) -> File:
        """A file as it is now. Raises ``DataError`` if it is none, or not to be had."""
        return cls(str(uri), signature(str(uri), connection), connection)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.uri.rpartition("/")[2]

    def open(self) -> BinaryIO:
        """The bytes, seekable; those of a remote file are verified and cached."""
        if remote.is_remote(self.uri):
            return remote.open_remote(self.uri, self.connection, self.signature)
        return Path(self.uri).open("rb")

    def head(self) -> bytes:
        """Its first block. Raises ``DataError`` if it cannot be read."""
        with errors_named(self.uri), self.open() as file:
            return file.read(BLOCK)


def stem_and_format(name: str) -> tuple[str, str | None, bool]:
    """The bare stem of a file name, the format that its ending promises, and whether it is packed."""
    bare, ending = Path(name.lower()).stem, Path(name.lower()).suffix
    packed = ending in PACKED
    if packed:
        bare, ending = Path(bare).stem, Path(bare).suffix
    return bare, FORMATS.get(ending), packed


def is_tsv(name: str) -> bool:
    """Whether the file's name says that tabs stand between its columns."""
    return ".tsv" in Path(name.lower()).suffixes[-2:]


def list_files(paths: Iterable[str], format: str = "auto", connection: str | None = None) -> Listing:
    """The files that ``paths`` (files, folders, glob patterns, URIs) name, each once, sorted by path.

    A path that exists, as it stands or without the marks of ``glob.escape``, is no pattern. Hidden
    files are not looked at. In folders, files whose ending does not promise documents (of
    ``format``, where one is given), and files about the data (README, LICENSE, manifest.json), are
    ignored and listed; so are, with format ``auto``, those that a pattern matches.

    Args:
        connection: the connection of the workspace that URIs are read through.

    Raises:
        DataError: if a path names nothing, or a server does not show it.
    """
    named: set[str] = set()
    found: set[str] = set()
    matched: set[str] = set()
    listing = Listing()
    for path in paths:
        if remote.is_remote(path):
            exact, below, alike = _remote_files(path, connection)
            for names, entries in ((named, exact), (found, below), (matched, alike)):
                listing.signatures |= entries
                names.update(entries)
            continue
        plain = path if _is_there(path) else _ESCAPED.sub(r"\1", path)
        here = [plain] if _is_there(plain) else glob.glob(path, recursive=True)  # noqa: PTH207  (sorted as text below)
        if not here:
            from rewarm.core.connections import check_uri  # pydantic: a tenth of a second, and few paths need it

            check_uri(path)
            raise DataError("there is no such file or folder", where=plain, remedy="correct the path in the recipe")
        for name in here:
            if _is_folder(name):
                found.update(_walk(name, ()))
            else:
                (named if name == plain else matched).add(name)
    for name in sorted(found | named | matched):
        wanted = name in named or promises_documents(name, format, name in matched)
        (listing.files if wanted else listing.ignored).append(name)
    return listing


def _remote_files(path: str, connection: str | None) -> tuple[dict[str, Signature], ...]:
    """The file of that name, or the files below that folder, or those that match that pattern."""
    plain = _ESCAPED.sub(r"\1", path)
    below = remote.files(plain, connection)
    if plain in below:
        return below, {}, {}
    if below:
        return {}, below, {}
    if remote.has_magic(path) and (alike := remote.matches(path, connection)):
        return {}, {}, alike
    raise DataError(
        "there is no such file or folder",
        where=plain,
        remedy="correct the path, or see what is there with: rewarm connections browse",
    )


def promises_documents(name: str, format: str, matched: bool = False) -> bool:
    """Whether a file that was not named itself is taken, by its ending."""
    stem, promised, packed = stem_and_format(name)
    if stem in _ABOUT_THE_DATA:
        return False
    if format == "auto":
        return promised is not None or packed
    return matched or promised == format or (promised is None and packed)


def _is_there(path: str) -> bool:
    with errors_named(path), contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
        os.lstat(path)
        return True
    return False


def _is_folder(path: str) -> bool:
    with errors_named(path):
        return Path(path).is_dir()


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    with errors_named(folder):
        info = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    here = (info.st_dev, info.st_ino)
    if here in above:
        raise DataError("this link leads back to a folder above it", where=folder, remedy="remove the link")
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry.path) if entry.is_symlink() else entry.is_dir():
            yield from _walk(entry.path, (*above, here))
        else:
            yield entry.path


@contextlib.contextmanager
def errors_named(path: str) -> Iterator[None]:
    """What goes wrong with the file ``path`` inside comes out as a ``DataError`` that names it."""
    try:
        yield
    except FileNotFoundError:
        what = "the file is not there (or is a link that leads nowhere)"
        raise DataError(what, where=path, remedy="correct the path, or remove the link") from None
    except OSError as error:
        if error.errno is None:  # gzip, pyarrow
            raise DataError(f"the file is damaged: {error}", where=path, remedy=_REMEDY) from None
        remedy = "look at its permissions, and at where it leads if it is a link"
        raise DataError(f"it cannot be read: {error.strerror}", where=path, remedy=remedy) from None
    except (zlib.error, EOFError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError) as error:
        raise DataError(f"the file is damaged: {error}", where=path, remedy=_REMEDY) from None


_REMEDY = "get the file again, or pass it over with on_bad_file: skip"
_CROWD = "put the documents into jsonl files, or make several archives of it"


def signature(uri: str, connection: str | None = None) -> Signature:
    """What a file's state is known by, to notice when it changes.

    Raises:
        DataError: if it is a pipe, a socket, a device or a folder, or is not there or not to be had.
    """
    if remote.is_remote(uri):
        return remote.signature(uri, connection)
    with errors_named(uri):
        info = Path(uri).stat()
    if not stat.S_ISREG(info.st_mode):
        raise DataError(
            "this is not a regular file", where=uri, remedy="name a file; pipes and devices cannot be read twice"
        )
    if info.st_size > _SOLID:  # reading a terabyte of zeros that lie on no disk would take hours
        with errors_named(uri), Path(uri).open("rb") as file:
            if (hole := os.lseek(file.fileno(), 0, os.SEEK_HOLE)) < info.st_size:
                what = f"there is a hole at byte {hole} of {info.st_size}: a download that never ended?"
                raise DataError(what, where=uri, remedy=_REMEDY)
    return Signature(info.st_size, f"{info.st_mtime_ns}-{info.st_ino}")


def raw_blocks(file: File, meter: Meter, start: int = 0) -> Blocks:
    """The bytes of a file from ``start`` on, in blocks of 1 MiB."""
    with file.open() as source:
        source.seek(start)
        while block := source.read(BLOCK):
            meter.bytes += len(block)
            yield block


def members(file: File, meter: Meter, format: str = "auto") -> Iterator[tuple[str, Blocks]]:
    """The name and the unpacked content of what a file holds: itself, or the members of an archive.

    Raises:
        DataError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError: also in the middle of
            a content, if it turns out to be cut, damaged, encrypted or a bomb.
    """
    head, blocks = peek(raw_blocks(file, meter))
    if not head and file.name.lower().endswith(PACKED):
        raise EOFError("it is empty")
    if head.startswith((_ZIP, _NO_ZIP_ENTRIES)):
        yield from _zip_members(file, meter, format)
        return
    head, blocks = peek(unpacked(blocks, file.uri))
    if head[257:262] == b"ustar":
        yield from _tar_members(blocks, file.uri, meter, format)
    else:
        yield file.name, blocks


def peek(blocks: Iterator[bytes]) -> tuple[bytes, Blocks]:
    """The first block that is not empty (or an empty one at the end), and all blocks including it."""
    head = next(filter(None, blocks), b"")
    return head, itertools.chain((head,), blocks)


def _zip_members(file: File, meter: Meter, format: str) -> Iterator[tuple[str, Blocks]]:
    where, size = file.uri, file.signature.size
    with file.open() as source, zipfile.ZipFile(cast(BinaryIO, _Uncrowded(source, where))) as archive:
        entries = archive.infolist()
        meter.bytes = 0
        for done, entry in enumerate(sorted(entries, key=lambda e: (e.filename, e.header_offset))):
            if entry.is_dir() or not _is_wanted(entry.filename, format, meter):
                continue
            if entry.flag_bits & 1:
                raise DataError("the archive is encrypted", where=where, remedy="unpack it with its password first")
            meter.bytes = size * done // len(entries)
            with archive.open(entry) as member:
                content = iter(lambda f=member: f.read(BLOCK), b"")  # type: ignore[misc]
                yield entry.filename, unpacked(_defused(content, entry.compress_size, where), where, nested=True)
        meter.bytes = size


class _Uncrowded:
    """The file of an archive whose list of members, which is read at once, is looked at before it fills the memory."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, _MAX_LIST + 1) if size >= 0 else _MAX_LIST + 1)
        if len(data) > _MAX_LIST or data.count(_ZIP_MEMBER) > _MAX_MEMBERS:
            what = f"the archive has more than {_MAX_MEMBERS} members, or very long names for them"
            raise DataError(what, where=self._where, remedy=_CROWD)
        return data


def _is_wanted(member: str, format: str, meter: Meter, kind: bool = True) -> bool:
    """Whether a member (of a ``kind`` that can be read) is; those that are not are noted, unless they are hidden."""
    base = member.rpartition("/")[2]
    if base.startswith(".") or member.startswith("__MACOSX/"):
        return False
    wanted = kind and promises_documents(base, format)
    if not wanted:
        meter.ignored.append(member)
    return wanted


def _tar_members(blocks: Blocks, where: str, meter: Meter, format: str) -> Iterator[tuple[str, Blocks]]:
    """The files of a tar archive as a stream, in its order; links and devices are passed over."""
    stream = _Stream(blocks)
    source = cast(BinaryIO, stream)
    with tarfile.open(fileobj=source, mode="r|", bufsize=BLOCK, errors="backslashreplace") as archive:
        for count, entry in enumerate(archive):
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if count >= _MAX_MEMBERS:
                raise DataError(f"the archive has more than {_MAX_MEMBERS} members", where=where, remedy=_CROWD)
            if not entry.isdir() and _is_wanted(entry.name, format, meter, entry.isreg()):
                member = cast(BinaryIO, archive.extractfile(entry))
                content = iter(lambda f=member: f.read(BLOCK), b"")  # type: ignore[misc]
                yield entry.name, unpacked(content, where, nested=True)
    while stream.read(BLOCK):
        pass
    if stream.last.strip(b"\0"):
        raise EOFError("the tar archive ends before its end mark")


class _Stream:
    """Blocks as what tarfile reads from; ``last`` has the end of what was read."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks, self._block, self._at, self.last = blocks, b"", 0, b"?"

    def read(self, size: int) -> bytes:
        if self._at == len(self._block):
            self._block, self._at = next(filter(None, self._blocks), b""), 0
        data = self._block[self._at : self._at + size]
        self._at += len(data)
        self.last = (self.last + data[-512:])[-512:]
        return data


def unpacked(blocks: Iterator[bytes], path: str, nested: bool = False) -> Blocks:
    """The content of a stream that may be packed with gzip or zstd."""
    head, blocks = peek(blocks)
    if nested and (head.startswith(_ZIP) or head[257:262] == b"ustar"):
        raise DataError("an archive inside an archive is not read", where=path, remedy="unpack the outer one")
    if head.startswith(_GZIP):
        return _gunzip(blocks, path)
    if head.startswith(_ZSTD) or (len(head) > 3 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return _unzstd(blocks, path)
    return blocks


def _defused(blocks: Iterator[bytes], packed: int, path: str) -> Blocks:
    done = 0
    for block in blocks:
        done += len(block)
        refuse_bomb(packed, done, path)
        yield block


def refuse_bomb(packed: int, done: int, path: str) -> None:
    """Raise ``DataError`` where a few bytes hold so many that they cannot be text."""
    if done > _BOMB_BYTES and done > _BOMB_RATIO * packed:
        what = f"{packed} packed bytes hold more than {done} bytes: this is no text"
        raise DataError(what, where=path, remedy=_REMEDY)


def _gunzip(blocks: Iterator[bytes], path: str) -> Blocks:
    """gzip members one behind the other; zero bytes may follow one, anything else may not."""
    inflater, taken, given = zlib.decompressobj(31), 0, 0
    for block in blocks:
        taken += len(block)
        while block:
            if inflater.eof:
                block = block.lstrip(b"\0")
                if not block:
                    break
                inflater = zlib.decompressobj(31)
            out = inflater.decompress(block, BLOCK)
            given += len(out)
            refuse_bomb(taken, given, path)
            yield out
            block = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    while not inflater.eof:
        if not (out := inflater.decompress(b"", BLOCK)):
            raise EOFError("the gzip stream ends before its end mark")
        yield out


def _unzstd(blocks: Iterator[bytes], path: str) -> Blocks:
    """zstd frames one behind the other; the last one must end."""
    import zstandard  # a fifth of a worker's start, and few sources need it

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    frame, taken, given, open_frame = decompressor.decompressobj(), 0, 0, False
    try:
        for block in blocks:
            for begin in range(0, len(block), 2048):  # 2 KiB may unpack to 64 MiB, a whole block to gigabytes
                data = block[begin : begin + 2048]
                taken += len(data)
                while data:
                    out = frame.decompress(data)
                    open_frame, data = True, b""
                    given += len(out)
                    refuse_bomb(taken, given, path)
                    if out:
                        yield out
                    if frame.eof:
                        data, frame, open_frame = frame.unused_data, decompressor.decompressobj(), False
    except zstandard.ZstdError as error:
        raise DataError(f"the file is damaged: {error}", where=path, remedy=_REMEDY) from None
    if open_frame:
        raise EOFError("the zstd frame ends before its end mark")


def lines(blocks: Iterator[bytes], meter: Meter, cap: int, stop: int | None = None) -> Iterator[bytes | None]:
    """Lines without their newline (that byte alone ends a line); None for one of more than ``cap`` bytes.

    A line over the cap is passed over in blocks and never held whole. With ``stop`` no line is begun
    at or behind that byte. ``meter.lines`` counts up to the line that came last.
    """
    position = size = 0  # where the line in work begins, and its length so far
    parts: list[bytes] = []
    for block in blocks:
        *ended, rest = block.split(b"\n")
        for piece in ended:
            size += len(piece)
            meter.lines += 1
            if size > cap:
                yield None
            else:
                yield b"".join((*parts, piece)) if parts else piece
            parts = []
            position, size = position + size + 1, 0
            if stop is not None and position >= stop:
                return
        size += len(rest)
        if size > cap:
            parts = []
        elif rest:
            parts.append(rest)
    if size:
        meter.lines += 1
        yield b"".join(parts) if size <= cap else None


def lines_of_range(file: File, meter: Meter, cap: int, start: int, end: int) -> Iterator[bytes | None]:
    """The lines of an unpacked file that begin at bytes ``start`` to ``end``; ranges share no line."""
    if start == 0:
        return lines(raw_blocks(file, meter), meter, cap, end)
    blocks = raw_blocks(file, meter, start - 1)  # a newline there means that a line begins at `start`
    position = start - 1
    for block in blocks:
        at = block.find(b"\n")
        if at >= 0:
            position += at + 1
            rest = itertools.chain((block[at + 1 :],), blocks)
            return lines(rest, meter, cap, end - position) if position < end else iter(())
        position += len(block)
        if position >= end:
            break
    return iter(())
