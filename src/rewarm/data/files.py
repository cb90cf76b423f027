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
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rewarm.core.errors import DataError

BLOCK = 1 << 20
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
PACKED = (".gz", ".zst", ".zstd", ".zip")
_ABOUT_THE_DATA = {"readme", "license", "licence", "notice", "manifest", "checksums", "dataset_info", "dataset_infos"}
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_NO_ZIP_ENTRIES = b"PK\x05\x06"
PACKED_MAGIC = (_GZIP, _ZSTD, _ZIP, b"PAR1")
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 500
_MAX_MEMBERS = 100_000
_ESCAPED = re.compile(r"\[([*?[])\]")  # as glob.escape writes it

Blocks = Iterator[bytes]


@dataclass
class Meter:
    """How far a reader has come: bytes of the file as it lies on disk, and lines or records."""

    bytes: int = 0
    lines: int = 0


@dataclass
class Listing:
    """The files of a text in reading order, and those that were passed over because they hold no documents."""

    files: list[Path] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)


def stem_and_format(name: str) -> tuple[str, str | None, bool]:
    """The bare stem of a file name, the format that its ending promises, and whether it is packed."""
    bare, ending = Path(name.lower()).stem, Path(name.lower()).suffix
    packed = ending in PACKED
    if packed:
        bare, ending = Path(bare).stem, Path(bare).suffix
    return bare, FORMATS.get(ending), packed


def list_files(paths: Iterable[str], format: str = "auto") -> Listing:
    """The files that ``paths`` (files, folders or glob patterns) name, each once, sorted by path.

    A path that exists, as it stands or without the marks of ``glob.escape``, is no pattern. Hidden
    files are not looked at. In folders, files whose ending does not promise documents (of
    ``format``, where one is given), and files about the data (README, LICENSE, manifest.json), are
    ignored and listed; so are, with format ``auto``, those that a pattern matches.

    Raises:
        DataError: if a path names nothing.
    """
    named: set[str] = set()
    found: set[str] = set()
    matched: set[str] = set()
    for path in paths:
        plain = path if os.path.lexists(path) else _ESCAPED.sub(r"\1", path)
        if Path(plain).is_dir():
            found.update(_walk(plain, ()))
        elif os.path.lexists(plain):
            named.add(plain)
        elif matches := glob.glob(path, recursive=True):  # noqa: PTH207  (sorted as text below)
            for match in matches:
                if Path(match).is_dir():
                    found.update(_walk(match, ()))
                else:
                    matched.add(match)
        else:
            raise DataError("there is no such file or folder", where=plain, remedy="correct the path in the recipe")
    listing = Listing()
    for name in sorted(found | named | matched):
        wanted = name in named or promises_documents(name, format, name in matched)
        (listing.files if wanted else listing.ignored).append(Path(name))
    return listing


def promises_documents(name: str, format: str, matched: bool = False) -> bool:
    """Whether a file that was not named itself is taken, by its ending."""
    stem, promised, packed = stem_and_format(name)
    if stem in _ABOUT_THE_DATA:
        return False
    if format == "auto":
        return promised is not None or packed
    return matched or promised == format or (promised is None and packed)


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    info = Path(folder).stat()
    here = (info.st_dev, info.st_ino)
    if here in above:
        raise DataError("this link leads back to a folder above it", where=folder, remedy="remove the link")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror}", where=folder) from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, (*above, here))
        else:
            yield entry.path


