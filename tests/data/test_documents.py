"""Every record is a document or a reject with a reason; every damaged file is an error that names it."""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.core.errors import DataError
from rewarm.data import documents as d
from rewarm.data.documents import Document, Reject, read_documents
from rewarm.data.files import File, Meter, lines, lines_of_range, list_files
from rewarm.data.signature import ChangedError
from rewarm.data.slices import Slice

TEXTS = ["Điều 1.\nPhạm vi", "second", "third one", 'quote " and , comma', "U+2028 \u2028 and \x0b and \x85 stay"]


def jsonl(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"id": 1, "text": t}, ensure_ascii=False).encode() + b"\n" for t in texts)


def table(texts: list[Any], column: str = "text", kind: Any = None) -> bytes:
    sink = io.BytesIO()
    columns = {"n": list(range(len(texts))), column: pyarrow.array(texts, kind or pyarrow.string())}
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, write_page_checksum=True)
    return sink.getvalue()


CONTENTS: dict[str, bytes] = {
    "jsonl": jsonl(TEXTS),
    "json": json.dumps([{"text": t} for t in TEXTS], indent=1).encode(),
    "csv": b"id,text\r\n" + b"".join(b'7,"' + t.replace('"', '""').encode() + b'"\r\n' for t in TEXTS),
    "parquet": table(TEXTS),
}


def texts_of(path: Path, **options: Any) -> list[str]:
    found = list(read_documents(path, **options))
    assert not [item for item in found if isinstance(item, Reject)]
    return [item.text for item in found if isinstance(item, Document)]


def items_of(path: Path) -> list[str | Reject]:
    return [item.text if isinstance(item, Document) else item for item in read_documents(path)]


def zipped(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return sink.getvalue()


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_content_decides_where_the_name_is_wrong(tmp_path: Path, kind: str) -> None:
    name = {"json": "a.jsonl", "jsonl": "a.json"}.get(kind, f"a.{kind}.gz")
    path = tmp_path / name
    path.write_bytes(CONTENTS[kind])
    assert texts_of(path) == TEXTS


def test_a_zip_of_everything_in_order_of_names(tmp_path: Path) -> None:
    files = {
        "b/two.jsonl.gz": gzip.compress(jsonl(["two"])),
        "a/one.json": b'{"text": "one"}',
        "c.txt": b"three",
        "d.parquet": table(["four"]),
        "README.txt": b"about",
        ".hidden.txt": b"no",
        "__MACOSX/c.txt": b"no",
        "picture.png": b"\x89PNG",
    }
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(files))
    assert texts_of(path) == ["one", "two", "three", "four"]


def test_members_of_archives_are_named_in_rejects(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"x/one.jsonl": b'{"text": 1}\n'}))
    assert list(read_documents(path)) == [Reject(1, d.NOT_STRING, "x/one.jsonl")]


def test_a_txt_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\x00\n")
    assert texts_of(path) == ["one\r\n\r\ntwo\x00\n"]


def test_multi_member_gzip_and_multi_frame_zstd(tmp_path: Path) -> None:
    gz, zst = tmp_path / "a.jsonl.gz", tmp_path / "a.jsonl.zst"
    gz.write_bytes(gzip.compress(jsonl(TEXTS[:2])) + gzip.compress(jsonl(TEXTS[2:])) + b"\0" * 512)
    skippable = struct.pack("<II", 0x184D2A50, 3) + b"xyz"
    zst.write_bytes(skippable + zstandard.compress(jsonl(TEXTS[:2])) + zstandard.compress(jsonl(TEXTS[2:])))
    assert texts_of(gz) == texts_of(zst) == TEXTS


def test_nested_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"meta": {}, "parts": [{"text": "a", "tags": ["x"]}, {"more": [{"text": "b"}]}]}))
    assert [item for item in items_of(path) if isinstance(item, str)] == ["a", "b"]


def test_a_long_json_array_is_read_as_a_stream(tmp_path: Path) -> None:
    texts = [f"{n} " + "ờ" * 3000 for n in range(1500)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": t} for t in texts], ensure_ascii=False))
    assert path.stat().st_size > 4 << 20
    assert texts_of(path) == texts


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, kind: str, bom: bytes) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(bom + CONTENTS[kind])
    assert texts_of(path) == TEXTS


def test_a_byte_order_mark_is_passed_over_in_a_range(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + CONTENTS["jsonl"])
    size = path.stat().st_size
    parts = [read_documents(path, text_column="text", start=a, end=b) for a, b in ((0, 9), (9, size))]
    assert [item.text if isinstance(item, Document) else item for part in parts for item in part] == TEXTS


def test_crlf_and_empty_lines_and_no_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\r\n{"text": "a"}\r\n\n   \n{"text": "b"}')
    assert texts_of(path) == ["a", "b"]


