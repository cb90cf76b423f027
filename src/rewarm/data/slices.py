"""How the files of a source are cut into the parts that workers read: by the files alone.

A slice holds small files together, one large file, or a byte range of a large unpacked jsonl file.
Its size grows with the source, so that there is enough to share out and never too many shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rewarm.core.errors import DataError
from rewarm.data.documents import column_of_head, detect_format
from rewarm.data.files import BLOCK, PACKED_MAGIC
from rewarm.data.scan import Slice, SliceFile

_SMALLEST, _LARGEST, _PARTS = 1 << 20, 64 << 20, 64
_MOST_FILES = 10_000


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
