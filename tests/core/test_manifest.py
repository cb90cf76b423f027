"""A folder is what its manifest says, or an error names the file that is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rewarm.core.errors import DataError, ModelError
from rewarm.core.manifest import read_manifest, verify, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "inner" / "b.txt").write_text("text")
    write_manifest(tmp_path, {"kind": "test"})
    return tmp_path


def test_whole(folder: Path) -> None:
    manifest = verify(folder)
    assert manifest["kind"] == "test"
    assert sorted(manifest["files"]) == ["a.bin", "inner/b.txt"]


@pytest.mark.parametrize("place", [0, 5000, 10239])
def test_one_flipped_bit_is_found(folder: Path, place: int) -> None:
    data = bytearray((folder / "a.bin").read_bytes())
    data[place] ^= 1
    (folder / "a.bin").write_bytes(data)
    with pytest.raises(ModelError, match=r"a\.bin: its SHA-256 differs"):
        verify(folder, ModelError)
    verify(folder, hashes=False)  # sizes alone cannot see it: why hashes exist


def test_cut_and_missing(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"short")
    with pytest.raises(DataError, match="has 5 bytes, the manifest says 10240"):
        verify(folder, hashes=False)
    (folder / "a.bin").unlink()
    with pytest.raises(DataError, match="missing"):
        verify(folder)


@pytest.mark.parametrize(
    "entry", [7, None, {}, {"bytes": 4}, {"bytes": 4, "sha257": "x"}, {"bytes": "4", "sha256": "x"}]
)
def test_an_entry_that_is_none_is_damage(folder: Path, entry: object) -> None:
    (folder / "manifest.json").write_text(json.dumps({"files": {"inner/b.txt": entry}}))
    with pytest.raises(ModelError, match=r"manifest\.json: the manifest does not give size and SHA-256 of 'inner/b"):
        verify(folder, ModelError)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"files": 3}'])
def test_no_manifest_no_folder(folder: Path, content: bytes | None) -> None:
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_bytes(content)
    with pytest.raises(DataError):
        read_manifest(folder)
