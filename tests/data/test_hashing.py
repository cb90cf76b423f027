"""A file is read for its hash once, unless it may have changed since."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from rewarm.core.errors import DataError
from rewarm.data import hashing
from rewarm.data.files import File
from rewarm.data.hashing import hash_files
from rewarm.data.signature import Signature

AN_HOUR = 3600 * 10**9


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = ["a.txt", "ộ\n.txt", os.fsdecode(b"caf\xe9.txt")]
    for name in names:
        path = tmp_path / name
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
        os.utime(path, ns=(time.time_ns() - AN_HOUR, time.time_ns() - AN_HOUR))
    return [str(tmp_path / name) for name in names]


class Hashes:
    """Hashes the files, and counts those that are read for it."""

    def __init__(self, index: Path, patch: pytest.MonkeyPatch) -> None:
        self.index, self.read = index, list[str]()
        honest = hashing._hash
        patch.setattr(hashing, "_hash", lambda file, *rest: (self.read.append(file.uri), honest(file, *rest))[1])

    def __call__(self, paths: list[str], skip: set[str] | None = None) -> dict[str, File | DataError]:
        self.read.clear()
        return hash_files(paths, {}, skip or set(), self.index, 2, lambda *_: None, lambda: False)


@pytest.fixture
def hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hashes:
    return Hashes(tmp_path / ".scans" / "hashes.json", monkeypatch)


def true_hash(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_what_has_not_changed_is_not_read_again(files: list[str], hashes: Hashes) -> None:
    first = hashes(files)
    assert sorted(hashes.read) == sorted(files)
    assert {path: file.sha256 for path, file in first.items() if isinstance(file, File)} == {
        path: true_hash(path) for path in files
    }
    assert hashes(files) == first
    assert len(hashes.read) <= 2  # names that JSON cannot hold


@pytest.mark.parametrize("change", ["content", "size", "another file", "the index"])
def test_a_change_is_noticed(files: list[str], hashes: Hashes, change: str) -> None:
    hashes(files)
    path = Path(files[0])
    before = path.stat()
    if change == "content":
        path.write_bytes(b"A.txt")
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns + 1))
    elif change == "size":
        path.write_bytes(b"longer than before")
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    elif change == "another file":
        path.rename(path.with_suffix(".old"))
        path.write_bytes(b"b.txt")
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    else:
        hashes.index.write_bytes(hashes.index.read_bytes()[:-5])
    found = hashes(files)[files[0]]
    assert isinstance(found, File) and found.sha256 == true_hash(files[0])
    assert files[0] in hashes.read


def test_a_file_that_was_just_written_is_not_trusted(files: list[str], hashes: Hashes) -> None:
    os.utime(files[0])
    hashes(files)
    hashes(files)
    assert files[0] in hashes.read


def test_remote_files_are_not_read_and_known_by_what_their_server_says(hashes: Hashes) -> None:
    uri = "s3://bucket/a.jsonl"

    def known(signature: Signature, at: str = uri) -> str:
        found = hash_files([at], {at: signature}, set(), hashes.index, 1, lambda *_: None, lambda: False)[at]
        assert isinstance(found, File)
        return found.sha256

    assert known(Signature(5, "v")) == known(Signature(5, "v"))
    others = [known(Signature(6, "v")), known(Signature(5, "w")), known(Signature(5, "v"), uri + "x")]
    assert len({known(Signature(5, "v")), *others}) == 4
    assert hashes.read == []


def test_bad_files_stop_or_are_passed_over(files: list[str], hashes: Hashes, tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe.jsonl")
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="not a regular file"):
        hashes([*files, pipe])
    assert isinstance(hashes([*files, pipe], {pipe})[pipe], DataError)
    assert File.at(files[0]).signature.size == 5
