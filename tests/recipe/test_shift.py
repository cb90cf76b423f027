"""How much replay a corpus takes."""

from __future__ import annotations

import pytest

from rewarm.recipe.shift import own_replay, shift_of


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


@pytest.mark.parametrize(
    ("share", "tokens", "wanted", "longest"),
    [(0.25, 1_080_000, 100_000, 781), (0.25, 10**12, 20_000_000, 1024), (0.05, 3, 1, 64)],
)
def test_the_base_writes_what_is_seen_four_times_and_at_most_20m(
    share: float, tokens: int, wanted: int, longest: int
) -> None:
    replay = own_replay(share, tokens)
    assert replay.generate is not None and replay.share == share and not replay.path
    assert (replay.generate.tokens, replay.generate.max_tokens) == (wanted, longest)
    assert own_replay(share, tokens, ["replay"]).name != "replay"