def test_text_is_normalised_to_nfc(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl([unicodedata.normalize("NFD", "Điều hoà tiếng Việt")]))
    assert texts_of(path) == ["Điều hoà tiếng Việt"]


def test_a_line_over_the_cap_is_passed_over_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "CAP", 3 << 20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "' + b"x" * (5 << 20) + b'"}\n{"text": "b"}\n')
    assert items_of(path) == ["a", Reject(2, d.TOO_LONG), "b"]


def test_a_gigabyte_line_of_zeros_in_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n')
        file.truncate(1 << 30)  # sparse
    assert items_of(path) == ["a", Reject(2, d.TOO_LONG)]


@pytest.mark.parametrize("cap", [7, 100])
@settings(deadline=None)
@given(data=st.binary(max_size=60).map(lambda b: b.replace(b"\x01", b"\n")), size=st.integers(1, 9))
def test_lines_are_what_split_gives_whatever_the_blocks(cap: int, data: bytes, size: int) -> None:
    blocks = iter([data[i : i + size] for i in range(0, len(data), size)])
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert list(lines(blocks, Meter(), cap)) == [line if len(line) <= cap else None for line in expected]


@settings(max_examples=50, deadline=None)
@given(data=st.lists(st.sampled_from([b"a", b"\n", b"bcd", b"\n\n"])).map(b"".join), size=st.integers(1, 8))
def test_byte_ranges_share_out_the_lines(tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int) -> None:
    path = tmp_path_factory.mktemp("ranges") / "a"
    path.write_bytes(data)
    found: list[bytes | None] = []
    for start in range(0, len(data), size):
        found += lines_of_range(File.at(path), Meter(), 100, start, min(start + size, len(data)))
    assert found == list(lines(iter([data]), Meter(), 100))


# ---- tables ----


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_tabs_and_semicolons(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"id\ttext\n1\ta, b\n" if name == "a.tsv" else b"id;text\n1;a, b\n")
    assert texts_of(path) == ["a, b"]


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_text_column_is_detected_named_or_missing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    for column, options in (("content", {}), ("body", {}), ("Văn bản", {"text_column": "Văn bản"})):
        rename = CONTENTS[kind].replace(b"text", column.encode())
        path.write_bytes(table(TEXTS, column) if kind == "parquet" else rename)
        assert texts_of(path, **options) == TEXTS
    with pytest.raises(DataError, match="Văn bản"):
        list(read_documents(path))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_named_column_that_is_not_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(CONTENTS[kind])
    with pytest.raises(DataError, match="'text'"):
        list(read_documents(path, text_column="prose"))


def test_text_comes_before_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"content": "c", "input": "i", "text": "t"}\n')
    assert texts_of(path) == ["t"]


def test_folders_with_the_characters_of_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "[2024] *"
    folder.mkdir()
    for name in ("law.jsonl", "law[1].jsonl", "notes"):
        (folder / name).touch()
    plain, escaped = str(folder), glob.escape(str(folder))
    every = [str(folder / "law.jsonl"), str(folder / "law[1].jsonl")]
    for start in (plain, escaped):
        assert list_files([start]).files == every
        for name in ("law.jsonl", "law[1].jsonl", "notes"):  # named, so taken whatever its ending
            assert list_files([f"{start}/{name}"]).files == [str(folder / name)]
    assert list_files([f"{escaped}/*.jsonl"]).files == every
    assert list_files([f"{escaped}/l?w.jsonl"]).files == every[:1]
    with pytest.raises(DataError, match="no such file") as caught:
        list_files([f"{escaped}/absent.jsonl"])
    assert caught.value.where == f"{plain}/absent.jsonl"


def test_pipes_sockets_devices_folders_and_absent_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jsonl"))
        for path in (
            tmp_path / "pipe.jsonl",
            tmp_path / "socket.jsonl",
            tmp_path / "link.jsonl",
            tmp_path,
            Path("/dev/zero"),
        ):
            with pytest.raises(DataError, match=path.name):
                list(read_documents(path))


# ---- addresses, and text within objects ----

PAGES = [{"url": "https://a.example/1"}, {"source_url": "b"}, {"link": "c", "uri": "d"}, {"uri": "e"}, {"url": 7}, {}]


def urls_of(path: Path, data: bytes, **options: Any) -> list[str]:
    path.write_bytes(data)
    return [item.url for item in read_documents(path, **options) if isinstance(item, Document)]


