"""Drops what says the same thing again and again: Gopher's table A1 (arXiv 2112.11446).

A repeated line or run of words counts from its second time on, so a document that repeats nothing has
zero everywhere, however short it is. Characters are counted against all characters of the document.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rewarm.data.steps.limits import Figure, Limit, bounds, facts, first_broken, with_profile
from rewarm.data.steps.rule import Apply
from rewarm.data.steps.words import STEP, Hashes, Places, Texts, Words
from rewarm.recipe.steps import Repetition

__all__ = ["CHANGES", "LIMITS", "VERSION", "build", "facts", "figures"]
VERSION = 2
CHANGES = False
LIMITS = (
    Limit("max_duplicate_lines", "duplicate_lines", "duplicate lines"),
    Limit("max_duplicate_line_characters", "duplicate_line_characters", "characters in duplicate lines"),
    *(Limit(f"max_top_{n}_gram", f"top_{n}_gram", f"top {n}-gram") for n in (2, 3, 4)),
    *(Limit(f"max_duplicated_{n}_gram", f"duplicated_{n}_gram", f"duplicated {n}-grams") for n in range(5, 11)),
)


def figures(texts: Texts) -> Iterator[Figure]:
    """What is measured, by name, in the order of ``LIMITS``; all are shares, and nothing is left out."""
    measured = texts.measured
    words, lines, sizes = measured.words, measured.lines, np.maximum(measured.sizes, 1)
    every = np.ones(len(sizes), bool)
    lengths, again = lines.ends - lines.starts, np.zeros(len(lines), bool)
    order, counts = _several(lines.hashes, np.arange(len(lines)), lines.owners)
    again[order] = True
    again[_firsts(order, counts)] = False
    yield "duplicate_lines", lines.sums(again) / np.maximum(lines.counts, 1), every
    yield "duplicate_line_characters", lines.sums(lengths * again) / np.maximum(lines.sums(lengths), 1), every
    places = np.flatnonzero(words.owners[1:] == words.owners[:-1])  # where n words in a row may come twice
    grams = words.hashes[:-1] * STEP + words.hashes[1:]  # their hashes
    for n in range(2, 11):
        order, counts = _several(grams, places, words.owners)
        if not len(order):
            return
        if n < 5:
            yield f"top_{n}_gram", np.minimum(1.0, _top(words, order, counts, n) / sizes), every
        else:
            yield f"duplicated_{n}_gram", _duplicated(words, order, counts, n) / sizes, every
        twice = np.zeros(len(grams) + 1, bool)
        twice[order] = True
        places = np.flatnonzero(twice[:-2] & twice[1:-1])  # what comes once is no part of a longer run that does twice
        grams[places] = grams[places] * STEP + words.hashes[places + n]


def _several(hashes: Hashes, places: Places, owners: Places) -> tuple[Places, Places]:
    """Of these places those whose hash comes more than once in the same text, equal ones together; how many each time.

    A sort of numbers alone takes a fifth of one that gives their order, so the place stands in the low bits.
    """
    low = np.uint64((1 << 21) - 1)
    order = (np.sort((hashes[places] & ~low) | places.astype(np.uint64)) & low).astype(np.int64)
    keys, texts = hashes[order], owners[order]
    edges = np.flatnonzero(np.concatenate(([True], (keys[1:] != keys[:-1]) | (texts[1:] != texts[:-1]), [True])))
    counts = np.diff(edges)[: len(order)]
    several = counts > 1
    return order[np.repeat(several, counts)], counts[several]


def _firsts(order: Places, counts: Places) -> Places:
    """The first place of each group; those of a group stand in the order of the text."""
    first: Places = order[np.cumsum(counts) - counts]
    return first


def _top(words: Words, order: Places, counts: Places, n: int) -> Places:
    """Characters in the commonest n words in a row of each text; of equally common ones, the longest."""
    spans = np.minimum.reduceat(words.ends[order + n - 1] - words.starts[order], np.cumsum(counts) - counts)
    best = np.zeros(len(words.counts), np.int64)
    np.maximum.at(best, words.owners[_firsts(order, counts)], counts << 32 | spans)
    total: Places = (best >> 32) * (best & 0xFFFFFFFF)
    return total


def _duplicated(words: Words, order: Places, counts: Places, n: int) -> Places:
    """Characters of the words that stand in n words in a row that came before, of each text."""
    change = np.zeros(len(words) + 1, np.int64)
    change[order] += 1
    change[order + n] -= 1
    first = _firsts(order, counts)
    change[first] -= 1
    change[first + n] += 1
    return words.sums((words.ends - words.starts) * (np.cumsum(change[:-1]) > 0))


def build(step: Repetition) -> Apply:
    wanted = bounds(with_profile(step), LIMITS)
    return lambda texts: first_broken(texts, figures(texts), wanted)
