"""Files to documents: every record comes out as its text, or as a reject with line and reason.

A bad record never ends the reading; a damaged file does (``DataError``), because how much of it is
missing cannot be known. Text is normalised to NFC and is otherwise left as it is. JSON lines are
split at the newline byte alone: U+2028 or a form feed inside a text is text.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from rewarm.core.errors import DataError
from rewarm.data.files import (
    FORMATS,
    Blocks,
    File,
    Meter,
    errors_named,
    is_tsv,
    lines,
    lines_of_range,
    members,
    peek,
    refuse_bomb,
    stem_and_format,
)
from rewarm.data.pdf import PdfError, pdf_text

URLS = ("url", "source_url", "link", "uri")
"""Where the address that a document came from is looked for."""
COLUMNS = ("text", "content", "document", "body", "input")
"""Where the text is looked for when the recipe does not say."""
CAP = 64 << 20
"""Bytes of a line or a document; what is longer is rejected without being loaded."""
_TABLE_CAP = 256 << 20
_PAGE_CAP = 384 << 20
"""Bytes of a page of a table, which is unpacked as a whole and takes twice its size of memory."""
_UNREAD = {
    **{b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR", b"\x04\x22\x4d\x18": "lz4"},
    **{b"ARROW1": "Arrow", b"ORC": "ORC", b"Obj\x01": "Avro", b"SQLite format 3": "SQLite"},
}
_BOM = codecs.BOM_UTF8
_BLANK = re.compile(r"[ \t\r\n]*")
_AHEAD = 1 << 20
_ROWS, _ROWS_BYTES = 64, 64 << 20  # of a table, that are decoded together
_DICTIONARY = 2  # the kind of a page
_LONGEST_URL = 2048

NOT_UTF8 = "broken UTF-8"
NOT_JSON = "broken JSON"
NOT_OBJECT = "not a JSON object"
MISSING = "no text"
NULL = "null text"
NOT_STRING = "text is not a string"
EMPTY = "empty text"
TOO_LONG = "longer than 64 MiB"
FIELDS = "wrong number of fields"
BAD_ROW = "broken CSV"


class Document(NamedTuple):
    """A text as it stands in the file, and the address that it came from, or an empty string."""

    raw: str
    url: str = ""

    @property
    def text(self) -> str:
        """In NFC, made anew each time."""
        return unicodedata.normalize("NFC", self.raw)


class Reject(NamedTuple):
    """A record that is no document. ``line`` counts lines, or records where a file has no lines, from 1."""

    line: int
    reason: str
    member: str = ""  # of an archive


def read_documents(
    file: File | Path | str,
    format: str = "auto",
    text_column: str | None = None,
    *,
    start: int = 0,
    end: int | None = None,
    meter: Meter | None = None,
) -> Iterator[Document | Reject]:
    """The documents of a file (or, of an unpacked one, those whose lines or row groups begin in a byte range).

    A line of a jsonl file is one record, whatever lies within it. In a json file each object with a
    text is one, at any depth: a chapter that has a text and a list of articles gives its own text
    and then theirs.

    Args:
        format: jsonl, json, txt, csv, parquet or pdf; ``auto`` goes by the content and then by the name.
        end: behind the range; a file that is read in ranges is one of jsonl, or of ``parquet`` where that is said.
        text_column: the field that holds the text, with dots between the names of objects within
            objects; None takes the first of ``COLUMNS`` that is there.
        meter: is told how far the reading has come.

    Raises:
        DataError: if the file is missing, cut, damaged, encrypted, of an unknown kind, or not one record
            of it has the text column.
    """
    file = file if isinstance(file, File) else File.at(file)
    meter = meter or Meter()
    with errors_named(file.uri):
        if end is not None and format == "parquet":
            yield from _parquet(None, file, text_column, meter, range(start, end))
            return
        if end is not None:  # slices_of has looked for the column: a range alone need not hold one record with it
            records = lines_of_range(file, meter, CAP, start, end)
            if start == 0 and file.head().startswith(_BOM):
                first = next(records, None)
                records = itertools.chain((first and first.removeprefix(_BOM),), records)
            yield from _jsonl(records, text_column, file.uri, meter, whole=False)
            return
        for name, blocks in members(file, meter, format):
            member = "" if name == file.name else name
            for item in _read(file, name, blocks, format, text_column, meter):
                yield item if not member or isinstance(item, Document) else item._replace(member=member)


def _read(
    file: File, name: str, blocks: Blocks, format: str, column: str | None, meter: Meter
) -> Iterator[Document | Reject]:
    head, blocks = peek(blocks)
    kind = detect_format(head, name, file.uri) if format == "auto" else format
    if kind == "parquet":
        plain = head.startswith(b"PAR1") and file.head().startswith(b"PAR1")
        return _parquet(None if plain else _whole(blocks, file.uri), file, column, meter)
    if head.startswith(_BOM):
        blocks = itertools.chain((head[len(_BOM) :],), itertools.islice(blocks, 1, None))
    if kind in ("txt", "pdf"):
        return _one(blocks, kind == "pdf", file.uri)
    if kind == "csv":
        return _csv(blocks, name, column, file.uri, meter)
    if kind == "json":
        return _json(blocks, column, file.uri, meter)
    column = column or column_of_head(head, file.uri)
    return _jsonl(lines(blocks, meter, CAP), column, file.uri, meter)


def detect_format(head: bytes, name: str, where: str) -> str:
    """The format of a content that begins with ``head`` under the name ``name``.

    Raises:
        DataError: if neither says.
    """
    _, promised, _ = stem_and_format(name)
    if head.startswith(b"PAR1"):
        return "parquet"
    if promised is None and head.startswith(b"%PDF-"):
        return "pdf"
    begin = head.removeprefix(_BOM).lstrip()
    if promised in ("csv", "parquet", "pdf") and begin.startswith((b'{"', b'[{"')):
        promised = None  # the name is wrong
    if promised in ("jsonl", "json") or (promised is None and begin[:1] in (b"[", b"{")):
        return _json_or_jsonl(begin, promised)
    if promised is None and begin[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "txt"
    if promised is None and (packer := next((name for magic, name in _UNREAD.items() if head.startswith(magic)), None)):
        raise DataError(
            f"{packer} is not read", where=where, remedy="write it as jsonl or Parquet, or pack it with zstd"
        )
    if promised is None:
        raise DataError(
            "neither its name nor its content says how documents lie in it",
            where=where,
            remedy=f"set format, or rename it to one of {', '.join(FORMATS)}",
        )
    return promised


def _json_or_jsonl(head: bytes, promised: str | None) -> str:
    """One document a line, or one JSON value over all lines."""
    first, newline, rest = head.partition(b"\n")
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        if promised is None or promised == "json":
            return "json" if newline or promised == "json" else "jsonl"
        # an array under the name of jsonl; a broken first record looks otherwise
        return "json" if first.strip() in (b"[", b"[{") or first.startswith((b'[{"', b'[ {"')) else "jsonl"
    if isinstance(value, list):
        return "jsonl" if rest.lstrip()[:1] in (b"{", b"[") else "json"
    return "jsonl" if promised == "jsonl" or rest.strip() else "json"


def accept(value: object, line: int, url: str = "", *, sound: bool = False) -> Document | Reject:
    """The document of a text, or why it is none; a lone surrogate stands for a broken byte, or a broken escape.

    Args:
        sound: whether it is known to come from UTF-8 of at most ``CAP`` bytes.
    """
    if not isinstance(value, str):
        return Reject(line, NULL if value is None else NOT_STRING)
    try:
        if not sound and len(value.encode()) > CAP:
            return Reject(line, TOO_LONG)
    except UnicodeEncodeError:
        return Reject(line, NOT_UTF8)
    if not value or value.isspace():
        return Reject(line, EMPTY)
    return Document(value, url.encode(errors="replace").decode())


def _url(record: dict[str, Any]) -> str:
    for name in URLS:
        url = record.get(name)
        if type(url) is str and url:
            return url[:_LONGEST_URL]
    return ""


def _holder(record: dict[str, Any], column: str) -> tuple[dict[str, Any], str] | None:
    """The object within ``record`` that holds a column such as ``data.body.text``, and its name there."""
    if column in record:
        return record, column
    inner: Any = record
    *names, last = column.split(".")
    for name in names:
        inner = inner.get(name) if isinstance(inner, dict) else None
    return (inner, last) if isinstance(inner, dict) and last in inner else None


def _jsonl(
    records: Iterator[bytes | None], column: str | None, where: str, meter: Meter, whole: bool = True
) -> Iterator[Document | Reject]:
    strange: DataError | None = None  # about the first record without the column
    for line in records:
        if line is None:
            yield Reject(meter.lines, TOO_LONG)
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            if line.strip():  # an empty line is no record
                yield Reject(meter.lines, _why_broken(line))
            continue
        if type(record) is not dict:
            yield Reject(meter.lines, NOT_OBJECT)
            continue
        if column is None:
            column = choose_column([record], where)
        if found := _holder(record, column):
            meter.columns.add(column)
            # orjson takes no broken UTF-8 and no lone surrogate, and no text is longer than its line
            yield accept(found[0][found[1]], meter.lines, _url(found[0]) or _url(record), sound=True)
        else:
            strange = strange or _no_column(list(record), where, column, meter.lines)
            yield Reject(meter.lines, MISSING)
    if strange and whole and not meter.columns:
        raise strange


def _why_broken(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return NOT_JSON


def choose_column(records: list[dict[str, Any]], where: str) -> str:
    """The field that holds the text in ``records``, of which there is at least one.

    Raises:
        DataError: naming the fields, if none is known as a text field.
    """
    for with_text in (True, False):
        for column in COLUMNS:
            if any(column in r and (not with_text or isinstance(r[column], str)) for r in records):
                return column
    raise _no_column(list(records[0]), where)


def _no_column(columns: Sequence[str], where: str, wanted: str | None = None, line: int = 1) -> DataError:
    looked = f"no text column: looked for {', '.join(COLUMNS)}" if wanted is None else f"there is no column {wanted!r}"
    shown = ", ".join(repr(c) for c in columns[:20]) or "none"
    what = f"{looked}; the columns {f'of record {line} ' if line > 1 else ''}are {shown}"
    return DataError(what, where=where, remedy="name the column of the text with text_column")


def column_of_head(head: bytes, where: str, named: str | None = None) -> str | None:
    """The text column as the first records show it; None where the head holds no whole object.

    Raises:
        DataError: if none of them has a known one, or the one that is named.
    """
    records = []
    for line in head.removeprefix(_BOM).split(b"\n")[:-1][:100]:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records.append(record)
    if named is None:
        return choose_column(records, where) if records else None
    if records and not any(_holder(record, named) for record in records):
        raise _no_column(list(records[0]), where, named)
    return named


def _one(blocks: Blocks, pdf: bool, where: str) -> Iterator[Document | Reject]:
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        size += len(block)
        if size > CAP:
            parts = []
            continue  # to the end, so that a damaged file is noticed
        parts.append(block)
    if size > CAP:
        yield Reject(1, TOO_LONG)
        return
    try:
        text = pdf_text(b"".join(parts), CAP, where) if pdf else b"".join(parts).decode()
        yield Reject(1, TOO_LONG) if text is None else accept(text, 1)
    except PdfError as error:
        yield Reject(1, str(error))
    except UnicodeDecodeError as error:
        yield Reject(1 + b"".join(parts)[: error.start].count(b"\n"), NOT_UTF8)


def _json(blocks: Blocks, column: str | None, where: str, meter: Meter) -> Iterator[Document | Reject]:
    strange: DataError | None = None  # about the first object that had no text
    wanted = [column] if column else list(COLUMNS)
    for value in _json_values(blocks, where):
        for record in _records(value, wanted):
            meter.lines += 1
            if not isinstance(record, dict):
                yield Reject(meter.lines, NOT_OBJECT)
                continue
            if len(wanted) > 1 and any(c in record for c in wanted):
                wanted[:] = [choose_column([record], where)]
            if len(wanted) == 1 and (holder := _holder(record, wanted[0])):
                meter.columns.add(wanted[0])
                yield accept(holder[0][holder[1]], meter.lines, _url(holder[0]) or _url(record))
            else:
                strange = strange or _no_column(list(record), where, column, meter.lines)
                yield Reject(meter.lines, MISSING)
    if strange and not meter.columns:
        raise strange


def _records(value: Any, wanted: Sequence[str]) -> Iterator[Any]:
    """The objects in a JSON value that have a text, and whatever else holds nothing deeper and is no part of one."""
    stack = [(value, False)]
    while stack:
        item, within = stack.pop()
        if isinstance(item, list):
            stack.extend((inner, within) for inner in reversed(item))
        elif isinstance(item, dict):
            texts = [found[0][found[1]] for name in wanted if (found := _holder(item, name))]
            texts = [t for t in texts if t] if within else texts  # an empty one is a part of the record around it
            is_one = bool(texts) and (
                not all(isinstance(t, list | dict) for t in texts) or not _holds_text(texts, wanted)
            )
            inner = [v for v in item.values() if isinstance(v, list | dict)]
            if is_one or not (inner or within):
                yield item
            stack.extend((v, within or is_one) for v in reversed(inner))
        elif not within:
            yield item


def _holds_text(stack: list[Any], wanted: Sequence[str]) -> bool:
    """Whether an object with a text lies in one of the values, which are used up."""
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if any((found := _holder(item, c)) and isinstance(found[0][found[1]], str) for c in wanted):
                return True
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False


def _json_values(blocks: Blocks, where: str) -> Iterator[Any]:
    """The values of a file: the elements of a top-level array one by one, or values that follow one another."""
    parse = json.JSONDecoder(parse_int=float).raw_decode  # no number is wanted, and int() refuses long ones
    texts = codecs.iterdecode(blocks, "utf-8", "surrogateescape")
    text, position, count = "", 0, 0
    array, need, ended = "", _AHEAD, False  # what came last in it; characters to have before parsing

    def broken(what: object) -> DataError:
        what = f"broken JSON behind record {count}: {what}"
        return DataError(what, where=where, remedy="repair it, or write one record a line (.jsonl)")

    while True:
        if not ended and len(text) - position < need:
            text, position = _filled(text[position:], texts, need), 0
            ended = len(text) < need
        position = _BLANK.match(text, position).end()  # type: ignore[union-attr]
        mark = text[position : position + 1]
        if not mark and ended:
            break
        if mark == "[" and count == 0 and not array:
            array, position = "[", position + 1
        elif mark and ((array == "value" and mark in ",]") or array + mark == "[]"):
            array, position = mark.strip("]"), position + 1
        elif mark and array and (array == "value" or mark in ",]"):
            raise broken(f"{mark!r} where a {'comma' if array == 'value' else 'record'} should be")
        elif mark:
            try:
                value, after = parse(text, position)
            except RecursionError:
                raise broken("nested too deep") from None
            except ValueError as error:
                if ended:
                    raise broken(error) from None
                after = len(text)
            if after < len(text) or ended:
                position, need, count, array = after, _AHEAD, count + 1, array and "value"
                yield value
            elif len(text) - position >= CAP:
                raise broken("what follows, or a record longer than 64 MiB")
            else:  # it may go on behind what has been read; doubled, so that all attempts cost as much as two
                need = 2 * (len(text) - position)
    if array:
        raise broken("the array is never closed")


def _filled(text: str, texts: Iterator[str], need: int) -> str:
    """A text with what follows it, until it has as many characters as needed or there is no more."""
    parts, size = [text], len(text)
    while size < need and (more := next(texts, None)) is not None:
        parts.append(more)
        size += len(more)
    return "".join(parts)


def _csv(blocks: Blocks, name: str, column: str | None, where: str, meter: Meter) -> Iterator[Document | Reject]:
    def rows() -> Iterator[str]:
        for line in lines(blocks, meter, CAP):
            if line is None:
                raise DataError(f"line {meter.lines} is longer than 64 MiB", where=where, remedy="on_bad_file: skip")
            yield line.decode("utf-8", "surrogateescape") + "\n"

    source = rows()
    first = next((row for row in source if row.strip()), "")
    if not first:
        return
    csv.field_size_limit(CAP)
    names = COLUMNS if column is None else (column,)
    try:
        reader = csv.reader(itertools.chain((first,), source), delimiter=_delimiter(first, name, names), strict=True)
        header = next(reader)
    except csv.Error as error:
        what = "its lines end in CR alone" if "\r" in first.rstrip() else f"the header is broken: {error}"
        raise DataError(what, where=where, remedy="write its first line again, with LF behind each line") from None
    wanted = next((c for c in names if c in header), None)
    if wanted is None:
        raise _no_column(header, where, column)
    meter.columns.add(wanted)
    index, link = header.index(wanted), next((header.index(name) for name in URLS if name in header), None)
    while True:
        began = meter.lines + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "unexpected end" in str(error) or "field limit" in str(error):
                what, remedy = f"a quote opened in line {began} is never closed", "close it, or on_bad_file: skip"
                raise DataError(what, where=where, remedy=remedy) from None
            yield Reject(meter.lines, BAD_ROW)
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) == len(header):
            yield accept(row[index], began, "" if link is None else row[link][:_LONGEST_URL])
        else:
            yield Reject(began, FIELDS)


def _delimiter(header: str, name: str, columns: Sequence[str]) -> str:
    """What stands between the names of a header: one that leaves a text column by itself, else the most frequent."""
    if is_tsv(name):
        return "\t"
    alone = [d for d in ",\t;" if any(c in next(csv.reader([header], delimiter=d)) for c in columns)]
    return max(alone or ",\t;", key=header.count)


def _parquet(
    unpacked: io.BytesIO | None, file: File, column: str | None, meter: Meter, part: range | None = None
) -> Iterator[Document | Reject]:
    """The cells of a column; with ``part``, of the row groups that begin there."""
    import pyarrow  # a third of a second, and only tables need it
    import pyarrow.parquet

    try:
        # the checksums of pages are there if the writer made them; without, a flipped byte may go unnoticed
        options = {"pre_buffer": False, "buffer_size": 1 << 20, "page_checksum_verification": True}
        with unpacked or file.open() as source, pyarrow.parquet.ParquetFile(source, **options) as table:
            schema = pyarrow.struct(list(table.schema_arrow))
            wanted = _parquet_column(schema, column, file.uri)
            meter.columns.add(wanted)
            names = [wanted, *[name for name in URLS if _is_text(_type_at(schema, name))][:1]]
            every = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
            chosen = [n for n, group in enumerate(every) if part is None or _begin(group.column(0)) in part]
            rows, given = max(1, sum(every[n].num_rows for n in chosen)), 0
            for group in chosen:
                together = _rows_together(source, every[group], names, file)
                for batch in table.iter_batches(together, [group], names):
                    for text, *urls in zip(*(_cells(batch, name) for name in names), strict=True):
                        meter.lines += 1
                        given += 0 if text is None else len(text)
                        yield _accept_cell(text, meter.lines, urls[0] if urls else None)
                    refuse_bomb(file.signature.size, given, file.uri)
                    if unpacked is None:
                        meter.bytes = len(part or range(file.signature.size)) * meter.lines // rows
    except pyarrow.ArrowException as error:
        what = str(error).partition("\n")[0]
        raise DataError(
            f"the file is damaged: {what}", where=file.uri, remedy="get it again, or on_bad_file: skip"
        ) from None


def _begin(chunk: Any) -> int:
    """The first byte of a column in a row group."""
    return min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0)


def row_groups(file: File) -> list[int]:
    """Where the row groups of an unpacked Parquet file begin. Raises ``DataError`` where it is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        with file.open() as source, pyarrow.parquet.ParquetFile(source, pre_buffer=False) as table:
            about = table.metadata
            return sorted(_begin(about.row_group(number).column(0)) for number in range(about.num_row_groups))
    except (pyarrow.ArrowException, OSError, IndexError) as error:  # the last: a table without columns
        raise DataError(f"the file is damaged: {error}", where=file.uri) from None


