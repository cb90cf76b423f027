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
    Meter,
    errors_named,
    lines,
    lines_of_range,
    members,
    peek,
    stem_and_format,
)

COLUMNS = ("text", "content", "document", "body", "input")
"""Where the text is looked for when the recipe does not say."""
CAP = 64 << 20
"""Bytes of a line or a document; what is longer is rejected without being loaded."""
_TABLE_CAP = 256 << 20
_BOM = codecs.BOM_UTF8
_BLANK = re.compile(r"[ \t\r\n]*")
_AHEAD = 1 << 20

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


class Reject(NamedTuple):
    """A record that is no document. ``line`` counts lines, or records where a file has no lines, from 1."""

    line: int
    reason: str
    member: str = ""  # of a zip archive


def read_documents(
    path: Path,
    format: str = "auto",
    text_column: str | None = None,
    *,
    start: int = 0,
    end: int | None = None,
    meter: Meter | None = None,
) -> Iterator[str | Reject]:
    """The documents of a file (or, of an unpacked jsonl file, those whose lines begin in a byte range).

    Args:
        format: jsonl, json, txt, csv or parquet; ``auto`` goes by the content and then by the name.
        text_column: the field that holds the text; None takes the first of ``COLUMNS`` that is there.
        meter: is told how far the reading has come.

    Raises:
        DataError: if the file is missing, cut, damaged, encrypted, of an unknown kind, or has no text column.
    """
    meter = meter or Meter()
    with errors_named(path):
        if end is not None:
            yield from _jsonl(lines_of_range(path, meter, CAP, start, end), text_column, path, meter)
            return
        for name, blocks in members(path, meter, format):
            member = "" if name == path.name else name
            for item in _read(path, name, blocks, format, text_column, meter):
                yield item if not member or isinstance(item, str) else item._replace(member=member)


def _read(
    path: Path, name: str, blocks: Blocks, format: str, column: str | None, meter: Meter
) -> Iterator[str | Reject]:
    head, blocks = peek(blocks)
    kind = detect_format(head, name, path) if format == "auto" else format
    if kind == "parquet":
        source = path if head.startswith(b"PAR1") and _is_plain(path) else io.BytesIO(_whole(blocks, path))
        return _parquet(source, column, path, meter)
    if head.startswith(_BOM):
        blocks = itertools.chain((head[len(_BOM) :],), itertools.islice(blocks, 1, None))
    if kind == "txt":
        return _txt(blocks)
    if kind == "csv":
        return _csv(blocks, column, path, meter)
    if kind == "json":
        return _json(blocks, column, path, meter)
    return _jsonl(lines(blocks, meter, CAP), column or column_of_head(head, path), path, meter)


def detect_format(head: bytes, name: str, path: Path) -> str:
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
            where=path,
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


def accept(value: object, line: int) -> str | Reject:
    """The NFC form of a text, or why it is none."""
    if not isinstance(value, str):
        return Reject(line, NULL if value is None else NOT_STRING)
    if not value or value.isspace():
        return Reject(line, EMPTY)
    return unicodedata.normalize("NFC", value)


def _accept_decoded(value: object, line: int) -> str | Reject:
    """``accept`` for text that may hold lone surrogates: broken bytes, or escapes that JSON should not have."""
    if isinstance(value, str):
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            return Reject(line, NOT_UTF8)
        if size > CAP:
            return Reject(line, TOO_LONG)
    return accept(value, line)


def _jsonl(records: Iterator[bytes | None], column: str | None, path: Path, meter: Meter) -> Iterator[str | Reject]:
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
            column = choose_column([record], path)
        if column in record:
            yield accept(record[column], meter.lines)
        else:
            yield Reject(meter.lines, MISSING)


