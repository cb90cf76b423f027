"""Slices follow from the files alone, and a source that grows keeps almost all of them."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from rewarm.data.files import File
from rewarm.data.signature import Signature
from rewarm.data.slices import Slice, slice_bytes, slices_of


def file_of(name: str, size: int = 0) -> File:
    size = size or 5_000 + int(hashlib.sha256(name.encode()).hexdigest()[:6], 16) % 200_000
    return File(f"/corpus/{name}", Signature(size, "1"), sha256=hashlib.sha256(name.encode()).hexdigest())


def parts_of(files: list[File]) -> dict[str, Slice]:
    return {part.key(): part for part in slices_of("law", sorted(files, key=lambda f: f.uri), "txt", None)}


@pytest.mark.parametrize("same_name", [False, True])
def test_a_file_more_or_less_costs_two_slices_at_most(same_name: bool) -> None:
    """A thousand files, and one more of any name and size, or one less: all that lies further away stays together."""
    lot = random.Random(5)
    names = [f"{lot.randbytes(4).hex()}/page.txt" if same_name else f"{n:04d}.txt" for n in range(1000)]
    files = [file_of(name) for name in names]
    before = parts_of(files)
    assert 40 < len(before) < 300
    read = []
    for new in range(60):
        more = f"{lot.randbytes(4).hex()}/page.txt" if same_name else f"{lot.randrange(1000):04d}-{new}.txt"
        after = parts_of([*files, file_of(more)])
        assert len(after.keys() - before.keys()) <= 2
        read.append(sum(after[key].bytes for key in after.keys() - before.keys()))
    for gone in lot.sample(files, 30):
        after = parts_of([f for f in files if f is not gone])
        read.append(sum(after[key].bytes for key in after.keys() - before.keys()))
    assert max(read) <= 4 << 20
    assert sum(read) / len(read) < 1.6 * (1 << 20)


def test_many_files_whose_names_end_alike_are_cut_as_well() -> None:
    """As in folders of dates that each hold one part: their lots are equal."""
    files = [File(f"/c/{day:05d}/a/b/part.txt", Signature(1000, "1"), sha256=f"{day}") for day in range(50_000)]
    counts = [len(part.files) for part in slices_of("law", files, "txt", None)]
    assert sum(counts) == 50_000
    assert 500 < max(counts) < 3000


def test_slices_hold_every_file_once_in_order_and_none_is_far_too_large() -> None:
    files = sorted((file_of(f"{n}.txt") for n in range(3000)), key=lambda f: f.uri)
    parts = slices_of("law", files, "txt", None)
    assert [file for part in parts for file in part.files] == files
    assert [part.number for part in parts] == list(range(len(parts)))
    size = slice_bytes(sum(f.signature.size for f in files))
    assert max(part.bytes for part in parts) <= 2 * size
    assert size / 2 < sum(part.bytes for part in parts) / len(parts) < 2 * size


def test_a_table_that_is_renamed_to_tsv_is_read_anew() -> None:
    keys = {
        slices_of("a", [File(f"/c/a.{e}", Signature(9, "1"), sha256="1")], "auto", None)[0].key()
        for e in ("csv", "tsv")
    }
    assert len(keys) == 2


def test_empty_files_are_shared_out_by_their_number() -> None:
    files = [File(f"/c/{n:06d}.txt", Signature(0, "1"), sha256=f"{n}") for n in range(25_000)]
    counts = [len(part.files) for part in slices_of("law", files, "txt", None)]
    assert sum(counts) == 25_000
    assert max(counts) <= 10_000


def test_the_size_that_slices_aim_at_changes_three_times_at_most() -> None:
    sizes = [slice_bytes(total) for total in range(0, 1 << 40, 1 << 24)]
    assert sorted(set(sizes)) == [1 << 20, 4 << 20, 16 << 20, 64 << 20]
    assert sizes == sorted(sizes)
    assert all(total / size <= 256 or size == 64 << 20 for total, size in zip(range(0, 1 << 34, 1 << 24), sizes))  # noqa: B905


def test_a_large_file_is_cut_and_its_neighbours_stay(tmp_path: Path) -> None:
    large = tmp_path / "m.jsonl"
    large.write_bytes(b'{"text": "a line"}\n' * 200_000)
    cut = File(str(large), Signature(large.stat().st_size, "1"), sha256="large")
    small = [File(str(tmp_path / f"{n}.jsonl"), Signature(10, "1"), sha256=n) for n in "anz"]
    parts = slices_of("law", [small[0], cut, *small[1:]], "auto", None)
    assert [(part.start, part.end) for part in parts[1:-1]] == [
        (start, min(start + (1 << 20), cut.signature.size)) for start in range(0, cut.signature.size, 1 << 20)
    ]
    assert parts[0].files == (small[0],)
    assert parts[-1].files == tuple(small[1:])
    assert {part.text_column for part in parts} == {None, "text"}
    assert [Slice.from_json(part.to_json()) for part in parts] == parts
