"""Drops what says the same thing again and again: Gopher's table A1 (arXiv 2112.11446).

A repeated line or run of words counts from its second time on, so a document that repeats nothing has
zero everywhere, however short it is. Characters are counted against all characters of the document.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rewarm.data.steps.limits import Limit, bounds, facts, first_broken, with_profile
from rewarm.data.steps.rule import Apply, Drop
from rewarm.data.steps.words import JUDGED, Hashes, Words, longer, n_grams, split_words
from rewarm.recipe.steps import Repetition

Places = npt.NDArray[np.int64]
__all__ = ["CHANGES", "LIMITS", "VERSION", "build", "facts", "figures"]
VERSION = 1
CHANGES = False
LIMITS = (
    Limit("max_duplicate_lines", "duplicate_lines", "duplicate lines"),
    Limit("max_duplicate_line_characters", "duplicate_line_characters", "characters in duplicate lines"),
    *(Limit(f"max_top_{n}_gram", f"top_{n}_gram", f"top {n}-gram") for n in (2, 3, 4)),
    *(Limit(f"max_duplicated_{n}_gram", f"duplicated_{n}_gram", f"duplicated {n}-grams") for n in range(5, 11)),
)


def figures(text: str) -> Iterator[tuple[str, float]]:
    """What is measured, by name, in the order of ``LIMITS``; all are shares."""
    size = len(text[:JUDGED])
    yield from _lines(text[:JUDGED])
    words = split_words(text)
    grams = n_grams(words.hashes, 2)  # every n words in a row
    places = np.arange(len(grams))  # where they may come twice
    for n in range(2, 11):
        found = _again(grams, places)
        if found is None:
            return
        order, counts = found
        if n < 5:
            yield f"top_{n}_gram", min(1.0, _top(words, order, counts, n) / size)
        else:
            yield f"duplicated_{n}_gram", _duplicated(words, order, counts, n) / size
        twice = np.zeros(len(grams) + 1, bool)
        twice[order] = True
        places = np.flatnonzero(twice[:-2] & twice[1:-1])  # what comes once is no part of a longer run that does twice
        grams = longer(grams, words.hashes)


def _again(grams: Hashes, places: Places) -> tuple[Places, Places] | None:
    """The places of all that comes more than once, equal ones together, and how many each time are equal."""
    if len(places) < 2:
        return None
    keys = grams[places]
    order = np.argsort(keys)
    keys = keys[order]
    edges = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))
    counts = np.diff(edges)
    several = counts > 1
    if not several.any():
        return None
    return places[order[np.repeat(several, counts)]], counts[several]


def _lines(text: str) -> Iterator[tuple[str, float]]:
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if len(lines) > 1:
        once = set(lines)
        yield "duplicate_lines", (len(lines) - len(once)) / len(lines)
        everything = sum(map(len, lines))
        yield "duplicate_line_characters", (everything - sum(map(len, once))) / everything


def _top(words: Words, order: Places, counts: Places, n: int) -> int:
    """Characters in the commonest n words in a row; of equally common ones, the longest."""
    spans = np.minimum.reduceat(words.ends[order + n - 1] - words.starts[order], np.cumsum(counts) - counts)
    most = counts.max()
    return int(most * spans[counts == most].max())


def _duplicated(words: Words, order: Places, counts: Places, n: int) -> int:
    """Characters of the words that stand in n words in a row that came before."""
    change = np.zeros(len(words) + 1, np.int64)
    change[order] += 1
    change[order + n] -= 1
    first = np.minimum.reduceat(order, np.cumsum(counts) - counts)
    change[first] -= 1
    change[first + n] += 1
    return int((words.ends - words.starts)[np.cumsum(change[:-1]) > 0].sum())


def build(step: Repetition) -> Apply:
    wanted = bounds(with_profile(step), LIMITS)

    def apply(text: str) -> str | Drop:
        return first_broken(figures(text), wanted) or text

    return apply
