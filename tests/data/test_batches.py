"""Batches: the same rows for every world size, every token but a document's first predicted once."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.data.batches import IGNORED, Batch, Batches, MicroBatch, prefetch
from rewarm.data.plan import Plan
from tests.data.test_plan import make_dataset, make_plan

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=15)


def check_micro_batch(micro: MicroBatch) -> None:
    assert micro.cu_seqlens[0] == 0
    assert micro.cu_seqlens[-1] == len(micro.input_ids)
    segments = np.diff(micro.cu_seqlens)
    assert (segments > 0).all()
    assert micro.max_seqlen == segments.max()
    assert micro.position_ids.tolist() == [i for size in segments for i in range(size)]
    assert micro.n_targets == (micro.targets != IGNORED).sum()


@settings(max_examples=80, deadline=None)
@given(
    documents=sizes, length=st.integers(1, 20), batch=st.integers(1, 3), accumulation=st.integers(1, 3),
    pad=st.booleans(), epochs=st.integers(1, 3),
)  # fmt: skip
def test_every_world_size_sees_the_same_rows_and_every_target_once(
    tmp_path_factory: pytest.TempPathFactory, documents: list[int], length: int, batch: int, accumulation: int,
    pad: bool, epochs: int,
) -> None:  # fmt: skip
    plan = make_plan(make_dataset(tmp_path_factory.mktemp("d"), {"a": documents}), {"a": 1.0}, epochs, length, 3)
    starts = set(np.cumsum([1, *documents])[:-1].tolist())  # ids count up through the source
    for world in (1, 2, 3):
        loaders = [Batches(plan, batch, accumulation, rank, world, pad) for rank in range(world)]
        seen: list[int] = []
        predicted: list[int] = []
        for step in range(loaders[0].steps):
            parts = [loader.read(step) for loader in loaders]
            assert len({(p.n_targets, p.tokens, p.rows, len(p.micro_batches)) for p in parts}) == 1
            assert parts[0].n_targets == sum(m.n_targets for p in parts for m in p.micro_batches)
            # micro-batch by micro-batch, rank by rank, is the order of the rows
            for micro in [p.micro_batches[i] for i in range(len(parts[0].micro_batches)) for p in parts]:
                check_micro_batch(micro)
                if pad:
                    assert len(micro.input_ids) == batch * length
                predicted += micro.targets[micro.targets != IGNORED].tolist()
            first, last = parts[0].rows
            rows = [t for row in range(first, last) for p in plan.pieces(row) for t in token_ids(plan, p)]
            assert len(rows) == parts[0].tokens
            held = [t for i in range(len(parts[0].micro_batches)) for p in parts for t in real(p, i)]
            assert held == rows
            seen += rows
        every = range(1, sum(documents) + 1)
        assert sorted(seen) == sorted([*every] * epochs)
        assert sorted(predicted) == sorted([t for t in every if t not in starts] * epochs)


def token_ids(plan: Plan, piece: tuple[int, int, int, int, int]) -> list[int]:
    source, document, begin, end, _ = piece
    return plan.documents[source].tokens(document)[begin:end].tolist()


def real(part: Batch, index: int) -> list[int]:
    """The tokens of a micro-batch without its padding; real ids begin at 1 here."""
    ids = part.micro_batches[index].input_ids.tolist()
    return [token for token in ids if token]


def test_the_target_of_a_rows_last_token_is_the_next_rows_first(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [5]}), {"a": 1.0}, 1, 3, 1)
    micro = Batches(plan, 1, 2).read(0).micro_batches
    assert [m.input_ids.tolist() for m in micro] == [[1, 2, 3], [4, 5]]
    assert [m.targets.tolist() for m in micro] == [[2, 3, 4], [5, IGNORED]]
    assert micro[1].position_ids.tolist() == [0, 1]


def test_rows_of_a_micro_batch_lie_end_to_end_and_padding_is_a_segment(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [5]}), {"a": 1.0}, 1, 3, 1)
    micro = Batches(plan, 2, 1, pad=True).read(0).micro_batches[0]
    assert micro.input_ids.tolist() == [1, 2, 3, 4, 5, 0]
    assert micro.targets.tolist() == [2, 3, 4, 5, IGNORED, IGNORED]
    assert micro.cu_seqlens.tolist() == [0, 3, 5, 6]


def test_every_token_knows_its_source(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [4, 9], "b": [7, 2]}), {"a": 1.0, "b": 1.0}, 1, 6, 1)
    for step in range((batches := Batches(plan, 1, 2, pad=True)).steps):
        first, last = batches.rows(step)
        wanted = [p.source for row in range(first, last) for p in plan.pieces(row) for _ in range(p.begin, p.end)]
        micro = batches.read(step).micro_batches
        assert [s for m in micro for s, token in zip(m.sources, m.input_ids, strict=True) if token] == wanted


def test_the_documents_of_a_step(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [4, 4, 4]}), {"a": 1.0}, 1, 6, 1)
    batches = Batches(plan, 1, 1)
    named = [batches.documents(step) for step in range(batches.steps)]
    assert sorted({d for step in named for d in step}) == [("a", 0), ("a", 1), ("a", 2)]
    assert len(named[0]) == 2


def test_prefetch_gives_what_read_gives_from_any_step(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [9] * 20}), {"a": 1.0}, 2, 7, 1)
    batches = Batches(plan, 1, 2)
    for start in (0, 5, batches.steps):
        found = list(prefetch(batches, start))
        assert [step for step, _ in found] == list(range(start, batches.steps))
        for step, batch in found:
            expected = batches.read(step)
            assert batch.rows == expected.rows
            for ours, theirs in zip(batch.micro_batches, expected.micro_batches, strict=True):
                assert np.array_equal(ours.input_ids, theirs.input_ids)
                assert np.array_equal(ours.targets, theirs.targets)


def test_prefetch_ends_its_thread_and_passes_errors_on(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [9] * 20}), {"a": 1.0}, 1, 7, 1)
    batches = Batches(plan, 1, 2)
    before = threading.active_count()
    stream = prefetch(batches, 0)
    next(stream)
    stream.close()
    assert threading.active_count() == before
    with pytest.raises(IndexError):
        next(prefetch(batches, -1))


def test_steps_outside_and_ranks_outside(tmp_path: Path) -> None:
    plan = make_plan(make_dataset(tmp_path, {"a": [9] * 20}), {"a": 1.0}, 1, 7, 1)
    with pytest.raises(ValueError, match="rank 2"):
        Batches(plan, 1, 1, rank=2, world_size=2)
    with pytest.raises(IndexError):
        Batches(plan, 1, 1).read(10_000)
