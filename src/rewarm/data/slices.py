"""How the files of a source are cut into the parts that workers read: by the files alone.

A slice holds small files together, one large file, or a byte range of a large unpacked jsonl file.
Its size grows with the source, so that there is enough to share out and never too many shards.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewarm.core.errors import DataError
from rewarm.core.manifest import canonical
from rewarm.core.storage import sha256_bytes
from rewarm.data.documents import Reject, column_of_head, detect_format, read_documents
from rewarm.data.files import BLOCK, PACKED_MAGIC, Meter, signature, stem_and_format

_SMALLEST, _LARGEST, _PARTS = 1 << 20, 64 << 20, 64
_MOST_FILES = 10_000
VERSION = 1
"""Goes up whenever the same file would be read as other documents."""


@dataclass(frozen=True)
class SliceFile:
    """A file of a slice as it was when its content was hashed."""

    path: str
    sha256: str
    signature: tuple[int, int, int]


@dataclass(frozen=True)
class Slice:
    """A part of a source that one worker reads: some whole files, or a byte range of a large jsonl file."""

    source: str
    number: int
    files: tuple[SliceFile, ...]
    format: str
    text_column: str | None
    start: int = 0
    end: int | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Slice:
        files = tuple(SliceFile(f["path"], f["sha256"], tuple(f["signature"])) for f in value["files"])
        return cls(**{**value, "files": files})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        whole = sum(file.signature[0] for file in self.files)
        return whole if self.end is None else min(self.end, whole) - self.start

    def key(self) -> str:
        """The hash of everything that the result of reading depends on."""
        names = [stem_and_format(file.path)[1:] for file in self.files]
        facts = [VERSION, unicodedata.unidata_version, [f.sha256 for f in self.files], names, self.format]
        return sha256_bytes(canonical([*facts, self.text_column, self.start, self.end]))

    def documents(self, index: int, meter: Meter) -> Iterator[str | Reject]:
        """Read file ``index``.

        Raises:
            DataError: if the file is not what it was when it was hashed, or cannot be read to its end.
        """
        file = self.files[index]
        path = Path(file.path)
        _check_unchanged(path, file)
        yield from read_documents(path, self.format, self.text_column, start=self.start, end=self.end, meter=meter)
        _check_unchanged(path, file)


def _check_unchanged(path: Path, file: SliceFile) -> None:
    if signature(path) != file.signature:
        raise ChangedError(path)


class ChangedError(DataError):
    """A file that somebody writes to while it is read; never passed over as a merely damaged one."""

    def __init__(self, path: Path) -> None:
        super().__init__("the file changed while it was read", where=path, remedy="run again when nobody writes to it")


def slice_bytes(total: int) -> int:
    """Bytes of a slice in a source of ``total`` bytes: a power of two, so that growth seldom changes it."""
    wanted = max(_SMALLEST, min(_LARGEST, total // _PARTS))
    return 1 << (wanted - 1).bit_length()


def slices_of(source: str, files: Sequence[SliceFile], format: str, text_column: str | None) -> list[Slice]:
    """The slices of a source, in reading order."""
    size = slice_bytes(sum(file.signature[0] for file in files))
    parts: list[Slice] = []
    for group, ranges in _groups(files, size, format):
        # one file cut into ranges has one text column, as its first records show it
        column = text_column or (_column(group[0]) if len(ranges) > 1 else None)
        for start, end in ranges:
            parts.append(Slice(source, len(parts), group, format, column, start, end))
    return parts


def _column(file: SliceFile) -> str | None:
    path = Path(file.path)
    return column_of_head(_head(path), path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BLOCK)


def _groups(
    files: Sequence[SliceFile], size: int, format: str
) -> Iterator[tuple[tuple[SliceFile, ...], list[tuple[int, int | None]]]]:
    group: list[SliceFile] = []
    held = 0
    for file in files:
        length = file.signature[0]
        large = length > size
        if group and (large or held + length > size or len(group) >= _MOST_FILES):
            yield tuple(group), [(0, None)]
            group, held = [], 0
        if large and _can_be_cut(Path(file.path), format):
            yield (file,), [(start, min(start + size, length)) for start in range(0, length, size)]
            continue
        group.append(file)
        held += length
    if group:
        yield tuple(group), [(0, None)]


def _can_be_cut(path: Path, format: str) -> bool:
    """Whether lines can be read from the middle: an unpacked jsonl file."""
    head = _head(path)
    if head.startswith(PACKED_MAGIC):
        return False
    if format != "auto":
        return format == "jsonl"
    try:
        return detect_format(head, path.name, path) == "jsonl"
    except DataError:
        return False
