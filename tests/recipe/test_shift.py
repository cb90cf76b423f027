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
        (2.0, "domain", 0.25),
    ],
)
def test_the_share_of_replay_grows_with_what_the_corpus_costs_the_base(corpus: float, kind: str, share: float) -> None:
    shift = shift_of(corpus, 1.0, {"en": 0.9}, {"en": 0.8, "fr": 0.1})
    assert (shift.kind, shift.share) == (kind, share)
    assert f"{corpus:.2f} bits per byte against 1.00" in shift.reason


def test_a_language_that_the_base_hardly_writes_is_new_however_cheap_its_bytes_are() -> None:
    shift = shift_of(1.1, 1.0, {"vi": 0.95, "en": 0.05}, {"en": 0.95})
    assert (shift.kind, shift.share) == ("language", 0.25) and "95 % of the corpus is vi, and 0 %" in shift.reason
    assert shift_of(1.1, 1.0, {"vi": 0.4, "en": 0.3}, {"en": 0.95}).kind == "update"


def test_the_base_writes_a_quarter_of_the_replay_that_is_seen_and_at_most_20m() -> None:
    assert written_tokens(0.25, 1200) == 100  # 400 are replayed, 4 times each
    assert written_tokens(0.25, 10**12) == 20_000_000
    assert written_tokens(0.05, 3) == 1
