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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from rewarm.core.errors import DataError
from rewarm.data.files import (
    FORMATS,
    Blocks,
    File,
    Meter,
    errors_named,
    lines,
    lines_of_range,
    members,
    peek,
    stem_and_format,
)

URLS = ("url", "source_url", "link", "uri")
"""Where the address that a document came from is looked for."""
COLUMNS = ("text", "content", "document", "body", "input")
"""Where the text is looked for when the recipe does not say."""
CAP = 64 << 20
"""Bytes of a line or a document; what is longer is rejected without being loaded."""
_TABLE_CAP = 256 << 20
_BOM = codecs.BOM_UTF8
_BLANK = re.compile(r"[ \t\r\n]*")
_AHEAD = 1 << 20
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
    """A text in NFC, and the address that it came from, or an empty string."""

    text: str
    url: str = ""


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
    """The documents of a file (or, of an unpacked jsonl file, those whose lines begin in a byte range).

    Args:
        format: jsonl, json, txt, csv or parquet; ``auto`` goes by the content and then by the name.
        text_column: the field that holds the text, with dots between the names of objects within
            objects; None takes the first of ``COLUMNS`` that is there.
        meter: is told how far the reading has come.

    Raises:
        DataError: if the file is missing, cut, damaged, encrypted, of an unknown kind, or has no text column.
    """
    file = file if isinstance(file, File) else File.at(file)
    meter = meter or Meter()
    with errors_named(file.uri):
        if end is not None:
            yield from _jsonl(lines_of_range(file, meter, CAP, start, end), text_column, file.uri, meter)
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
        return _parquet(None if plain else io.BytesIO(_whole(blocks, file.uri)), file, column, meter)
    if head.startswith(_BOM):
        blocks = itertools.chain((head[len(_BOM) :],), itertools.islice(blocks, 1, None))
    if kind == "txt":
        return _txt(blocks)
    if kind == "csv":
        return _csv(blocks, column, file.uri, meter)
    if kind == "json":
        return _json(blocks, column, file.uri, meter)
    return _jsonl(lines(blocks, meter, CAP), column or column_of_head(head, file.uri), file.uri, meter)


def detect_format(head: bytes, name: str, where: str) -> str:
    """The format of a content that begins with ``head`` under the name ``name``.

    Raises:
        DataError: if neither says.
    """
    _, promised, _ = stem_and_format(name)
    if head.startswith(b"PAR1"):
        return "parquet"
    begin = head.removeprefix(_BOM).lstrip()[:1]
    if promised in ("jsonl", "json") or (promised is None and begin in (b"[", b"{")):
        return _json_or_jsonl(head.removeprefix(_BOM).lstrip(), promised)
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


def accept(value: object, line: int, url: str = "") -> Document | Reject:
    """The NFC form of a text, or why it is none."""
    if not isinstance(value, str):
        return Reject(line, NULL if value is None else NOT_STRING)
    if not value or value.isspace():
        return Reject(line, EMPTY)
    return Document(unicodedata.normalize("NFC", value), url)


def _accept_decoded(value: object, line: int, url: str = "") -> Document | Reject:
    """``accept`` for text that may hold lone surrogates: broken bytes, or escapes that JSON should not have."""
    if isinstance(value, str):
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            return Reject(line, NOT_UTF8)
        if size > CAP:
            return Reject(line, TOO_LONG)
    return accept(value, line, url.encode(errors="replace").decode())


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
    records: Iterator[bytes | None], column: str | None, where: str, meter: Meter
) -> Iterator[Document | Reject]:
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
            yield accept(found[0][found[1]], meter.lines, _url(found[0]) or _url(record))
        else:
            yield Reject(meter.lines, MISSING)


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


def _no_column(columns: list[str], where: str) -> DataError:
    shown = ", ".join(repr(c) for c in columns[:20]) or "none"
    return DataError(
        f"no text column: looked for {', '.join(COLUMNS)}; the columns are {shown}",
        where=where,
        remedy="name the column with text_column",
    )


