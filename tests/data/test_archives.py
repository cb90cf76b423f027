"""Archives are read as streams: nothing is unpacked, no name in one is a path, and none is read in part."""

from __future__ import annotations

import gzip
import io
import os
import resource
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from rewarm.core.errors import DataError
from rewarm.data import documents as d
from rewarm.data.documents import Document, Reject, read_documents
from rewarm.data.files import Meter, list_files
from rewarm.data.prepare import build_dataset
from tests.data.conftest import MakeRecipe
from tests.data.test_documents import CONTENTS, TEXTS, jsonl, zipped

ODD_NAMES = ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "C:\\out.txt", "new\nline.txt", "Điều.txt"]


def tarred(files: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(data), kind
            archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def texts_of(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return [item.text for item in read_documents(path) if isinstance(item, Document)]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.zst", ".jsonl"])
def test_a_tar_of_everything_in_its_own_order(tmp_path: Path, ending: str) -> None:
    data = tarred([
        ("z/two.jsonl.gz", gzip.compress(jsonl(["two"]))), ("one.json", b'{"text": "one"}'), ("c.txt", b"three"),
        ("t.parquet", CONTENTS["parquet"]), ("README.md", b"no"), ("picture.png", b"\x89PNG"), (".hidden.txt", b"no"),
    ])  # fmt: skip
    pack = gzip.compress if "gz" in ending else zstandard.compress if "zst" in ending else bytes
    assert texts_of(tmp_path / f"a{ending}", pack(data)) == ["two", "one", "three", *TEXTS]


def test_folders_show_tar_archives(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar.gz", "c.tgz", "d.exe"):
        (tmp_path / name).touch()
    assert [Path(name).name for name in list_files([str(tmp_path)]).files] == ["a.tar", "b.tar.gz", "c.tgz"]


def test_names_in_archives_are_only_names(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    files = [(name, name.encode()) for name in ODD_NAMES]
    assert texts_of(folder / "a.tar", tarred(files)) == ODD_NAMES
    assert sorted(texts_of(folder / "a.zip", zipped(dict(files)))) == sorted(ODD_NAMES)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.tar", "a.zip"]


def test_two_files_of_one_name_are_two_files(tmp_path: Path) -> None:
    assert texts_of(tmp_path / "a.tar", tarred([("a.txt", b"first"), ("a.txt", b"second")])) == ["first", "second"]
    sink = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(sink, "w") as archive:
        warnings.simplefilter("ignore")
        for content in ("first", "second"):
            archive.writestr("a.txt", content)
    assert texts_of(tmp_path / "a.zip", sink.getvalue()) == ["first", "second"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_passed_over(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("a.txt")
    entry.type, entry.linkname = kind, "/etc/passwd"
    assert texts_of(tmp_path / "a.tar", entry.tobuf() + tarred([("b.txt", b"kept")])) == ["kept"]


@pytest.mark.parametrize("cut", [10, 512, 700, 1024, 1200])
def test_a_cut_tar_is_an_error(tmp_path: Path, cut: int) -> None:
    whole = tarred([("a.txt", b"x" * 512), ("b.txt", b"second")])
    for data in (whole[:cut], gzip.compress(whole[:cut])):
        (tmp_path / "a.tar").write_bytes(data)
        with pytest.raises(DataError, match=r"a\.tar"):
            list(read_documents(tmp_path / "a.tar"))


def test_archives_in_archives_are_refused(tmp_path: Path) -> None:
    inner = tarred([("a.txt", b"x")])
    for name, data in (("a.tar", tarred([("b.tar", inner)])), ("a.zip", zipped({"b.tar": inner})),
                       ("b.tar", tarred([("b.zip", zipped({"a.txt": b"x"}))]))):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="archive inside an archive"):
            list(read_documents(tmp_path / name))


def test_bombs_and_crowds_cost_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.data.files._MAX_MEMBERS", 1000)
    many = [(f"{n}.png", b"") for n in range(1001)]
    cases = {
        "a.tar": tarred(many),
        "a.zip": zipped(dict(many)),
        "b.tar.gz": gzip.compress(tarred([("a.txt", bytes(300 << 20))])),
        "c.tar.zst": zstandard.compress(tarred([("a.txt", bytes(300 << 20))])),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=r"more than"):
            list(read_documents(tmp_path / name))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_zstd_window_that_no_memory_holds(tmp_path: Path) -> None:
    settings = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    (tmp_path / "a.jsonl.zst").write_bytes(packed.compress(jsonl(TEXTS)) + packed.flush())
    with pytest.raises(DataError, match="memory"):
        list(read_documents(tmp_path / "a.jsonl.zst"))


def test_members_are_named_in_rejects(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred([("x/one.jsonl", b'{"text": 1}\n')]))
    assert list(read_documents(tmp_path / "a.tar")) == [Reject(1, d.NOT_STRING, "x/one.jsonl")]


def test_a_hole_in_a_large_file_is_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(jsonl(TEXTS))
        file.truncate(1 << 40)
    assert path.stat().st_blocks * 512 < 1 << 20
    with pytest.raises(DataError, match="a hole at byte"):
        list(read_documents(path))


@pytest.mark.parametrize("pack", [tarred, lambda files: zipped(dict(files))])
def test_members_that_are_passed_over_are_counted_as_files_are(
    tmp_path: Path, pack: Callable[[list[tuple[str, bytes]]], bytes], english: list[str], tokenizer_folder: Path,
    make_recipe: MakeRecipe,
) -> None:  # fmt: skip
    files = [("law.jsonl", jsonl(english)), ("x/book.rst", b"#"), ("README.txt", b"no"), (".hidden", b"no")]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(pack(files))
    (tmp_path / "in" / "book.epub").touch()
    dataset = build_dataset(make_recipe(tmp_path / "in"), tokenizer_folder, tmp_path / "d", workers=1)
    entry = dataset.manifest["sources"][0]
    names = [name.removeprefix(f"{tmp_path}/in/") for name in entry["ignored_files"]["first"]]
    assert sorted(names) == ["a.tar:README.txt", "a.tar:x/book.rst", "book.epub"]
    assert entry["ignored_files"]["count"] == 3
    assert (entry["documents_in"], entry["text_columns"]) == (len(english), ["text"])


def test_links_in_a_tar_are_counted(tmp_path: Path) -> None:
    files = [("a.txt", b""), (os.fsdecode(b"caf\xe9.txt"), b"")]
    (tmp_path / "a.tar").write_bytes(tarred(files, tarfile.SYMTYPE))
    meter = Meter()
    assert list(read_documents(tmp_path / "a.tar", meter=meter)) == []
    assert meter.ignored == ["a.txt", "caf\\xe9.txt"]  # as JSON can hold it