def test_where_a_document_came_from(tmp_path: Path) -> None:
    pages = [{"text": "t", **page} for page in PAGES]
    expected = ["https://a.example/1", "b", "c", "e", "", ""]
    assert urls_of(tmp_path / "a.jsonl", b"\n".join(json.dumps(page).encode() for page in pages)) == expected
    assert urls_of(tmp_path / "a.json", json.dumps(pages).encode()) == expected
    assert urls_of(tmp_path / "a.csv", b"link,text\nhttps://x/,t\n,u\n") == ["https://x/", ""]
    columns = {"text": ["a", "b"], "url": pyarrow.array(["https://x/", None])}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    assert urls_of(tmp_path / "a.parquet", sink.getvalue()) == ["https://x/", ""]
    assert urls_of(tmp_path / "a.txt", b"plain") == [""]
    assert urls_of(tmp_path / "b.json", b'{"text": "t", "url": "\\ud800"}') == ["?"]
    assert urls_of(tmp_path / "b.jsonl", b'{"text": "t", "url": "%s"}' % (b"x" * 9000)) == ["x" * 2048]


def test_text_within_objects(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"data": {"url": "inner", "body": {"text": "one"}}, "url": "outer"},
        {"data": {"body": {"text": "two", "link": "innermost"}}},
        {"data": {"body": []}},
        {"data": None},
        {"data.body.text": "literal"},
    ]
    wanted = [Document("one", "outer"), Document("two", "innermost"), Reject(3, d.MISSING), Reject(4, d.MISSING),
              Document("literal")]  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records))
    assert list(read_documents(path, text_column="data.body.text")) == wanted
    (tmp_path / "a.json").write_text(json.dumps(records))
    inside = read_documents(tmp_path / "a.json", text_column="data.body.text")
    assert [item.text for item in inside if isinstance(item, Document)] == ["one", "two", "literal"]


def test_text_within_structures_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [
        {"body": {"text": "one", "n": 1}, "k": 1},
        {"body": {"text": None, "n": 2}, "k": 2},
        {"body": None, "k": 3},
        None,
    ]
    pyarrow.parquet.write_table(pyarrow.table({"data": rows, "url": ["u", "v", "w", "x"]}), path)
    found = list(read_documents(path, text_column="data.body.text"))
    assert found == [Document("one", "u"), *(Reject(n, d.NULL) for n in (2, 3, 4))]
    for column, words in (("data.body.absent", "no column"), ("data.body", "not text"), ("data.body.n", "not text")):
        with pytest.raises(DataError, match=words):
            list(read_documents(path, text_column=column))


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_a_file_that_shrinks_or_grows_while_it_is_read(tmp_path: Path, kind: str) -> None:
    """Also where it then looks damaged, which ``on_bad_file: skip`` would pass over."""
    path, texts = tmp_path / f"a.{kind}", [os.urandom(50).hex() for _ in range(80_000)]
    whole = table(texts) if kind == "parquet" else gzip.compress(jsonl(texts), 1) if "gz" in kind else jsonl(texts)
    for change in (lambda: os.truncate(path, 100), lambda: path.open("ab").write(b"x")):
        path.write_bytes(whole)
        named = File.at(path)
        reading = Slice("law", 0, (named,), "auto", None).documents(0, Meter())
        next(reading)
        change()
        with pytest.raises(ChangedError):
            list(reading)


# ---- what is larger, or says less, than it seems ----


def dictionary(count: int, size: int) -> pyarrow.Array:
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), pyarrow.array(["a" * size]))


