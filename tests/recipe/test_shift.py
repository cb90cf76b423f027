"""How much replay a corpus takes."""

from __future__ import annotations

import pytest

from rewarm.recipe.shift import shift_of, written_tokens


@pytest.mark.parametrize(
    ("corpus", "kind", "share"),
    [
        (0.9, "update", 0.05),
        (1.29, "update", 0.05),
        (1.3, "domain", 0.15),
        (1.9, "domain", 0.15),
        (2.0, "language", 0.25),
    ],
)
def test_the_share_of_replay_grows_with_what_the_corpus_costs_the_base(corpus: float, kind: str, share: float) -> None:
    shift = shift_of(corpus, 1.0)
    assert (shift.kind, shift.share) == (kind, share)
    assert f"{corpus:.2f} bits per byte against 1.00" in shift.reason


def test_the_base_writes_a_quarter_of_the_replay_that_is_seen_and_at_most_20m() -> None:
    assert written_tokens(0.25, 1200) == 100  # 400 are replayed, 4 times each
    assert written_tokens(0.25, 10**12) == 20_000_000
    assert written_tokens(0.05, 3) == 1
