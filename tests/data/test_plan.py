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
from rewarm.recipe.mixture import build_mixture
from rewarm.recipe.recipe import Anneal, Data, Replay, Source

Lengths = dict[str, list[int]]
OLD = [5, 7, 1, 9]


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


def make_plan(
    dataset: Dataset, weights: dict[str, float], epochs: int, length: int, seed: int, *, old: float = 0.0,
    anneal: tuple[float, dict[str, float]] | None = None,
) -> Plan:  # fmt: skip
    """The plan of a mixture; ``old`` is the share of the replay of that name."""
    data = Data(
        sources=[Source(name=name, path="x", weight=weight) for name, weight in weights.items()],
        replay=Replay(name="old", path="x", share=old) if "old" in dataset.sources else None,
        anneal=Anneal(share=anneal[0], weights=anneal[1]) if anneal else None,
    )
    sizes = {name: source.tokens for name, source in dataset.sources.items()}
    return Plan(dataset, build_mixture(data, sizes), epochs, length, seed)


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
    dataset = make_dataset(tmp_path_factory.mktemp("d"), {"a": a, "b": b, "old": OLD})
    plan = make_plan(dataset, {"a": wa, "b": wb}, epochs, length, 7, old=share)
    check_rows(plan, length)
    assert plan.part_ends.tolist() == plan.epoch_ends.tolist() and len(plan.epoch_ends) == epochs
    # by the end of each epoch every source has given what its weight says, and less than a document more
    old = sum(Fraction(str(w)) * sum(s) for w, s in ((wa, a), (wb, b))) * odds(share)
    seen: Counter[tuple[str, int]] = Counter()
    for epoch, end in enumerate(plan.epoch_ends.tolist()):
        seen += documents_of(plan, int(plan.epoch_ends[epoch - 1]) if epoch else 0, end)
        for name, sizes, wanted in (
            ("a", a, Fraction(str(wa)) * sum(a)),
            ("b", b, Fraction(str(wb)) * sum(b)),
            ("old", OLD, old),
        ):
            check_stream(seen, name, sizes, wanted * (epoch + 1))


def odds(share: float) -> Fraction:
    return Fraction(str(share)) / (1 - Fraction(str(share)))


def check_stream(seen: Counter[tuple[str, int]], name: str, sizes: list[int], wanted: Fraction) -> None:
    """As many tokens of a source have come as were wanted, less than a document more, pass after pass."""
    tokens = sum(sizes[document] * n for (source, document), n in seen.items() if source == name)
    goal = math.ceil(wanted)
    assert goal <= tokens < goal + max(sizes)
    times = [seen[name, document] for document in range(len(sizes))]
    assert max(times) - min(times) <= 1  # a pass ends before the next begins


def check_rows(plan: Plan, length: int) -> None:
    """Within each part the documents follow one another whole, across rows, and the rows are equally long."""
    begin, total = 0, 0
    for stop, of_sources in zip(plan.part_ends.tolist(), plan.part_tokens.tolist(), strict=True):
        position: tuple[int, int, int] | None = None
        rows, given = [], Counter[int]()
        for row in range(begin, stop):
            size = 0
            for source, document, first, last, whole in plan.pieces(row):
                assert position == (source, document, first) if first else position is None
                assert first < last <= whole
                position = (source, document, last) if last < whole else None
                size += last - first
                given[source] += last - first
            assert 0 < size <= length
            rows.append(size)
        assert position is None
        assert [given[source] for source in range(len(plan.names))] == of_sources
        assert max(rows, default=0) - min(rows, default=0) <= 1 and len(rows) == -(-sum(of_sources) // length)
        begin, total = stop, total + sum(rows)
    assert (begin, total) == (plan.total_rows, plan.total_tokens)


late = st.sampled_from([0.0, 0.01, 0.5, 1.0, 4.0])


@settings(max_examples=80, deadline=None)
@given(
    a=lengths, b=lengths, wa=st.sampled_from([0.0, 0.3, 1.0, 2.0]), wb=weights, epochs=st.integers(1, 3),
    length=st.integers(1, 40), share=st.sampled_from([0.0, 0.25]), anneal=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]),
    la=st.sampled_from([0.1, 1.0, 4.0]), lb=late, lold=st.none() | late,
)  # fmt: skip
def test_annealing_comes_last_and_changes_neither_the_total_nor_the_replay(
    tmp_path_factory: pytest.TempPathFactory, a: list[int], b: list[int], wa: float, wb: float, epochs: int,
    length: int, share: float, anneal: float, la: float, lb: float, lold: float | None,
) -> None:  # fmt: skip
    dataset = make_dataset(tmp_path_factory.mktemp("d"), {"a": a, "b": b, "old": OLD})
    late = {"a": la, "b": lb, **({} if lold is None else {"old": lold})}
    plan = make_plan(dataset, {"a": wa, "b": wb}, epochs, length, 7, old=share, anneal=(anneal, late))
    check_rows(plan, length)
    assert len(plan.epoch_ends) == epochs and plan.epoch_ends[-1] == plan.total_rows
    # what each source gives in an epoch, and in an epoch of annealing
    sizes = {"a": sum(a), "b": sum(b), "old": sum(OLD)}
    given = {"a": Fraction(str(wa)) * sum(a), "b": Fraction(str(wb)) * sum(b)}
    if share:
        given["old"] = sum(given.values()) * odds(share)
    total = sum(given.values())
    parts = {name: Fraction(str(late.get(name, 0.0))) * sizes[name] for name in given}
    kept = given["old"] if share and lold is None else 0
    annealed = {name: part * (total - kept) / sum(parts.values()) for name, part in parts.items()}
    if kept:
        annealed["old"] = kept
    turn = epochs * (1 - Fraction(str(anneal)))
    places = sorted({turn, *range(1, epochs + 1)})
    assert len(places) == len(plan.part_ends)
    seen: Counter[tuple[str, int]] = Counter()
    begin = 0
    for at, end in zip(places, plan.part_ends.tolist(), strict=True):
        seen += documents_of(plan, begin, end)
        begin = end
        for name, texts in (("a", a), ("b", b), ("old", OLD)):
            wanted = given.get(name, 0) * min(at, turn) + annealed.get(name, 0) * max(0, at - turn)
            check_stream(seen, name, texts, Fraction(wanted))
    assert epochs * total <= plan.total_tokens < epochs * total + 3 * 30