def _why_broken(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return NOT_JSON


def choose_column(records: list[dict[str, Any]], path: Path) -> str:
    """The field that holds the text in ``records``, of which there is at least one.

    Raises:
        DataError: naming the fields, if none is known as a text field.
    """
    for with_text in (True, False):
        for column in COLUMNS:
            if any(column in r and (not with_text or isinstance(r[column], str)) for r in records):
                return column
    raise _no_column(list(records[0]), path)


def _no_column(columns: list[str], path: Path) -> DataError:
    shown = ", ".join(repr(c) for c in columns[:20]) or "none"
    return DataError(
        f"no text column: looked for {', '.join(COLUMNS)}; the columns are {shown}",
        where=path,
        remedy="name the column with text_column",
    )


def column_of_head(head: bytes, path: Path) -> str | None:
    """The text column as the first records show it; None where the head holds no whole object."""
    records = []
    for line in head.removeprefix(_BOM).split(b"\n")[:-1][:100]:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return choose_column(records, path) if records else None


def _txt(blocks: Blocks) -> Iterator[str | Reject]:
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


def _json(blocks: Blocks, column: str | None, path: Path, meter: Meter) -> Iterator[str | Reject]:
    strange: list[str] | None = None  # the fields of the first object that had no text
    for value in _json_values(blocks, path, meter):
        for record in _leaves(value, column or COLUMNS):
            meter.lines += 1
            if not isinstance(record, dict):
                yield Reject(meter.lines, NOT_OBJECT)
                continue
            if column is None and any(c in record for c in COLUMNS):
                column = choose_column([record], path)
            if column in record:
                yield _accept_decoded(record[column], meter.lines)
            else:
                strange = strange or list(record)
                yield Reject(meter.lines, MISSING)
    if column is None and strange is not None:
        raise _no_column(strange, path)


def _leaves(value: Any, columns: str | Iterable[str]) -> Iterator[Any]:
    """The records in a JSON value: objects with a text, and whatever else holds nothing deeper."""
    wanted = (columns,) if isinstance(columns, str) else tuple(columns)
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            inner = [v for v in item.values() if isinstance(v, list | dict)]
            if any(c in item and not isinstance(item[c], list | dict) for c in wanted) or not inner:
                yield item
            else:
                stack.extend(reversed(inner))
        elif isinstance(item, list):
            stack.extend(reversed(item))
        else:
            yield item


def _json_values(blocks: Blocks, path: Path, meter: Meter) -> Iterator[Any]:
    """The values of a file: the elements of a top-level array one by one, or values that follow one another."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    parse = json.JSONDecoder().raw_decode
    text, position, ended = "", 0, False
    count, array, need = 0, False, _AHEAD  # need: characters to have before parsing, unless the file ends

    def broken(what: object) -> DataError:
        return DataError(
            f"broken JSON behind record {count}: {what}", where=path, remedy="repair it, or on_bad_file: skip"
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


def _csv(blocks: Blocks, column: str | None, path: Path, meter: Meter) -> Iterator[str | Reject]:
    def rows() -> Iterator[str]:
        for line in lines(blocks, meter, CAP):
            if line is None:
                raise DataError(f"line {meter.lines} is longer than 64 MiB", where=path, remedy="on_bad_file: skip")
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
        raise DataError(f"the header is broken: {error}", where=path) from None
    wanted = column if column is not None else next((c for c in COLUMNS if c in header), None)
    if wanted not in header:
        raise _no_column(header, path) if column is None else _not_there(column, header, path)
    index = header.index(wanted)
    while True:
        began = meter.lines + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "unexpected end" in str(error) or "field limit" in str(error):
                raise DataError(f"a quote opened in line {began} is never closed", where=path) from None
            yield Reject(meter.lines, BAD_ROW)
            continue
        if row is None:
            return
        if not row:
            continue
        yield _accept_decoded(row[index], began) if len(row) == len(header) else Reject(began, FIELDS)


def _not_there(column: str, columns: list[str], path: Path) -> DataError:
    return DataError(
        f"there is no column {column!r}; the columns are {', '.join(repr(c) for c in columns[:20])}",
        where=path,
        remedy="correct text_column",
    )


def _parquet(source: Path | io.BytesIO, column: str | None, path: Path, meter: Meter) -> Iterator[str | Reject]:
    import pyarrow  # a third of a second, and only tables need it
    import pyarrow.parquet

    size = path.stat().st_size
    try:
        # the checksums of pages are there if the writer made them; without, a flipped byte may go unnoticed
        options = {"pre_buffer": False, "buffer_size": 1 << 20, "page_checksum_verification": True}
        with pyarrow.parquet.ParquetFile(source, **options) as file:
            wanted = _parquet_column(file.schema_arrow, column, path)
            rows = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=256, columns=[wanted]):
                for value in batch.column(0).to_pylist():
                    meter.lines += 1
                    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
                    yield _accept_decoded(text, meter.lines)
                if isinstance(source, Path):
                    meter.bytes = size * min(rows, meter.lines) // rows
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        what = str(error).partition("\n")[0]
        raise DataError(
            f"the file is damaged: {what}", where=path, remedy="get it again, or on_bad_file: skip"
        ) from None


def _parquet_column(schema: Any, column: str | None, path: Path) -> str:
    from pyarrow import types

    def is_text(name: str) -> bool:
        kind = schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return any(
            test(kind) for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
        )

    if column is not None and column not in schema.names:
        raise _not_there(column, schema.names, path)
    if column is not None and not is_text(column):
        raise DataError(f"column {column!r} holds {schema.field(column).type}, not text", where=path)
    found = column or next((name for name in COLUMNS if name in schema.names and is_text(name)), None)
    if found is None:
        raise _no_column(schema.names, path)
    return found


def _is_plain(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _whole(blocks: Blocks, path: Path) -> bytes:
    """A packed table in memory: Parquet is read from its end."""
    parts, size = [], 0
    for block in blocks:
        size += len(block)
        if size > _TABLE_CAP:
            raise DataError("a packed Parquet file of more than 256 MiB", where=path, remedy="unpack it first")
        parts.append(block)
    return b"".join(parts)
