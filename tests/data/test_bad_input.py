"""Everything that is wrong with files in the wild, plain, packed and from a bucket: the same answer each time.

Each case says what comes of a file: its texts and rejects in order, or what the error says.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pytest
import zstandard

from rewarm.core.errors import DataError
from rewarm.core.workspace import Workspace
from rewarm.data import documents as d
from rewarm.data.documents import Document, Reject, read_documents
from rewarm.data.files import File
from rewarm.data.prepare import build_dataset
from rewarm.recipe.recipe import Recipe
from tests.data.test_documents import CONTENTS, TEXTS, jsonl, table, zipped
from tests.servers import BUCKET, Store

Found = list[str | Reject]
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def tarred(*entries: tuple[str, bytes, bytes]) -> bytes:
    """A tar archive of entries with name, content (or where a link leads) and type."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, content.decode() if kind != tarfile.REGTYPE else ""
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :]


def line(data: bytes, reason: str) -> tuple[str, bytes, Found]:
    """A bad line between two good ones."""
    return (
        "a.jsonl",
        b'{"text": "before"}\n\n' + data + b'\n{"text": "after"}\n',
        ["before", Reject(3, reason), "after"],
    )


def good(data: bytes, *texts: str) -> tuple[str, bytes, Found]:
    return "a.jsonl", data, list(texts)


def txt(data: bytes, *found: str | Reject) -> tuple[str, bytes, Found]:
    return "a.txt", data, list(found)


def csv(data: bytes, *found: str | Reject) -> tuple[str, bytes, Found]:
    return "a.csv", data, list(found)


def arrays(data: str, *found: str | Reject) -> tuple[str, bytes, Found]:
    return "a.json", data.encode(), list(found)