def column_of_head(head: bytes, where: str) -> str | None:
    """The text column as the first records show it; None where the head holds no whole object."""
    records = []
    for line in head.removeprefix(_BOM).split(b"\n")[:-1][:100]:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return choose_column(records, where) if records else None


def _txt(blocks: Blocks) -> Iterator[Document | Reject]:
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
        yield accept(b"".join(parts).decode(), 1)
    except UnicodeDecodeError as error:
        yield Reject(1 + b"".join(parts)[: error.start].count(b"\n"), NOT_UTF8)


def _json(blocks: Blocks, column: str | None, where: str, meter: Meter) -> Iterator[Document | Reject]:
    strange: list[str] | None = None  # the fields of the first object that had no text
    for value in _json_values(blocks, where, meter):
        for record in _leaves(value, column or COLUMNS):
            meter.lines += 1
            if not isinstance(record, dict):
                yield Reject(meter.lines, NOT_OBJECT)
                continue
            if column is None and any(c in record for c in COLUMNS):
                column = choose_column([record], where)
            if column is not None and (holder := _holder(record, column)):
                yield _accept_decoded(holder[0][holder[1]], meter.lines, _url(holder[0]) or _url(record))
            else:
                strange = strange or list(record)
                yield Reject(meter.lines, MISSING)
    if column is None and strange is not None:
        raise _no_column(strange, where)


def _leaves(value: Any, columns: str | Iterable[str]) -> Iterator[Any]:
    """The records in a JSON value: objects with a text, and whatever else holds nothing deeper."""
    wanted = (columns,) if isinstance(columns, str) else tuple(columns)
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            inner = [v for v in item.values() if isinstance(v, list | dict)]
            if any((h := _holder(item, c)) and not isinstance(h[0][h[1]], list | dict) for c in wanted) or not inner:
                yield item
            else:
                stack.extend(reversed(inner))
        elif isinstance(item, list):
            stack.extend(reversed(item))
        else:
            yield item


