"""How many tokens of each source come when: exact figures, so that plan, estimates and report agree to the token.

In an epoch a source of weight w gives w times its tokens. With a temperature t, what a weight multiplies is not
the source's own size but its part of all sizes in proportion to size ** (1/t), so that small sources count for
more (Conneau et al. 2020, XLM-R). Over the last part of the run, the annealing, other weights may hold; it has as
many tokens as it would have had, and they are of the best data (Llama 3; OLMo 2, arXiv 2501.00656).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

from rewarm.core.errors import UserError
from rewarm.recipe.recipe import Data, Recipe

WORN_OUT = 16
"""Passes beyond which a text teaches nothing: up to 4 are as good as fresh ones (arXiv 2305.16264)."""


@dataclass(frozen=True)
class Mixture:
    """Tokens of each source, replay last, in an epoch; and in an epoch's worth of annealing, in all as many."""

    tokens: Mapping[str, Fraction | int]
    annealing: Mapping[str, Fraction | int] | None = None
    share: Fraction = Fraction(0)
    """Of the run's tokens: those of the annealing, which are the last."""

    @property
    def total(self) -> Fraction:
        """Tokens of an epoch."""
        return Fraction(sum(self.tokens.values()))

    def turn(self, epochs: int) -> Fraction:
        """Where annealing begins, in epochs from the start of a run of ``epochs``; its end if it never does."""
        return epochs * (1 - self.share) if self.annealing is not None else Fraction(epochs)

    def seen(self, name: str, at: Fraction | int, epochs: int) -> Fraction:
        """Tokens of a source that have come ``at`` epochs after the start of a run of ``epochs``."""
        turn = self.turn(epochs)
        late = (self.annealing or self.tokens)[name] * max(Fraction(0), at - turn)
        return self.tokens[name] * min(Fraction(at), turn) + late


def build_mixture(data: Data, sizes: Mapping[str, int]) -> Mixture:
    """The mixture that ``data`` asks for, where ``sizes`` are the training tokens of each source by name."""
    whole = _tempered({s.name: sizes.get(s.name, 0) for s in data.sources if s.tokens is None}, data.temperature)
    tokens = {
        s.name: Fraction(s.tokens) if s.tokens is not None else _exact(s.times) * whole[s.name] for s in data.sources
    }
    replay = data.replay if data.replay and data.replay.share > 0 else None
    if replay:
        share = _exact(replay.share)
        tokens[replay.name] = share / (1 - share) * sum(tokens.values())
    if data.anneal is None:
        return Mixture(tokens)
    late = {}
    for name in tokens:
        size = whole[name] if name in whole else sizes.get(name, 0)
        late[name] = _exact(data.anneal.weights.get(name, 0.0)) * size
    total, named = sum(tokens.values()), sum(late.values())
    keep = tokens[replay.name] if replay and replay.name not in data.anneal.weights else Fraction(0)
    if named == 0:  # of sources that hold nothing; the plan names them
        return Mixture(tokens)
    annealing = {name: size * (total - keep) / named for name, size in late.items()}
    if keep and replay:
        annealing[replay.name] = keep
    return Mixture(tokens, annealing, _exact(data.anneal.share))


def describe(mixture: Mixture, sizes: Mapping[str, int], epochs: int) -> list[dict[str, Any]]:
    """Of each source: tokens an epoch, share of all, passes over it in the run, and its share while annealing."""
    total = mixture.total or 1
    return [
        {
            "name": name,
            "epoch_tokens": math.ceil(tokens),
            "share": float(tokens / total),
            "times": float(tokens / sizes[name]) if sizes.get(name) else None,
            "passes": float(mixture.seen(name, epochs, epochs) / sizes[name]) if sizes.get(name) else None,
            "anneal_share": None if mixture.annealing is None else float(mixture.annealing[name] / total),
        }
        for name, tokens in mixture.tokens.items()
    ]


def check_passes(recipe: Recipe, sizes: Mapping[str, int], epochs: int) -> list[str]:
    """A note for each source that the run goes through more often than its ``max_epochs``.

    Raises:
        UserError: for one that it goes through more than 16 times, unless ``max_epochs`` allows that.
    """
    limits = {text.name: text.max_epochs for text in recipe.data.trained}
    notes = []
    for row in describe(build_mixture(recipe.data, sizes), sizes, epochs):
        name, passes = row["name"], row["passes"]
        if passes is None or passes <= limits[name]:
            continue
        what = f"{name}: the run goes through it {passes:.1f} times"
        if passes > max(WORN_OUT, limits[name]):
            raise UserError(
                f"{what}, and beyond {WORN_OUT} there is nothing left to learn from it",
                where="data",
                remedy="lower the epochs, or its weight (of replay: the share), or give it more text; or allow it with "
                f"max_epochs: {math.ceil(passes)}",
            )
        notes.append(f"{what}; its max_epochs is {limits[name]:g}: up to 4 passes are as good as fresh text")
    return notes


def _exact(value: float) -> Fraction:
    return Fraction(str(value))  # 0.1 as written, not as rounded to bits: tenths add up without drift


def _tempered(sizes: Mapping[str, int], temperature: float) -> dict[str, int]:
    """Whole numbers with the same sum, in proportion to size ** (1/temperature)."""
    if temperature == 1 or not any(sizes.values()):
        return dict(sizes)
    largest, total = max(sizes.values()), sum(sizes.values())
    running = list(accumulate((size / largest) ** (1 / temperature) for size in sizes.values()))
    ends = [round(total * (part / running[-1])) for part in running]
    return {name: end - begin for name, begin, end in zip(sizes, [0, *ends], ends, strict=False)}