def _rows_together(source: BinaryIO, group: Any, names: Sequence[str], file: File) -> int:
    """Rows of a row group to decode at once: few where a dictionary may stand for much more than it takes.

    Raises:
        DataError: if it cannot be decoded in little memory.
    """
    largest = 1
    for chunk in (group.column(number) for number in range(group.num_columns)):
        if chunk.path_in_schema in names:
            whole = chunk.total_uncompressed_size
            refuse_bomb(file.signature.size, whole, file.uri)
            begin = _begin(chunk)
            pages = _pages(source, begin, begin + chunk.total_compressed_size, file.uri)
            kind, size = next(pages, (0, 0))
            if whole > _PAGE_CAP and (longest := max([size, *(size for _, size in pages)])) > _PAGE_CAP:
                what = f"a page of {longest >> 20} MiB, more than {_PAGE_CAP >> 20}"
                remedy = (
                    "write the table again with fewer rows in a page (data_page_size, write_batch_size), or as jsonl"
                )
                raise DataError(what, where=file.uri, remedy=remedy)
            most = whole if "DELTA_BYTE_ARRAY" in chunk.encodings else whole // max(1, chunk.num_values)
            largest = max(largest, size if kind == _DICTIONARY else 0, most)
    return max(1, min(_ROWS, _ROWS_BYTES // largest))


def _pages(source: BinaryIO, begin: int, end: int, where: str) -> Iterator[tuple[int, int]]:
    """Kind and unpacked bytes of the pages that lie at these bytes of a Parquet file, from their headers alone."""
    while begin < end:
        source.seek(begin)
        try:
            header = _thrift(source, 12)
            yield header[1], header[2]
            begin = source.tell() + max(0, header[3])
        except (IndexError, KeyError, RecursionError):
            raise DataError("the file is damaged: a broken page header", where=where, remedy="get it again") from None


def _thrift(source: BinaryIO, kind: int) -> Any:
    """A value in Thrift's compact protocol: a number, the fields of a structure by their ids, else nothing."""

    def number() -> int:
        value = place = 0
        while (byte := source.read(1)[0]) > 127:
            value, place = value | (byte & 127) << place, place + 7
        return value | byte << place

    if kind in (4, 5, 6):
        value = number()
        return value >> 1 ^ -(value & 1)
    if kind in (3, 7, 8):  # a byte, a float, bytes
        source.seek({3: 1, 7: 8}.get(kind) or number(), io.SEEK_CUR)
    elif kind in (9, 10):
        head = source.read(1)[0]
        for _ in range(head >> 4 if head < 240 else number()):
            _thrift(source, head & 15)
    elif kind == 12:
        fields: dict[int, Any] = {}
        last = 0
        while head := source.read(1)[0]:
            last = last + (head >> 4) if head >> 4 else _thrift(source, 4)
            fields[last] = _thrift(source, head & 15)
        return fields
    return None


def _cells(batch: Any, column: str) -> Iterator[Any]:
    """The bytes (or None) of a column, or of one that lies in columns of structures."""
    from pyarrow import compute, types

    first, *others = [column] if column in batch.schema.names else column.split(".")
    cells = compute.struct_field(batch.column(first), others) if others else batch.column(first)
    cells = cells.dictionary_decode() if types.is_dictionary(cells.type) else cells
    return (cell.as_buffer() for cell in cells)


def _accept_cell(cell: Any, line: int, url: Any) -> Document | Reject:
    if cell is None or len(cell) > CAP:
        return Reject(line, NULL if cell is None else TOO_LONG)
    try:
        return accept(str(cell, "utf-8"), line, str(url or b"", "utf-8", "replace")[:_LONGEST_URL], sound=True)
    except UnicodeDecodeError:
        return Reject(line, NOT_UTF8)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if kind is not None and types.is_dictionary(kind) else kind
    return str(kind).removeprefix("large_") in ("string", "binary", "string_view", "binary_view")


def _parquet_column(schema: Any, column: str | None, where: str) -> str:
    names = COLUMNS if column is None else (column,)
    if twice := [name for name in names if schema.names.count(name) > 1]:
        raise DataError(f"two columns are named {twice[0]!r}", where=where, remedy="rename one of them")
    there = [name for name in names if _type_at(schema, name) is not None]
    found = column or next((name for name in there if _is_text(_type_at(schema, name))), next(iter(there), None))
    if found is None or (kind := _type_at(schema, found)) is None:
        raise _no_column(schema.names, where, column)
    if not _is_text(kind):
        raise DataError(f"column {found!r} holds {kind}, not text", where=where, remedy="name another: text_column")
    return found


def _type_at(kind: Any, column: str) -> Any:
    """The type of a column, or of one in columns of structures; None where it is not there, or not alone."""
    for name in [column] if column in kind.names else column.split("."):
        index = kind.get_field_index(name) if hasattr(kind, "get_field_index") else -1
        if index < 0:
            return None
        kind = kind.field(index).type
    return kind


def _whole(blocks: Blocks, where: str) -> io.BytesIO:
    """A packed table in memory: Parquet is read from its end."""
    table = io.BytesIO()
    for block in blocks:
        if table.tell() > _TABLE_CAP:
            raise DataError("a packed Parquet file of more than 256 MiB", where=where, remedy="unpack it first")
        table.write(block)
    return table