BOMBS = {
    "one long text": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"text": dictionary(300, 30_000_000)}), path, compression="zstd"
    ),
    "many texts": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"text": dictionary(20_000, 8_000_000)}), path, compression="zstd"
    ),
    "what it shares with the one before": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"text": ["a" * 30_000_000] * 20}), path, compression="zstd", use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY"}, row_group_size=4,
    ),
    "one page": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"text": ["a" * 1_000_000] * 1000}), path, compression="zstd", use_dictionary=False
    ),
}  # fmt: skip
READ = """
import resource, sys
from rewarm.data.documents import read_documents
import pyarrow.parquet
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
before = peak()
try:
    for item in read_documents(sys.argv[1]): pass
except Exception as error:
    print(error)
print(peak() - before)
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_table_of_long_texts_is_refused_in_little_memory(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "a.parquet"
    BOMBS[bomb](path)
    assert path.stat().st_size < 300_000
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    said, megabytes = done.stdout.rstrip().rsplit("\n", 1)
    assert "this is no text" in said
    assert int(megabytes) < 400


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_page_that_takes_much_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(d, "_PAGE_CAP", 1 << 20)
    texts = [f"{number} " + "text " * 1000 for number in range(400)]  # 2 MB
    path = tmp_path / "a.parquet"

    def write(rows: int) -> None:
        pyarrow.parquet.write_table(
            pyarrow.table({"text": texts}), path, data_page_version=version, use_dictionary=False,
            data_page_size=1, write_batch_size=rows, write_page_checksum=True,
        )  # fmt: skip

    write(100)
    assert items_of(path) == texts
    write(300)
    with pytest.raises(DataError, match="a page of 1 MiB, more than 1"):
        items_of(path)
    path.write_bytes(path.read_bytes().replace(b"PAR1\x15", b"PAR1\0"))  # a header without a field
    with pytest.raises(DataError, match="broken page header"):
        items_of(path)


def test_a_cell_over_the_cap_is_rejected_and_broken_ones_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "CAP", 1000)
    path = tmp_path / "a.parquet"
    path.write_bytes(table(["a", "b" * 1001, "c"]))
    assert items_of(path) == ["a", Reject(2, d.TOO_LONG), "c"]


def test_a_table_of_many_row_groups_and_one_of_views(tmp_path: Path) -> None:
    path, texts = tmp_path / "a.parquet", [f"{n} ộ" for n in range(1000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=33)
    assert texts_of(path) == texts
    for kind in (pyarrow.string_view(), pyarrow.binary_view(), pyarrow.large_string()):
        path.write_bytes(table(TEXTS, kind=kind))
        assert texts_of(path) == TEXTS


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    names = ["text", "text", "body", "url", "url"]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 5, names), path)
    with pytest.raises(DataError, match="two columns are named 'text'"):
        list(read_documents(path))
    assert texts_of(path, text_column="body") == ["a"]


def test_a_record_over_the_cap_in_a_json_file_is_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b'[{"text": "')
        for _ in range(400):
            file.write(b"x" * (1 << 20))
    began = time.process_time()
    with pytest.raises(DataError, match=r"behind record 0: .* longer than 64 MiB"):
        list(read_documents(path))
    assert time.process_time() - began < 5


def test_a_long_record_in_a_json_file_is_parsed_a_few_times(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "a" * (30 << 20)}, {"text": "b"}]))
    assert [len(text) for text in texts_of(path)] == [30 << 20, 1]


@pytest.mark.parametrize(
    "data",
    ['[{"text":"a"} {"text":"b"}]', '[,{"text":"a"}]', '[{"text":"a"},,{"text":"b"}]', '[{"text":"a"},]', "[,]"],
)
def test_commas_that_are_missing_or_too_many(tmp_path: Path, data: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(data)
    with pytest.raises(DataError, match="broken JSON behind record"):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('[{"text":{"a":1}},{"text":"b"}]', [Reject(1, d.NOT_STRING), "b"]),
        ('[{"text":[1,[2]]},{"text":"b"}]', [Reject(1, d.NOT_STRING), "b"]),
        ('[{"body":{"text":"a"}},{"content":[{"text":"b"}]}]', ["a", "b"]),
        ('[{"n":%s,"text":"a"}]' % ("1" * 5000), ["a"]),
        ("[ ]", []),
        ('[{"text":"a"}] {"text":"b"}', ["a", "b"]),
        ('{"text":"Chapter","articles":[{"text":"one"},{"text":"two","n":[{"text":"deep"}]}]}',
         ["Chapter", "one", "two", "deep"]),
        ('[{"text":"a","meta":{"id":1},"tags":["x"],"image":{"content":"y"}},{"text":"b"}]', ["a", "b"]),
        ('{"text":null,"parts":[{"text":"a"},{"text":7}]}', [Reject(1, d.NULL), "a", Reject(3, d.NOT_STRING)]),
        ('[{"text":"a","quote":{"text":null},"note":{"text":""}}]', ["a"]),
    ],
)  # fmt: skip
def test_what_is_a_record_in_a_json_file(tmp_path: Path, data: str, expected: list[str | Reject]) -> None:
    path = tmp_path / "a.json"
    path.write_text(data)
    assert items_of(path) == expected


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.tsv", b"id\ttext, more, words\ttext\n1\tx\ta, b\n", "a, b"),
        ("a.csv", b"id\ttext\ta, b; c; d; e\n1\tx\t2\n", "x"),
        ("a.csv", b"text;one, two, three\nx;y\n", "x"),
        ("a.csv", b"\n\r\nid,text\n1,x\n", "x"),
    ],
)
def test_what_stands_between_columns(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert texts_of(tmp_path / name) == [expected]


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_misspelt_column_and_the_one_that_was_found(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(CONTENTS[kind])
    with pytest.raises(DataError, match=r"there is no column 'bodyy'; the columns are '(id|n|text)'") as caught:
        list(read_documents(path, text_column="bodyy"))
    assert caught.value.where == str(path)
    meter = Meter()
    list(read_documents(path, meter=meter))
    assert meter.columns == {"text"}


def test_a_column_that_one_record_has_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'[1]\n{"title": "a"}\n{"body": "b"}\n')
    assert list(read_documents(path, text_column="body")) == [
        Reject(1, d.NOT_OBJECT),
        Reject(2, d.MISSING),
        Document("b"),
    ]
    with pytest.raises(DataError, match="no column 'bodyy'; the columns of record 2 are 'title'"):
        list(read_documents(path, text_column="bodyy"))
