"""How the files of a source are cut into the parts that workers read: by the files alone.

A slice holds small files together, one large file, or a byte range of a large unpacked file of jsonl, or of row
groups of a Parquet file.
A run of small files is cut where a lot, drawn by the name and size of each file, is lowest, and its parts again
until they are small enough; so a file that comes or goes changes the group it falls into, seldom a neighbour, and
no other. The size that slices aim at grows with the source, in steps of four: at 256 MiB, 1 GiB and 4 GiB, and at no
other time, a source that grows is read anew.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

from rewarm.core.errors import DataError, Unreachable
from rewarm.core.manifest import canonical
from rewarm.core.storage import sha256_bytes
from rewarm.data import remote
from rewarm.data.documents import Document, Reject, column_of_head, detect_format, read_documents, row_groups
from rewarm.data.files import PACKED_MAGIC, File, Meter, is_tsv, signature, stem_and_format
from rewarm.data.pdf import pdf_reader
from rewarm.data.signature import ChangedError, Signature, UnsettledError

_SMALLEST, _LARGEST, _PARTS = 1 << 20, 64 << 20, 256
_MOST_FILES, _TOO_LARGE = 10_000, 2  # of a slice; times the size that is aimed at
_UNPACKED, _LARGE_TABLE = 16, 4
VERSION = 4
"""Goes up whenever the same file would be read as other documents."""


@dataclass(frozen=True)
class Slice:
    """A part of a source that one worker reads: some whole files, or a byte range of a large one."""

    source: str
    number: int
    files: tuple[File, ...]
    format: str
    text_column: str | None
    start: int = 0
    end: int | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Slice:
        files = tuple(File(**{**file, "signature": Signature(*file["signature"])}) for file in value["files"])
        return cls(**{**value, "files": files})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        whole = sum(file.signature.size for file in self.files)
        return whole if self.end is None else min(self.end, whole) - self.start

    @property
    def text_bytes(self) -> int:
        """Bytes of text that it may well hold: what is packed holds several times its size."""
        packed = [
            packed or name in ("parquet", "pdf")
            for _, name, packed in (stem_and_format(file.uri) for file in self.files)
        ]
        sizes = [file.signature.size for file in self.files] if self.end is None else [self.bytes]
        return sum(size * (_UNPACKED if more else 1) for size, more in zip(sizes, packed, strict=True))

    def key(self) -> str:
        """The hash of everything that the result of reading depends on."""
        names = [stem_and_format(file.uri)[1:] for file in self.files]
        facts = [VERSION, unicodedata.unidata_version, [f.sha256 for f in self.files], names, self.format]
        if any(name in ("pdf", None) for name, _ in names) or self.format == "pdf":
            facts.append(pdf_reader())
        if tabs := [at for at, file in enumerate(self.files) if is_tsv(file.uri)]:
            facts.append({"tabs": tabs})
        return sha256_bytes(canonical([*facts, self.text_column, self.start, self.end]))

    def documents(self, index: int, meter: Meter) -> Iterator[Document | Reject]:
        """Read file ``index``.

        Raises:
            ChangedError: if the file is not what it was when it was hashed. Unreachable: if its
                server fails. DataError: if it cannot be read to its end.
        """
        file = self.files[index]
        _check_unchanged(file)
        try:
            yield from read_documents(file, self.format, self.text_column, start=self.start, end=self.end, meter=meter)
        except DataError:
            _check_unchanged(file)  # it looks damaged because somebody writes to it
            raise
        _check_unchanged(file)


def _check_unchanged(file: File) -> None:
    """Of a remote file, every block that is read is checked."""
    if not remote.is_remote(file.uri) and signature(file.uri) != file.signature:
        raise ChangedError(file.uri)


_Group = tuple[tuple[File, ...], list[tuple[int, int | None]]]
"""Files, and the byte ranges that they are read in."""


def slice_bytes(total: int) -> int:
    """Bytes that a slice aims at in a source of ``total`` bytes: 1, 4, 16 or 64 MiB."""
    size = _SMALLEST
    while size < _LARGEST and size * _PARTS < total:
        size *= 4
    return size


def slices_of(
    source: str, files: Sequence[File], format: str, text_column: str | None, cut_tables: bool = True
) -> list[Slice]:
    """The slices of a source, in reading order.

    Args:
        cut_tables: whether a damaged table may stop the build: one that is to be passed over is read as a whole.
    """
    size = slice_bytes(sum(file.signature.size for file in files))
    parts: list[Slice] = []
    for group, ranges in _groups(files, size, format, cut_tables):
        column, kind = text_column, format
        if len(ranges) > 1:  # they are of one file, and have one text column, as its first records show it
            head = group[0].head()
            kind = "parquet" if head.startswith(b"PAR1") else format
            try:
                column = column if kind == "parquet" else column_of_head(head, group[0].uri, column)
            except (UnsettledError, Unreachable):
                raise
            except DataError:
                if cut_tables:
                    raise
                ranges = [(0, None)]  # pass 1 says so, and passes over the whole of it
        for start, end in ranges:
            parts.append(Slice(source, len(parts), group, kind, column, start, end))
    return parts


def _groups(files: Sequence[File], size: int, format: str, cut_tables: bool) -> Iterator[_Group]:
    run: list[File] = []
    for file in files:
        if cuts := _cuts(file, format, size, cut_tables) if file.signature.size > size else []:
            yield from _small(run, size)
            run = []
            yield (file,), list(pairwise([*cuts, file.signature.size]))
        else:
            run.append(file)
    yield from _small(run, size)


def _small(run: list[File], size: int) -> Iterator[_Group]:
    """The run, cut where the lots are lowest until no part is too large: so the cuts stay where they are."""
    ends = list(accumulate((file.signature.size for file in run), initial=0))
    lots = [_lot(file) for file in run]
    parts = [(0, len(run))] if run else []
    while parts:
        start, end = parts.pop()
        if end - start > 1 and (ends[end] - ends[start] > _TOO_LARGE * size or end - start > _MOST_FILES):
            middle = (start + end) / 2  # it decides between equal lots, of which each would cut off one file
            at = min(range(start + 1, end), key=lambda index: (lots[index], abs(index - middle)))
            parts += [(at, end), (start, at)]
        else:
            yield tuple(run[start:end]), [(0, None)]


def _lot(file: File) -> float:
    """A number drawn by the name of a file and of the two folders above it, lower for larger files."""
    name = "/".join(file.uri.split("/")[-3:]).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(name, digest_size=7).digest()) / 2**56 / max(1, file.signature.size)


def _cuts(file: File, format: str, size: int, tables: bool) -> list[int]:
    """Where ranges of about ``size`` bytes begin, if it can be read from the middle: by lines, or by row groups.

    Files with other names are not opened for it, nor tables that are small, or on a server, where a look at the
    end of each takes longer than it saves.
    """
    _, promised, packed = stem_and_format(file.name)
    tables &= file.signature.size > _LARGE_TABLE * size and not remote.is_remote(file.uri)
    if packed or promised in ("txt", "csv", "pdf") or (promised == "parquet" and not tables):
        return []
    head = file.head()
    if head.startswith(PACKED_MAGIC) or head[257:262] == b"ustar":
        return []
    try:
        kind = detect_format(head, file.name, file.uri) if format == "auto" else format
        if kind == "parquet" and tables and head.startswith(b"PAR1"):
            return _spaced(row_groups(file), size)
    except (UnsettledError, Unreachable):
        raise
    except DataError:  # pass 1 says so
        return []
    return list(range(0, file.signature.size, size)) if kind == "jsonl" else []


def _spaced(starts: list[int], size: int) -> list[int]:
    """The first of these places, taken to be that of the file, and others that lie at least ``size`` bytes apart."""
    found = [0]
    for start in starts[1:]:
        if start - found[-1] >= size:
            found.append(start)
    return found if len(found) > 1 else []
