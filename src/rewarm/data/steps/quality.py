"""Drops what does not read like prose: the rules of Gopher (arXiv 2112.11446) and FineWeb (2406.17557).

Lines are those with text on them. A rule that needs words or lines passes a document that has none of
them, except for the count itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rewarm.data.steps.limits import Figure, Limit, bounds, facts, first_broken, with_profile
from rewarm.data.steps.rule import Apply
from rewarm.data.steps.words import JUDGED, Flags, Hashes, Spans, Texts, word_hashes
from rewarm.recipe.steps import Quality

__all__ = ["CHANGES", "LIMITS", "VERSION", "build", "facts", "figures"]
VERSION = 2
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
_BULLETS = [ord(c) for c in "•‣▪●○◦·*-–—・"]
_SENTENCE_ENDS = [ord(c) for c in ".!?…。！？｡؟۔।॥։՞՜។៕၊။།༎" + "\"'”’»」』›"]
"""What ends a sentence, or a quotation behind it, in the scripts that mark it."""


def figures(texts: Texts, stop_words: Hashes, short_line: int = SHORT_LINE) -> Iterator[Figure]:
    """What is measured, by name; shares are of words or lines."""
    codes, words, lines = texts.measured.codes, texts.measured.words, texts.measured.lines
    some, most = words.counts > 0, np.maximum(words.counts, 1)
    yield "words", words.counts, np.ones(len(some), bool)
    yield "word_length", words.sums(words.ends - words.starts) / most, some
    yield "alphabetic_words", words.sums(words.alphabetic) / most, some
    if len(stop_words):
        nearest = stop_words[np.searchsorted(stop_words[:-1], words.hashes)]
        yield "stop_words", words.sums(nearest == words.hashes), some
    judged = [text[:JUDGED] for text in texts.texts]
    symbols = np.array([max(_count(text, "#"), _count(text, "...") + _count(text, "…")) for text in judged], np.int64)
    yield "symbols_per_word", symbols / most, some
    shares = {
        "bullet_lines": np.isin(codes[lines.starts], _BULLETS),
        "ellipsis_lines": _ends_with_ellipsis(codes, lines),
        "line_punctuation": np.isin(codes[lines.ends - 1], _SENTENCE_ENDS),
        "short_lines": lines.ends - lines.starts <= short_line,
    }
    for name, flags in shares.items():
        yield name, lines.sums(flags) / np.maximum(lines.counts, 1), lines.counts > 0
    yield "new_lines_per_word", (lines.counts - 1) / most, some & (lines.counts > 0)


def _count(text: str, part: str) -> int:
    return text.count(part) if part in text else 0  # looking for the first one is several times faster


def _ends_with_ellipsis(codes: npt.NDArray[np.uint32], lines: Spans) -> Flags:
    """Whether lines end with … or three full stops."""
    last = lines.ends - 1
    dots: Flags = lines.ends - lines.starts >= 3
    for back in range(3):
        dots &= codes[np.maximum(last - back, 0)] == ord(".")
    dots |= codes[last] == ord("…")
    return dots


def build(step: Quality) -> Apply:
    full = with_profile(step)
    wanted = bounds(full, LIMITS)
    stop_words = word_hashes(full.stop_words or [])
    short_line = SHORT_LINE if full.short_line is None else full.short_line
    return lambda texts: first_broken(texts, figures(texts, stop_words, short_line), wanted)
