"""Downloads that resume and are verified; archives that are streamed out, and hostile ones that come in."""

from __future__ import annotations

import gzip
import io
import random
import resource
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewarm.core.errors import ModelError, NotFound, UserError
from rewarm.hub.models import Version, publish
from rewarm.hub.transfer import Read, archive, archive_size, chosen, download, is_archive, reader, unpack

WEIGHTS = random.Random(0).randbytes(3_000_000)


@pytest.fixture
def version(tmp_path: Path) -> Version:
    def fill(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        (folder / "config.json").write_text("{}")
        (folder / "report").mkdir()
        (folder / "report" / f"{'long' * 40}.json").write_text("{}")  # a name that a plain tar header cannot hold

    return publish(tmp_path / "models", "legal", fill, {})


def quiet(*_: object) -> None: ...


def counting(read: Read, asked: list[tuple[str, int]]) -> Read:
    def counted(name: str, start: int) -> Iterator[bytes]:
        asked.append((name, start))
        return read(name, start)

    return counted


def test_a_download_goes_on_where_it_broke_off(version: Version, tmp_path: Path) -> None:
    files, asked = version.manifest["files"], list[tuple[str, int]]()

    def breaks(name: str, start: int) -> Iterator[bytes]:
        if name == "model.safetensors":
            yield WEIGHTS[start : start + 1_000_000]
            raise ConnectionResetError
        yield from reader(version)(name, start)

    with pytest.raises(ConnectionResetError):
        download(files, breaks, tmp_path / "to", quiet)
    assert not (tmp_path / "to" / "model.safetensors").exists()
    download(files, counting(reader(version), asked), tmp_path / "to", quiet)
    assert ("model.safetensors", 1_000_000) in asked
    assert (tmp_path / "to" / "model.safetensors").read_bytes() == WEIGHTS
    assert {p.relative_to(tmp_path / "to").as_posix() for p in (tmp_path / "to").rglob("*") if p.is_file()} == set(
        files
    )
    asked.clear()
    download(files, counting(reader(version), asked), tmp_path / "to", quiet)
    assert asked == []


def test_what_does_not_match_is_never_taken_for_whole(version: Version, tmp_path: Path) -> None:
    files = chosen(version.manifest["files"], ["*.safetensors"])
    (tmp_path / "to").mkdir()
    part = tmp_path / "to" / "model.safetensors.part"
    part.write_bytes(b"another beginning")
    download(files, reader(version), tmp_path / "to", quiet)  # the wrong part is found out, and all fetched again
    assert (tmp_path / "to" / "model.safetensors").read_bytes() == WEIGHTS
    (version.path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"?")
    with pytest.raises(ModelError, match="not what its manifest says"):
        download(files, reader(version), tmp_path / "other", quiet)
    assert list((tmp_path / "other").iterdir()) == []
    for name in ("../up", "/etc/x", "a/../../up", "a\\b"):
        with pytest.raises(UserError, match="out of the folder"):
            download({name: {"bytes": 1, "sha256": ""}}, reader(version), tmp_path / "other", quiet)


def test_include_and_exclude(version: Version) -> None:
    files = version.manifest["files"]
    assert set(chosen(files, ["*.json"], ["report/*"])) == {"config.json", "lineage.json"}
    with pytest.raises(NotFound, match="no file fits"):
        chosen(files, ["*.bin"])


def test_the_archive_is_a_tar_of_the_size_that_was_said(version: Version) -> None:
    packed = b"".join(archive(version))
    assert len(packed) == archive_size(version)
    with tarfile.open(fileobj=io.BytesIO(packed)) as found:
        members = {entry.name.removeprefix("legal-1/"): found.extractfile(entry) for entry in found}
        assert set(members) == {*version.manifest["files"], "manifest.json"}
        weights = members["model.safetensors"]
        assert weights and weights.read() == WEIGHTS


def plain_zip(path: Path, names: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in names.items():
            packed.writestr(name, data)
    return path


def tar_of(path: Path, *entries: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for entry in entries:
            packed.addfile(entry, io.BytesIO(b"\0" * entry.size) if entry.isreg() else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, link
    return found


@pytest.mark.parametrize("folder", ["", "model/"])
def test_a_plain_archive_is_unpacked_side_by_side(tmp_path: Path, folder: str) -> None:
    names = {f"{folder}config.json": b"{}", f"{folder}notes/x.py": b"boom", f"{folder}model.bin": b"boom"}
    packed = plain_zip(tmp_path / "m.zip", names)
    whole = tar_of(tmp_path / "m.tar.gz", entry(folder or ".", tarfile.DIRTYPE), entry(f"{folder}config.json", size=2))
    for number, path in enumerate((packed, whole)):
        target = tmp_path / str(number)
        target.mkdir()
        assert is_archive(path)
        unpack(path, target, lambda name: name.endswith(".json"))
        assert [item.name for item in target.iterdir()] == ["config.json"]


def hostile(folder: Path) -> Iterator[Path]:
    for number, name in enumerate(("../config.json", "/etc/config.json", "a/../../config.json", "a\\..\\config.json")):
        yield plain_zip(folder / f"slip{number}.zip", {name: b"{}"})
        yield tar_of(folder / f"slip{number}.tar", entry(name, size=2), mode="w")
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
        yield tar_of(folder / f"odd{number}.tar", entry("config.json", kind, link="/etc/passwd"), mode="w")
    link = zipfile.ZipInfo("config.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "link.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    yield folder / "link.zip"
    yield plain_zip(folder / "two.zip", {"a/config.json": b"{}", "b/config.json": b"{}"})
    yield tar_of(folder / "twice.tar", entry("config.json"), entry("config.json"), mode="w")
    cut = tar_of(folder / "cut.tar.gz", entry("model.safetensors", size=3_000_000))
    cut.write_bytes(cut.read_bytes()[:1500])
    yield cut
    # says that it holds 10 TB
    yield tar_of(folder / "huge.tar", entry("config.json"), mode="w")
    head = entry("model.safetensors", size=10 << 40).tobuf(tarfile.GNU_FORMAT)
    (folder / "huge.tar").write_bytes(head + b"\0" * 10_240)
    with zipfile.ZipFile(folder / "many.zip", "w") as packed:
        for number in range(40_000):
            packed.writestr(f"{number}.json", b"")
    yield folder / "many.zip"
    with tarfile.open(folder / "crowd.tar.gz", "w:gz", compresslevel=1) as crowd:
        for number in range(3_000):
            crowd.addfile(entry(f"{number}/", tarfile.DIRTYPE))
    yield folder / "crowd.tar.gz"
    header = entry("PaxHeader", tarfile.XHDTYPE, size=10 << 30).tobuf(tarfile.GNU_FORMAT)
    with gzip.open(folder / "header.tar.gz", "wb", 1) as bomb:
        bomb.write(header)
        for _ in range(50):
            bomb.write(b"\0" * (1 << 20))
    yield folder / "header.tar.gz"


def test_s14_hostile_archives_are_refused(tmp_path: Path) -> None:
    """Each within two seconds, all of them within 100 MB, and nothing appears outside."""
    folder, target = tmp_path / "archives", tmp_path / "inner" / "target"
    folder.mkdir()
    target.mkdir(parents=True)
    paths = list(hostile(folder))
    before = {path for path in tmp_path.rglob("*") if target not in path.parents}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in paths:
        began = time.monotonic()
        with pytest.raises(UserError):
            unpack(path, target, lambda name: name.endswith((".json", ".safetensors")))
        assert time.monotonic() - began < 2, path
        for item in target.iterdir():
            item.unlink()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # KB
    assert {path for path in tmp_path.rglob("*") if target not in path.parents} == before


def test_a_zip_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    path = plain_zip(tmp_path / "liar.zip", {"config.json": b"\0" * 5_000_000})
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: at + 24] + (100).to_bytes(4, "little") + data[at + 28 :])
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ModelError):
        unpack(path, target, lambda name: True)
    assert sum(item.stat().st_size for item in target.iterdir()) <= 1 << 20