def test_annealing_is_the_end_of_the_run_on_the_named_sources(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"web": [3] * 100, "best": [5] * 12, "old": [4] * 25})
    plain = make_plan(dataset, {"web": 1.0, "best": 1.0}, 2, 8, 1, old=0.25)
    plan = make_plan(dataset, {"web": 1.0, "best": 1.0}, 2, 8, 1, old=0.25, anneal=(0.125, {"best": 1.0}))
    assert plan.part_tokens[-1].tolist() == [0, 90, 28]  # 120 tokens, a quarter of them replay: 2 came a document early
    first = int(plan.part_ends[-2])
    names = [{plan.names[p.source] for p in plan.pieces(row)} for row in range(plan.total_rows)]
    assert all("web" not in row for row in names[first:]) and "web" in set().union(*names[:first])
    assert abs(plan.total_tokens - plain.total_tokens) < 5
    assert plan.epoch_ends[0] == plain.epoch_ends[0]
    same = range(int(plan.epoch_ends[0]))
    assert [plan.pieces(row) for row in same] == [plain.pieces(row) for row in same]  # the first epoch is untouched


def test_a_source_may_be_for_the_annealing_alone(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"web": [3] * 100, "best": [5] * 12})
    plan = make_plan(dataset, {"web": 1.0, "best": 0.0}, 1, 8, 1, anneal=(0.2, {"best": 1.0}))
    assert plan.part_tokens.tolist() == [[240, 0], [0, 60]]


def test_whole_weights_are_whole_passes_in_every_epoch(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [3, 5, 7], "b": [2, 2]}), {"a": 2.0, "b": 1.0}, 3, 4, 1)
    start = 0
    for end in plan.epoch_ends:
        assert documents_of(plan, start, int(end)) == Counter(
            {("a", 0): 2, ("a", 1): 2, ("a", 2): 2, ("b", 0): 1, ("b", 1): 1}
        )
        start = int(end)


def test_tenth_weights_add_up_without_drift(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [1] * 10}), {"a": 0.1}, 10, 4, 1)
    assert plan.part_tokens.tolist() == [[1]] * 10
    assert set(documents_of(plan).values()) == {1}


def test_the_order_is_a_function_of_the_seed_alone(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a": list(range(1, 30)), "b": [4] * 20})

    def rows(seed: int, **changes: int) -> list[object]:
        plan = make_plan(dataset, {"a": 1.0, "b": 1.0}, 2, changes.get("length", 16), seed)
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
    forward = make_plan(dataset, {"a": 1.3}, 3, 11, 5, anneal=(0.5, {"a": 1.0}))
    backward = make_plan(dataset, {"a": 1.3}, 3, 11, 5, anneal=(0.5, {"a": 1.0}))
    expected = [forward.pieces(row) for row in range(forward.total_rows)]
    assert [backward.pieces(row) for row in reversed(range(backward.total_rows))] == expected[::-1]
    for row in (-1, forward.total_rows):
        with pytest.raises(IndexError):
            forward.pieces(row)


def test_a_source_without_tokens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'b'"):
        make_plan(make_dataset(tmp_path, {"a": [1], "b": []}), {"a": 1.0, "b": 1.0}, 1, 4, 1)


def test_memory_is_bounded_by_the_documents_of_an_epoch(tmp_path: Path) -> None:
    import tracemalloc

    count = 200_000
    dataset = make_dataset(tmp_path, {"a": [2] * count}, shard=count)
    tracemalloc.start()
    plan = make_plan(dataset, {"a": 1.0}, 3, 1000, 1)
    for row in range(0, plan.total_rows, 50):
        plan.pieces(row)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 48 * count


@settings(max_examples=40, deadline=None)
@given(a=lengths, weight=weights, epochs=st.integers(1, 3), length=st.integers(1, 40), share=st.floats(0, 1))
def test_what_is_seen_of_each_source(
    tmp_path_factory: pytest.TempPathFactory, a: list[int], weight: float, epochs: int, length: int, share: float
) -> None:
    dataset = make_dataset(tmp_path_factory.mktemp("d"), {"a": a, "old": OLD})
    plan = make_plan(dataset, {"a": weight}, epochs, length, 7, old=0.25)
    rows = round(share * plan.total_rows)
    pieces = [piece for row in range(rows) for piece in plan.pieces(row)]
    for source, name in enumerate(plan.names):
        mine = [piece for piece in pieces if piece.source == source]
        assert plan.seen(rows)[name] == (len({p.document for p in mine}), sum(p.end - p.begin for p in mine))
    assert sum(tokens for _, tokens in plan.seen(plan.total_rows).values()) == plan.total_tokens