NOISE = jsonl([f"{n} " + os.urandom(40).hex() for n in range(4000)])
NFD = unicodedata.normalize("NFD", "Điều hoà")
ODD = "\ufdd0 \uffff \u202eRTL\u200b\u200d and \u2028 and \u0085 and \x0b"
CASES: dict[str, tuple[str, bytes, Found]] = {
    # ---- what is good, in each format ----
    **{kind: (f"a.{kind}", content, [*TEXTS]) for kind, content in CONTENTS.items()},
    # ---- text ----
    "overlong UTF-8": line(b'{"text": "\xc0\xaf"}', d.NOT_UTF8),
    "cut UTF-8": line(b'{"text": "caf\xc3"}', d.NOT_UTF8),
    "surrogates in UTF-8": line(b'{"text": "\xed\xa0\x80"}', d.NOT_UTF8),
    "CP1251": txt("строка\nвторая".encode("cp1251"), Reject(1, d.NOT_UTF8)),
    "CP1258 behind a line": txt(b"first\n" + "Điều".encode("cp1258", "ignore") + b"\xff", Reject(2, d.NOT_UTF8)),
    "UTF-16": txt("điều".encode("utf-16"), Reject(1, d.NOT_UTF8)),
    "lines of JSON under another name": ("a.parquet", b'{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
    "JSON under the name of csv": ("a.csv", b'[{"text": "a"}, {"text": "b"}]', ["a", "b"]),
    "a table under the name of text": ("a.txt", table(["a", "b"]), ["a", "b"]),
    "lines in UTF-16": (
        "a.jsonl", '{"text": "a"}\n{"text": "b"}'.encode("utf-16"), [Reject(1, d.NOT_UTF8), Reject(2, d.NOT_JSON)]
    ),
    "a mark of byte order": good(b'\xef\xbb\xbf{"text": "a"}\n', "a"),
    "CRLF": good(b'{"text": "a"}\r\n\r\n{"text": "b"}\r\n', "a", "b"),
    "CR alone": ("a.jsonl", b'{"text": "a"}\r{"text": "b"}\r', [Reject(1, d.NOT_JSON)]),
    "mixed ends of lines": good(b'{"text": "a"}\r\n{"text": "b"}\n\r\n{"text": "c"}', "a", "b", "c"),
    "odd characters": good(jsonl([ODD]), ODD),
    "NUL by escape": good(b'{"text": "a\\u0000b"}\n', "a\x00b"),
    "NUL itself": line(b'{"text": "a\x00b"}', d.NOT_JSON),
    "NUL in plain text": txt(b"a\x00b", "a\x00b"),
    "NFC and NFD": good(jsonl(["Điều hoà", NFD]), "Điều hoà", "Điều hoà"),
    "spaces alone": txt(" \n\u00a0".encode(), Reject(1, d.EMPTY)),
    # ---- JSON ----
    "broken line": line(b'{"text": "cut', d.NOT_JSON),
    "broken first line": ("a.jsonl", b'[broken\n{"body": "kept"}\n', [Reject(1, d.NOT_JSON), "kept"]),
    "broken last line": ("a.jsonl", b'{"text": "kept"}\n{"text": "c', ["kept", Reject(2, d.NOT_JSON)]),
    "two objects in a line": line(b'{"text": "a"} {"text": "b"}', d.NOT_JSON),
    "an array under the name of lines": ("a.jsonl", CONTENTS["json"], [*TEXTS]),
    "NaN": line(b'{"text": "a", "n": NaN}', d.NOT_JSON),
    "Infinity": line(b'{"text": "a", "n": -Infinity}', d.NOT_JSON),
    "a key twice": good(b'{"text": "a", "text": "b"}', "b"),
    "200,000 deep": line(b"[" * 200_000, d.NOT_JSON),
    "5,000 deep": line(b'{"a":' * 5000 + b"1" + b"}" * 5000, d.NOT_JSON),
    "5,000 digits": line(b'{"n": ' + b"1" * 5000 + b', "text": "a"}', d.NOT_JSON),
    "a lone surrogate by escape": line(b'{"text": "\\ud800"}', d.NOT_JSON),
    "a lone surrogate in an array": arrays('[{"text": "\\ud800"}, {"text": "b"}]', Reject(1, d.NOT_UTF8), "b"),
    "no object": line(b'["text"]', d.NOT_OBJECT),
    "a string": line(b'"text"', d.NOT_OBJECT),
    "null": line(b"null", d.NOT_OBJECT),
    "text missing": line(b'{"txet": "a"}', d.MISSING),
    "text null": line(b'{"text": null}', d.NULL),
    "text a number": line(b'{"text": 7}', d.NOT_STRING),
    "text a list": line(b'{"text": ["a"]}', d.NOT_STRING),
    "text an object": line(b'{"text": {"a": 1}}', d.NOT_STRING),
    "text empty": line(b'{"text": ""}', d.EMPTY),
    "text of spaces": line(b'{"text": " \\n\\u00a0"}', d.EMPTY),
    "an empty array": arrays("[ ]"),
    # ---- size ----
    "no bytes": good(b""),
    "30,000 empty lines": good(b"\n" * 30_000),
    "a table of no rows": ("a.parquet", table([]), []),
    "a header alone": csv(b"text\n"),
    # ---- tables ----
    "rows of csv": csv(
        b'id,text\n1,good\n2\n3,a,b\n4,"x"y\n5,\n6,caf\xe9\n7,"two\nlines"\n8,last\n',
        "good", Reject(3, d.FIELDS), Reject(4, d.FIELDS), Reject(5, d.BAD_ROW), Reject(6, d.EMPTY),
        Reject(7, d.NOT_UTF8), "two\nlines", "last",
    ),
    "nulls in a table": ("a.parquet", table(["a", None, "b"]), ["a", Reject(2, d.NULL), "b"]),
    "bytes in a table": ("a.parquet", table([b"ok", b"\xff"], kind=pyarrow.binary()), ["ok", Reject(2, d.NOT_UTF8)]),
    "a dictionary in a table": (
        "a.parquet", table(["x", "y", "x"], kind=pyarrow.dictionary(pyarrow.int32(), pyarrow.string())), ["x", "y", "x"]
    ),
    # ---- archives ----
    "paths that lead out of an archive": (
        "a.tar", tarred(*((n, n.encode(), tarfile.REGTYPE) for n in ("../o.txt", "/o.txt", "a/../../o.txt"))),
        ["../o.txt", "/o.txt", "a/../../o.txt"],
    ),
    "two members of one name": (
        "a.tar", tarred(("a.txt", b"one", tarfile.REGTYPE), ("a.txt", b"two", tarfile.REGTYPE)), ["one", "two"]
    ),
    "links and devices": (
        "a.tar",
        tarred(("a.txt", b"/etc/passwd", tarfile.SYMTYPE), ("b.txt", b"/etc/passwd", tarfile.LNKTYPE),
               ("c.txt", b"", tarfile.CHRTYPE), ("d.txt", b"", tarfile.FIFOTYPE), ("e.txt", b"kept", tarfile.REGTYPE)),
        ["kept"],
    ),
    "a bad record in an archive": (
        "a.tar", tarred(("x/a.jsonl", b'{"text": 1}\n', tarfile.REGTYPE)), [Reject(1, d.NOT_STRING, "x/a.jsonl")]
    ),
}  # fmt: skip


def refused() -> Iterator[tuple[str, str, bytes, str]]:
    """Case, name, content and what the error says; each is packed already, or of a kind that is."""
    gz, zst, tables = gzip.compress(NOISE), zstandard.compress(NOISE), table(TEXTS * 500)
    archive, zeros = zipped({"a.jsonl": NOISE}), bytes(8 << 20)
    locked = bytearray(zipped({"a.jsonl": b"x"}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    window = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    wide = zstandard.ZstdCompressor(compression_params=window).compressobj()
    yield "gzip cut", "a.jsonl.gz", gz[: len(gz) // 2], "ends before its end mark"
    yield "gzip cut in its last bytes", "a.jsonl.gz", gz[:-3], "ends before its end mark"
    yield "gzip with garbage behind", "a.jsonl.gz", gz + b"garbage", "incorrect header"
    yield "gzip with a flipped byte", "a.jsonl.gz", flipped(gz, len(gz) // 2), "damaged"
    yield "gzip of nothing", "a.jsonl.gz", b"", "it is empty"
    yield "gzip bomb", "a.jsonl.gz", gzip.compress(zeros), "this is no text"
    yield "zstd cut", "a.jsonl.zst", zst[: len(zst) // 2], "ends before its end mark"
    yield "zstd cut in its last byte", "a.jsonl.zst", zst[:-1], "ends before its end mark"
    yield "zstd with garbage behind", "a.jsonl.zst", zst + b"garbage", "Unknown frame"
    yield "zstd second frame cut", "a.jsonl.zst", zst + zst[:-1], "ends before its end mark"
    yield "zstd with a window of a gigabyte", "a.jsonl.zst", wide.compress(NOISE) + wide.flush(), "memory"
    yield "zstd bomb", "a.jsonl.zst", zstandard.compress(zeros), "this is no text"
    yield "zip cut", "a.zip", archive[: len(archive) // 2], "not a zip file"
    yield "zip with a flipped byte", "a.zip", flipped(archive, 5000), "damaged"
    yield "zip encrypted", "a.zip", bytes(locked), "encrypted"
    yield "zip in a zip", "a.zip", zipped({"b.zip": archive}), "archive inside an archive"
    yield "zip bomb", "a.zip", zipped({"a.jsonl": zeros}), "this is no text"
    yield "tar cut", "a.tar", tarred(("a.txt", b"x" * 700, tarfile.REGTYPE))[:1100], "damaged"
    yield "json cut", "a.json", CONTENTS["json"][:-20], "behind record 4"
    yield "json not closed", "a.json", b'[{"text": "a"}, {"text": "b"}', "the array is never closed"
    yield "json too deep", "a.json", b"[" * 200_000, "nested too deep"
    yield "csv with an open quote", "a.csv", b'text\ngood\n"never closed\nlost\n', "line 3 is never closed"
    yield "parquet cut", "a.parquet", tables[:-100], "damaged"
    yield "parquet footer alone", "a.parquet", b"PAR1" + tables[-50:], "damaged"
    yield "parquet with a flipped byte", "a.parquet", flipped(tables, tables.index(b"third") + 1), "CRC checksum"
    yield "no column of text", "a.parquet", table(TEXTS, "prose"), "no text column: .* 'n', 'prose'"
    yield "csv of one line", "a.csv", b"id,text\r1,one\r2,two\r", "lines end in CR alone"
    yield "csv without a header", "a.csv", b"just words\n", "no text column"
    yield (
        "text that is numbers",
        "a.parquet",
        table([1, 2], kind=pyarrow.int64()),
        "column 'text' holds int64, not text",
    )
    yield "text that is lists", "a.parquet", table([["a"]], kind=pyarrow.list_(pyarrow.string())), "not text"
    yield "a packer that is not read", "a", b"BZh91AY&SY", "bzip2 is not read"
    yield "unknown kind", "a.bin", b"\x00\x01\x02", "neither its name nor its content"


REFUSED = {case: found for case, *found in refused()}


@dataclass
class Lake:
    """Every case on the disk and in a bucket, under the same names (by which slices are drawn)."""

    disk: Path
    connection: str
    workspace: Workspace

    def copies(self, name: str) -> list[File]:
        return [File.at(self.disk / name), File.at(f"s3://{BUCKET}/wild/{name}", self.connection)]


@pytest.fixture(scope="module")
def lake(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    disk, home = tmp_path_factory.mktemp("disk") / "wild", tmp_path_factory.mktemp("home")
    files = {f"{case}/{name}": data for case, (name, data, _) in REFUSED.items()}
    for ending, pack in PACKERS.items():
        files |= {f"{case}/{name}{ending}": pack(data) for case, (name, data, _) in CASES.items()}
    for name, data in files.items():
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).write_bytes(data)
        store.put(f"wild/{name}", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWARM_HOME", str(home))
        yield Lake(disk, store.connect(Workspace.default()), Workspace.default())


@pytest.mark.parametrize("case", CASES)
def test_every_record_is_a_document_or_a_reject_with_its_place(lake: Lake, case: str) -> None:
    name, _, expected = CASES[case]
    for ending in PACKERS:
        for file in lake.copies(f"{case}/{name}{ending}"):
            assert [i.text if isinstance(i, Document) else i for i in read_documents(file)] == expected, file.uri


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_file_is_an_error_that_names_it(lake: Lake, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.data.files._BOMB_BYTES", 1 << 20)
    name, _, words = REFUSED[case]
    for file in lake.copies(f"{case}/{name}"):
        with pytest.raises(DataError, match=words) as caught:
            list(read_documents(file))
        assert (caught.value.where, caught.value.exit_code) == (file.uri, 3)
        assert caught.value.remedy


def test_every_document_of_all_of_them_is_accounted_for(lake: Lake, tokenizer_folder: Path, tmp_path: Path) -> None:
    """The whole lake as one source: the sums of the table, and the same dataset from the disk and from the bucket."""
    made = []
    for root, path, connection in ((lake.disk, str(lake.disk), None), ("", f"s3://{BUCKET}/wild", lake.connection)):
        source = {"name": "bad", "path": path, "connection": connection, "on_bad_file": "skip"}
        recipe = {"name": "t", "base_model": "none", "data": {"sources": [source], "max_rejected": 1}}
        home = tmp_path / f"{bool(root)}"
        dataset = build_dataset(Recipe.model_validate(recipe), tokenizer_folder, home, workers=1)
        entry = json.loads(json.dumps(dataset.manifest["sources"][0]).replace(f"{path}/", ""))
        files = sorted(p for p in (dataset.path / "bad").rglob("*") if p.is_file())
        made.append((entry, {p.name: p.read_bytes() for p in files}))
    (entry, shards), (remote, remote_shards) = made
    kept = [i for _, _, found in CASES.values() for i in found]
    whole = {"gzip bomb", "zstd bomb", "zip bomb"}  # too small for bombs
    whole |= {"unknown kind", "a packer that is not read"}  # passed over by their endings
    rejected = 3 * [i.reason for i in kept if isinstance(i, Reject)] + 3 * [d.NOT_JSON]  # each bomb is one line
    assert entry["rejected"] == dict(sorted(Counter(rejected).items()))
    assert {bad["file"].partition("/")[0] for bad in entry["bad_files"]} == set(REFUSED) - whole
    assert entry["documents_in"] == entry["accepted"] + entry["held_out"] + sum(entry["filtered"].values()) + sum(
        entry["rejected"].values()
    )
    assert entry["documents_in"] == 3 * len(kept) + 3
    differ = {"scans", "paths", "samples"}
    assert {k: v for k, v in entry.items() if k not in differ} == {k: v for k, v in remote.items() if k not in differ}
    assert shards == remote_shards
