"""Drops what does not read like prose: the rules of Gopher (arXiv 2112.11446) and FineWeb (2406.17557).

Lines are those with text on them. A rule that needs words or lines passes a document that has none of
them, except for the count itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rewarm.data.steps.limits import Limit, bounds, facts, first_broken, with_profile
from rewarm.data.steps.rule import Apply, Drop
from rewarm.data.steps.words import JUDGED, Hashes, split_words, word_hashes
from rewarm.recipe.steps import Quality

__all__ = ["CHANGES", "LIMITS", "VERSION", "build", "facts", "figures"]
VERSION = 1
CHANGES = False
LIMITS = (
    Limit("min_words", "words", "too few words"),
    Limit("max_words", "words", "too many words"),
    Limit("min_word_length", "word_length", "short words"),
    Limit("max_word_length", "word_length", "long words"),
    Limit("min_alphabetic_words", "alphabetic_words", "words without letters"),
    Limit("min_stop_words", "stop_words", "too few stop words"),
    Limit("max_symbols_per_word", "symbols_per_word", "symbols"),
    Limit("max_bullet_lines", "bullet_lines", "bullet lines"),
    Limit("max_ellipsis_lines", "ellipsis_lines", "lines that break off"),
    Limit("min_line_punctuation", "line_punctuation", "lines without punctuation"),
    Limit("max_short_lines", "short_lines", "short lines"),
    Limit("max_new_lines_per_word", "new_lines_per_word", "few words for its lines"),
)
SHORT_LINE = 30
BULLETS = ("•", "‣", "▪", "●", "○", "◦", "·", "*", "-", "–", "—", "・")
ELLIPSES = ("...", "…")
SENTENCE_ENDS = tuple(".!?…。！？｡؟۔।॥։՞՜។៕၊။།༎" + "\"'”’»」』›")
"""What ends a sentence, or a quotation behind it, in the scripts that mark it."""


def figures(text: str, stop_words: Hashes, short_line: int = SHORT_LINE) -> Iterator[tuple[str, float]]:
    """What is measured, by name, the cheapest first; shares are of words or lines."""
    words = split_words(text)
    count = len(words)
    yield "words", count
    if count:
        yield "word_length", float((words.ends - words.starts).mean())
        yield "alphabetic_words", float(words.alphabetic.mean())
        if len(stop_words):
            nearest = stop_words[np.searchsorted(stop_words[:-1], words.hashes)]
            yield "stop_words", int(np.count_nonzero(nearest == words.hashes))
    text = text[:JUDGED]
    if count:
        yield "symbols_per_word", max(text.count("#"), text.count("...") + text.count("…")) / count
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if lines:
        yield "bullet_lines", sum(line.startswith(BULLETS) for line in lines) / len(lines)
        yield "ellipsis_lines", sum(line.endswith(ELLIPSES) for line in lines) / len(lines)
        yield "line_punctuation", sum(line.endswith(SENTENCE_ENDS) for line in lines) / len(lines)
        yield "short_lines", sum(len(line) <= short_line for line in lines) / len(lines)
        if count:
            yield "new_lines_per_word", (len(lines) - 1) / count


def build(step: Quality) -> Apply:
    full = with_profile(step)
    wanted = bounds(full, LIMITS)
    stop_words = word_hashes(full.stop_words or [])
    short_line = SHORT_LINE if full.short_line is None else full.short_line

    def apply(text: str) -> str | Drop:
        return first_broken(figures(text, stop_words, short_line), wanted) or text

    return apply