@contextlib.contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """What goes wrong with the file ``path`` inside comes out as a ``DataError`` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("the file is not there (or is a link that leads nowhere)", where=path) from None
    except OSError as error:
        if error.errno is None:  # gzip, pyarrow
            raise DataError(f"the file is damaged: {error}", where=path, remedy=_REMEDY) from None
        raise DataError(f"the file cannot be read: {error.strerror}", where=path) from None
    except (zlib.error, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"the file is damaged: {error}", where=path, remedy=_REMEDY) from None


_REMEDY = "get the file again, or pass it over with on_bad_file: skip"


def signature(path: Path) -> tuple[int, int, int]:
    """Size, time of change and inode of a regular file, to notice when it changes.

    Raises:
        DataError: if the path is a pipe, a socket, a device or a folder, or is not there.
    """
    with errors_named(path):
        info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise DataError(
            "this is not a regular file", where=path, remedy="name a file; pipes and devices cannot be read twice"
        )
    return info.st_size, info.st_mtime_ns, info.st_ino


def raw_blocks(path: Path, meter: Meter, start: int = 0) -> Blocks:
    """The bytes of a file from ``start`` on, in blocks of 1 MiB."""
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(BLOCK):
            meter.bytes += len(block)
            yield block


def members(path: Path, meter: Meter, format: str = "auto") -> Iterator[tuple[str, Blocks]]:
    """The name and the unpacked content of what ``path`` holds: itself, or the members of a zip archive.

    Raises:
        DataError, EOFError, zlib.error, zipfile.BadZipFile: also in the middle of a content, if it
            turns out to be cut, damaged, encrypted or a bomb.
    """
    signature(path)
    head, blocks = peek(raw_blocks(path, meter))
    if not head and path.suffix.lower() in PACKED:
        raise EOFError("it is empty")
    if head.startswith((_ZIP, _NO_ZIP_ENTRIES)):
        yield from _zip_members(path, meter, format)
    else:
        yield path.name, unpacked(blocks, path)


def peek(blocks: Iterator[bytes]) -> tuple[bytes, Blocks]:
    """The first block that is not empty (or an empty one at the end), and all blocks including it."""
    head = next(filter(None, blocks), b"")
    return head, itertools.chain((head,), blocks)


def _zip_members(path: Path, meter: Meter, format: str) -> Iterator[tuple[str, Blocks]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_MEMBERS:
            raise DataError(f"the archive has {len(entries)} members, more than {_MAX_MEMBERS}", where=path)
        meter.bytes = 0
        size = path.stat().st_size
        for done, entry in enumerate(sorted(entries, key=lambda e: (e.filename, e.header_offset))):
            base = entry.filename.rpartition("/")[2]
            if entry.is_dir() or base.startswith(".") or entry.filename.startswith("__MACOSX/"):
                continue
            if not promises_documents(base, format):
                continue
            if entry.flag_bits & 1:
                raise DataError("the archive is encrypted", where=path, remedy="unpack it with its password first")
            meter.bytes = size * done // len(entries)
            with archive.open(entry) as file:
                content = iter(lambda f=file: f.read(BLOCK), b"")  # type: ignore[misc]
                yield entry.filename, unpacked(_defused(content, entry.compress_size, path), path, nested=True)
        meter.bytes = size


def unpacked(blocks: Iterator[bytes], path: Path, nested: bool = False) -> Blocks:
    """The content of a stream that may be packed with gzip or zstd."""
    head, blocks = peek(blocks)
    if head.startswith(_ZIP) and nested:
        raise DataError("an archive inside an archive is not read", where=path, remedy="unpack the outer one")
    if head.startswith(_GZIP):
        return _gunzip(blocks, path)
    if head.startswith(_ZSTD) or (len(head) > 3 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return _unzstd(blocks, path)
    return blocks


def _defused(blocks: Iterator[bytes], packed: int, path: Path) -> Blocks:
    done = 0
    for block in blocks:
        done += len(block)
        _refuse_bomb(packed, done, path)
        yield block


def _refuse_bomb(packed: int, done: int, path: Path) -> None:
    if done > _BOMB_BYTES and done > _BOMB_RATIO * packed:
        raise DataError(f"{packed} packed bytes hold more than {done} bytes: this is no text", where=path)


def _gunzip(blocks: Iterator[bytes], path: Path) -> Blocks:
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
            _refuse_bomb(taken, given, path)
            yield out
            block = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    while not inflater.eof:
        if not (out := inflater.decompress(b"", BLOCK)):
            raise EOFError("the gzip stream ends before its end mark")
        yield out


def _unzstd(blocks: Iterator[bytes], path: Path) -> Blocks:
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
                    _refuse_bomb(taken, given, path)
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


def lines_of_range(path: Path, meter: Meter, cap: int, start: int, end: int) -> Iterator[bytes | None]:
    """The lines of an unpacked file that begin at bytes ``start`` to ``end``; ranges share no line."""
    if start == 0:
        return lines(raw_blocks(path, meter), meter, cap, end)
    blocks = raw_blocks(path, meter, start - 1)  # a newline there means that a line begins at `start`
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