def _json_values(blocks: Blocks, where: str, meter: Meter) -> Iterator[Any]:
    """The values of a file: the elements of a top-level array one by one, or values that follow one another."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    parse = json.JSONDecoder().raw_decode
    text, position, ended = "", 0, False
    count, array, need = 0, False, _AHEAD  # need: characters to have before parsing, unless the file ends

    def broken(what: object) -> DataError:
        return DataError(
            f"broken JSON behind record {count}: {what}", where=where, remedy="repair it, or on_bad_file: skip"
        )

    while True:
        while not ended and len(text) - position < need:
            block = next(blocks, b"")
            ended = not block
            text, position = text[position:] + decoder.decode(block, ended), 0
        position = _BLANK.match(text, position).end()  # type: ignore[union-attr]
        mark = text[position : position + 1]
        if not mark and ended:
            break
        if not mark:
            continue
        if mark == "[" and count == 0 and not array:
            array, position = True, position + 1
            continue
        if array and mark in ",]":
            array, position = mark == ",", position + 1
            continue
        try:
            value, after = parse(text, position)
        except RecursionError:
            raise broken("nested too deep") from None
        except ValueError as error:
            if ended:
                raise broken(error) from None
            after = len(text)
        if after == len(text) and not ended:  # it may go on behind what has been read
            need = 2 * max(need, len(text) - position)
            if need > 4 * CAP:
                raise broken("it, or a record, is longer than 64 MiB")
            continue
        position, need, count = after, _AHEAD, count + 1
        yield value
    if array:
        raise broken("the array is never closed")


def _csv(blocks: Blocks, column: str | None, where: str, meter: Meter) -> Iterator[Document | Reject]:
    def rows() -> Iterator[str]:
        for line in lines(blocks, meter, CAP):
            if line is None:
                raise DataError(f"line {meter.lines} is longer than 64 MiB", where=where, remedy="on_bad_file: skip")
            yield line.decode("utf-8", "surrogateescape") + "\n"

    source = rows()
    first = next(source, "")
    if not first:
        return
    csv.field_size_limit(CAP)
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(itertools.chain((first,), source), delimiter=delimiter, strict=True)
    try:
        header = next(reader)
    except csv.Error as error:
        raise DataError(f"the header is broken: {error}", where=where) from None
    wanted = column if column is not None else next((c for c in COLUMNS if c in header), None)
    if wanted not in header:
        raise _no_column(header, where) if column is None else _not_there(column, header, where)
    index, link = header.index(wanted), next((header.index(name) for name in URLS if name in header), None)
    while True:
        began = meter.lines + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "unexpected end" in str(error) or "field limit" in str(error):
                raise DataError(f"a quote opened in line {began} is never closed", where=where) from None
            yield Reject(meter.lines, BAD_ROW)
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) == len(header):
            yield _accept_decoded(row[index], began, "" if link is None else row[link][:_LONGEST_URL])
        else:
            yield Reject(began, FIELDS)


def _not_there(column: str, columns: list[str], where: str) -> DataError:
    return DataError(
        f"there is no column {column!r}; the columns are {', '.join(repr(c) for c in columns[:20])}",
        where=where,
        remedy="correct text_column",
    )


def _parquet(unpacked: io.BytesIO | None, file: File, column: str | None, meter: Meter) -> Iterator[Document | Reject]:
    import pyarrow  # a third of a second, and only tables need it
    import pyarrow.parquet

    try:
        # the checksums of pages are there if the writer made them; without, a flipped byte may go unnoticed
        options = {"pre_buffer": False, "buffer_size": 1 << 20, "page_checksum_verification": True}
        with unpacked or file.open() as source, pyarrow.parquet.ParquetFile(source, **options) as table:
            schema = table.schema_arrow
            wanted = _parquet_column(schema, column, file.uri)
            links = [name for name in URLS if name in schema.names and _is_text(schema.field(name).type)][:1]
            rows = max(1, table.metadata.num_rows)
            for batch in table.iter_batches(batch_size=256, columns=[wanted, *links]):
                urls = batch.column(links[0]).to_pylist() if links else []
                for value, url in itertools.zip_longest(_flat(batch, wanted).to_pylist(), urls):
                    meter.lines += 1
                    yield _accept_decoded(_decoded(value), meter.lines, str(_decoded(url) or "")[:_LONGEST_URL])
                if unpacked is None:
                    meter.bytes = file.signature.size * min(rows, meter.lines) // rows
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        what = str(error).partition("\n")[0]
        raise DataError(
            f"the file is damaged: {what}", where=file.uri, remedy="get it again, or on_bad_file: skip"
        ) from None


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _flat(batch: Any, column: str) -> Any:
    """A column, or one that lies in columns of structures."""
    from pyarrow import compute

    if column in batch.schema.names:
        return batch.column(column)
    first, *others = column.split(".")
    return compute.struct_field(batch.column(first), others)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _parquet_column(schema: Any, column: str | None, where: str) -> str:
    found = column or next((n for n in COLUMNS if n in schema.names and _is_text(schema.field(n).type)), None)
    if found is None:
        raise _no_column(schema.names, where)
    kind = schema.field(found).type if found in schema.names else _inner_type(schema, found)
    if kind is None:
        raise _not_there(found, schema.names, where)
    if not _is_text(kind):
        raise DataError(f"column {found!r} holds {kind}, not text", where=where)
    return found


def _inner_type(schema: Any, column: str) -> Any:
    first, *others = column.split(".")
    kind: Any = schema.field(first).type if others and first in schema.names else None
    for name in others:
        index = kind.get_field_index(name) if hasattr(kind, "get_field_index") else -1
        kind = kind.field(index).type if index >= 0 else None
    return kind


def _whole(blocks: Blocks, where: str) -> bytes:
    """A packed table in memory: Parquet is read from its end."""
    parts, size = [], 0
    for block in blocks:
        size += len(block)
        if size > _TABLE_CAP:
            raise DataError("a packed Parquet file of more than 256 MiB", where=where, remedy="unpack it first")
        parts.append(block)
    return b"".join(parts)
