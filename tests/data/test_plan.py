"""Every token stands in the rows as often as its source's weight says, in an order that only the seed changes."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.core.errors import DataError
from rewarm.data.dataset import Dataset
from rewarm.data.plan import Plan, permutation

Lengths = dict[str, list[int]]


def make_dataset(folder: Path, lengths: Lengths, shard: int = 3) -> Dataset:
    """A dataset whose token ids count up from 1, in shards of ``shard`` documents."""
    entries, token = [], 1
    for name, sizes in lengths.items():
        for held in ("", "held_out"):
            (folder / name / held).mkdir(parents=True, exist_ok=True)
        shards = []
        for begin in range(0, len(sizes), shard):
            part, number = sizes[begin : begin + shard], f"{begin // shard:05d}"
            np.arange(token, token + sum(part), dtype="<u4").tofile(folder / name / f"tokens-{number}.bin")
            np.cumsum([0, *part]).astype("<u8").tofile(folder / name / f"documents-{number}.idx")
            token += sum(part)
            shards.append(number)
        (folder / name / "held_out.jsonl").write_bytes(b"")
        entries.append(
            {
                "name": name, "role": "source", "accepted": len(sizes), "tokens": sum(sizes), "bytes": 1, "held_out": 0,
                "held_out_tokens": 0, "held_out_bytes": 0, "shards": shards, "held_out_shards": [],
            }
        )  # fmt: skip
    return Dataset(folder, {"dtype": "uint32", "sources": entries})


def documents_of(plan: Plan, first: int = 0, last: int | None = None) -> Counter[tuple[str, int]]:
    """How often each document begins in some rows."""
    pieces = [p for row in range(first, plan.total_rows if last is None else last) for p in plan.pieces(row)]
    return Counter((plan.names[p.source], p.document) for p in pieces if p.begin == 0)


lengths = st.lists(st.integers(1, 30), min_size=1, max_size=8)
weights = st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0])


@settings(max_examples=60, deadline=None)
@given(
    a=lengths, b=lengths, wa=weights, wb=weights, epochs=st.integers(1, 3), length=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
)  # fmt: skip
def test_nothing_is_lost_and_weights_hold(
    tmp_path_factory: pytest.TempPathFactory, a: list[int], b: list[int], wa: float, wb: float, epochs: int,
    length: int, share: float,
) -> None:  # fmt: skip
    dataset = make_dataset(tmp_path_factory.mktemp("d"), {"a": a, "b": b, "old": [5, 7, 1, 9]})
    plan = Plan(dataset, [("a", wa), ("b", wb)], ("old", share), epochs, length, seed=7)
    # the pieces of a document follow one another from its first token to its last, across rows
    position: tuple[int, int, int] | None = None
    total, rows = 0, []
    for row in range(plan.total_rows):
        size = 0
        for piece in plan.pieces(row):
            source, document, begin, end, whole = piece
            assert position == (source, document, begin) if begin else position is None
            assert begin < end <= whole
            position = (source, document, end) if end < whole else None
            size += end - begin
        assert 0 < size <= length
        rows.append(size)
        total += size
    assert position is None
    assert total == plan.total_tokens == int(plan.epoch_tokens.sum())
    begin = 0
    for end, tokens in zip(plan.epoch_ends.tolist(), plan.epoch_tokens.tolist(), strict=True):
        of_epoch = rows[begin:end]
        assert max(of_epoch, default=0) - min(of_epoch, default=0) <= 1 and len(of_epoch) == -(-tokens // length)
        begin = end
    # by the end of each epoch every source has given what its weight says, and less than a document more
    old = (
        sum(Fraction(str(w)) * sum(s) for w, s in ((wa, a), (wb, b)))
        * Fraction(str(share))
        / (1 - Fraction(str(share)))
    )
    seen: Counter[tuple[str, int]] = Counter()
    for epoch, end in enumerate(plan.epoch_ends.tolist()):
        seen += documents_of(plan, int(plan.epoch_ends[epoch - 1]) if epoch else 0, end)
        for name, sizes, wanted in (
            ("a", a, Fraction(str(wa)) * sum(a)),
            ("b", b, Fraction(str(wb)) * sum(b)),
            ("old", [5, 7, 1, 9], old),
        ):
            tokens = sum(sizes[document] * n for (source, document), n in seen.items() if source == name)
            goal = math.ceil(wanted * (epoch + 1))
            assert goal <= tokens < goal + max(sizes)
            times = [seen[name, document] for document in range(len(sizes))]
            assert max(times) - min(times) <= 1  # a pass ends before the next begins


def test_whole_weights_are_whole_passes_in_every_epoch(tmp_path: Path) -> None:
    plan = Plan(make_dataset(tmp_path, {"a": [3, 5, 7], "b": [2, 2]}), [("a", 2.0), ("b", 1.0)], None, 3, 4, 1)
    start = 0
    for end in plan.epoch_ends:
        assert documents_of(plan, start, int(end)) == Counter(
            {("a", 0): 2, ("a", 1): 2, ("a", 2): 2, ("b", 0): 1, ("b", 1): 1}
        )
        start = int(end)


def test_tenth_weights_add_up_without_drift(tmp_path: Path) -> None:
    plan = Plan(make_dataset(tmp_path, {"a": [1] * 10}), [("a", 0.1)], None, 10, 4, 1)
    assert plan.epoch_tokens.tolist() == [1] * 10
    assert set(documents_of(plan).values()) == {1}


def test_the_order_is_a_function_of_the_seed_alone(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a": list(range(1, 30)), "b": [4] * 20})

    def rows(seed: int, **changes: int) -> list[object]:
        plan = Plan(dataset, [("a", 1.0), ("b", 1.0)], None, 2, changes.get("length", 16), seed)
        return [(p.source, p.document) for row in range(plan.total_rows) for p in plan.pieces(row) if p.begin == 0]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)
    assert rows(1) == rows(1, length=5)  # the row length cuts the same stream elsewhere
    half = len(rows(1)) // 2
    assert rows(1)[:half] != rows(1)[half:]  # epochs differ
    assert {source for source, _ in rows(1)[:12]} == {0, 1}  # sources are mixed


def test_the_permutation_is_the_one_that_earlier_versions_drew() -> None:
    # a dataset trained halfway with one version of numpy must go on with the next
    assert permutation(8, "fixed").tolist() == [6, 3, 1, 4, 7, 5, 0, 2]


def test_any_row_can_be_asked_for_first(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a": list(range(1, 30))})
    forward = Plan(dataset, [("a", 1.3)], None, 3, 11, 5)
    backward = Plan(dataset, [("a", 1.3)], None, 3, 11, 5)
    expected = [forward.pieces(row) for row in range(forward.total_rows)]
    assert [backward.pieces(row) for row in reversed(range(backward.total_rows))] == expected[::-1]
    for row in (-1, forward.total_rows):
        with pytest.raises(IndexError):
            forward.pieces(row)


def test_a_source_without_tokens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'b'"):
        Plan(make_dataset(tmp_path, {"a": [1], "b": []}), [("a", 1.0), ("b", 1.0)], None, 1, 4, 1)


def test_memory_is_bounded_by_the_documents_of_an_epoch(tmp_path: Path) -> None:
    import tracemalloc

    count = 200_000
    dataset = make_dataset(tmp_path, {"a": [2] * count}, shard=count)
    tracemalloc.start()
    plan = Plan(dataset, [("a", 1.0)], None, 3, 1000, 1)
    for row in range(0, plan.total_rows, 50):
        plan.pieces(row)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 48 * count
