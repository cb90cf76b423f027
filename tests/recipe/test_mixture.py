"""How many tokens of each source come when, exactly; and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.core.errors import UserError
from rewarm.recipe.load import parse_recipe
from rewarm.recipe.mixture import build_mixture, check_passes, describe
from rewarm.recipe.recipe import Data, Recipe, Source

TEXT = """\
name: a
base_model: o/m
data:
  sources: [{name: web, path: x}, {name: best, path: y}]
  replay: {name: old, path: r, share: 0.25}
"""
SIZES = {"web": 900, "best": 100, "old": 500}


def parse(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, overrides, Path("/here"))


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(*overrides)
    return str(caught.value)


def tokens(*overrides: str) -> dict[str, float]:
    return {name: float(n) for name, n in build_mixture(parse(*overrides).data, SIZES).tokens.items()}


def test_weights_token_counts_and_the_replays_share() -> None:
    assert tokens("data.sources[0].weight=0.5") == {"web": 450, "best": 100, "old": pytest.approx(550 / 3)}
    assert tokens("data.sources[0].tokens=1200", "data.replay.share=0.5") == {"web": 1200, "best": 100, "old": 1300}
    assert tokens("data.replay.share=0") == {"web": 900, "best": 100}
    assert "its weight or its tokens, not both" in refused("data.sources[0].weight=1", "data.sources[0].tokens=5")


def test_temperature_evens_out_sizes_and_weights_multiply_it() -> None:
    # 900 and 100: their roots are 3 to 1
    assert tokens("data.temperature=2")["web"] == 750
    assert tokens("data.temperature=2", "data.sources[1].weight=2")["best"] == 500
    flat = tokens("data.temperature=100", "data.replay.share=0")
    assert sum(flat.values()) == 1000 and abs(flat["web"] - flat["best"]) < 25
    given = tokens("data.temperature=2", "data.sources[1].tokens=70", "data.replay.share=0")
    assert given == {"web": 900, "best": 70}  # a count is a count, and the rest is evened out among itself


@given(sizes=st.lists(st.integers(0, 10**12), min_size=1, max_size=6), temperature=st.floats(0.05, 100))
def test_temperature_keeps_the_total(sizes: list[int], temperature: float) -> None:
    data = Data(sources=[Source(name=f"s{i}", path="x") for i in range(len(sizes))], temperature=temperature)
    mixture = build_mixture(data, {f"s{i}": size for i, size in enumerate(sizes)})
    assert mixture.total == sum(sizes)
    assert all(n >= 0 for n in mixture.tokens.values())


def test_annealing() -> None:
    late = "data.anneal={share: 0.2, weights: {best: 3, web: 0.1}}"
    mixture = build_mixture(parse(late).data, SIZES)
    assert mixture.annealing is not None
    assert mixture.total == sum(mixture.annealing.values()) == Fraction(4000, 3)
    # 300 to 90 tokens by weight and size, of the three quarters that the replay leaves
    assert mixture.annealing == {
        "best": 1000 * Fraction(300, 390),
        "web": 1000 * Fraction(90, 390),
        "old": Fraction(1000, 3),
    }
    assert mixture.turn(2) == Fraction(8, 5)
    assert mixture.seen("web", 2, 2) == 900 * Fraction(8, 5) + mixture.annealing["web"] * Fraction(2, 5)
    assert sum(mixture.seen(name, 2, 2) for name in mixture.tokens) == 2 * mixture.total
    without = build_mixture(parse("data.anneal={weights: {best: 1, old: 0}}").data, SIZES)
    assert without.annealing == {"web": 0, "best": Fraction(4000, 3), "old": 0}
    rows = {row["name"]: row for row in describe(mixture, SIZES, 2)}
    assert rows["old"]["share"] == rows["old"]["anneal_share"] == 0.25
    assert rows["web"]["passes"] == pytest.approx(1.6 + 2 / 39 * 4 / 3 * 3 * 0.5 * 1.25, rel=0.1)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.anneal={weights: {bset: 1}}"], "no source is called 'bset'; there are web, best, old"),
        (["data.anneal={weights: {best: 0}}"], "at least one weight must be above 0"),
        (["data.anneal={share: 1, weights: {best: 1}}"], "data.anneal.share"),
        (["data.sources[1].weight=0"], "source best: of weight 0"),
        (
            ["data.sources[0].weight=0", "data.sources[1].weight=0", "data.anneal={weights: {web: 1, best: 1}}"],
            "above 0",
        ),
        (["data.replay={share: 0.1}"], "give path, or generate"),
        (["data.replay={path: x, generate: {}}"], "give path, or generate"),
        (["data.replay={generate: {tokns: 5}}"], "did you mean 'tokens'?"),
    ],
)
def test_refused(overrides: list[str], words: str) -> None:
    assert words in refused(*overrides)


def test_a_source_for_the_annealing_alone() -> None:
    recipe = parse("data.sources[1].weight=0", "data.anneal={weights: {best: 1}}")
    assert build_mixture(recipe.data, SIZES).tokens["best"] == 0


def test_passes_are_counted_over_the_whole_run() -> None:
    assert check_passes(parse(), SIZES, 4) == []
    notes = check_passes(parse(), SIZES, 5)
    assert [note.split(":")[0] for note in notes] == ["web", "best"]
    assert "5.0 times" in notes[0] and "max_epochs is 4" in notes[0]
    assert check_passes(parse("data.sources[0].max_epochs=5", "data.sources[1].max_epochs=9"), SIZES, 5) == []
    assert len(check_passes(parse("data.sources[1].max_epochs=0.5"), SIZES, 1)) == 1
    assert check_passes(parse("data.sources[0].weight=0.1", "data.sources[1].weight=0.4"), SIZES, 10) == []
    with pytest.raises(UserError, match=r"best: .* 17.0 times") as caught:
        check_passes(parse("data.sources[1].weight=17"), SIZES, 1)
    assert "max_epochs: 17" in str(caught.value) and caught.value.exit_code == 2
    allowed = parse("data.sources[1].weight=17", "data.sources[1].max_epochs=20")
    assert check_passes(allowed, SIZES, 1)[:1] == []
    with pytest.raises(UserError, match="old: "):  # replay wears out as well
        check_passes(parse(), {**SIZES, "old": 20}, 1)


def test_annealing_counts_as_passes() -> None:
    notes = check_passes(parse("data.anneal={share: 0.5, weights: {best: 1}}"), SIZES, 1)
    assert len(notes) == 1 and notes[0].startswith("best: the run goes through it 5.5 times")


def test_replay_that_is_not_written_yet_cannot_be_read() -> None:
    recipe = parse("data.replay={generate: {tokens: 1000}, share: 0.1}")
    assert recipe.data.replay is not None and recipe.data.replay.name == "replay"
    with pytest.raises(UserError, match="writes this text when a run begins"):
        _ = recipe.data.replay.paths
