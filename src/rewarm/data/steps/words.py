"""Documents as arrays: where their words begin and end, and a hash for each.

A word is a run of characters between white space, without the punctuation at its ends. A character of a
script that is written without spaces (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan) is a word of its own,
with the marks on it: no segmenter, no dictionary, the same rule for every text. Hangul has spaces.
Only the first million characters of a document are looked at.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

JUDGED = 1_000_000
"""Characters of a document that it is judged by: more would take memory and say nothing new."""
_SPACE, _OUTER, _CORE, _UNSPACED_MARK, _LETTER, _UNSPACED = range(6)
_PLANES = 0x34000  # nothing above holds letters
_UNSPACED_BLOCKS = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark and zero
    (0x3041, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width kana
    (0x20000, 0x33FFF),
)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it can be divided by modulo 2**64
_STEP = np.uint64(0xD1342543DE82EF95)
_MIX = np.uint64(0xBF58476D1CE4E5B9)

Hashes = npt.NDArray[np.uint64]


class Words(NamedTuple):
    """The words of a text: positions in characters (the end is exclusive) and 64-bit hashes, each (words,)."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    hashes: Hashes
    alphabetic: npt.NDArray[np.bool_]  # has a letter
    unspaced: bool  # most of them belong to a script without spaces

    def __len__(self) -> int:
        return len(self.starts)


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """For each code point, what it is to a word."""
    first = {"L": _LETTER, "M": _CORE, "N": _CORE}
    names = [unicodedata.category(chr(code)) for code in range(_PLANES)]
    kinds = np.array([first.get(name[0], _OUTER) for name in names], np.uint8)
    for low, high in _UNSPACED_BLOCKS:
        block = kinds[low : high + 1]
        block[block == _CORE] = [
            _UNSPACED_MARK if names[low + i][0] == "M" else _CORE for i in np.flatnonzero(block == _CORE)
        ]
        block[block == _LETTER] = _UNSPACED
    kinds[[code for code in range(0x3001) if chr(code).isspace()]] = _SPACE
    return kinds


@functools.cache
def _powers() -> tuple[Hashes, Hashes]:
    """The powers of the base, and their inverses modulo 2**64."""
    inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
    both = []
    for factor in (_BASE, inverse):
        powers = np.full(JUDGED + 1, factor, np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers))
    return both[0], both[1]


@functools.lru_cache(maxsize=1)  # the steps that follow one another ask for the same text
def split_words(text: str, inner_punctuation: bool = True) -> Words:
    """The words of the first ``JUDGED`` characters; without ``inner_punctuation`` that parts words as well."""
    codes = np.frombuffer(text[:JUDGED].encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[np.minimum(codes, _PLANES - 1)]
    if not inner_punctuation:
        kinds[kinds == _OUTER] = _SPACE
    begins = kinds == _UNSPACED
    before = kinds[:-1]
    begins[1:] |= before == _SPACE
    begins[1:] |= ((before == _UNSPACED) | (before == _UNSPACED_MARK)) & (kinds[1:] != _UNSPACED_MARK)
    inner = np.flatnonzero(kinds >= _CORE)
    runs = np.cumsum(begins, dtype=np.int32)[inner]
    edges = np.flatnonzero(runs[1:] != runs[:-1])
    if not len(inner):
        empty = np.empty(0, np.int64)
        return Words(empty, empty, empty.astype(np.uint64), empty.astype(bool), False)
    starts = inner[np.concatenate(([0], edges + 1))]
    ends = inner[np.concatenate((edges, [len(inner) - 1]))] + 1
    powers, inverses = _powers()
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint32(1)).astype(np.uint64) * powers[: len(codes)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    letters = np.zeros(len(codes) + 1, np.int32)
    np.cumsum(kinds >= _LETTER, out=letters[1:])
    hashes = (hashes ^ (hashes >> np.uint64(31))) * _MIX
    unspaced = 2 * np.count_nonzero(kinds == _UNSPACED) > len(starts)
    return Words(starts, ends, hashes, letters[ends] > letters[starts], bool(unspaced))


def longer(grams: Hashes, hashes: Hashes) -> Hashes:
    """From the hashes of each n words in a row those of each n + 1, one fewer; ``hashes`` are the words'."""
    return grams[:-1] * _STEP + hashes[len(hashes) - len(grams) + 1 :]


def n_grams(hashes: Hashes, n: int) -> Hashes:
    """The hash of each ``n`` words in a row, (words - n + 1,)."""
    grams = hashes
    for _ in range(min(n, len(hashes) + 1) - 1):
        grams = longer(grams, hashes)
    return grams


def word_hashes(words: Sequence[str]) -> Hashes:
    """The hash that each word has in every text, sorted."""
    return np.unique(np.concatenate([np.empty(0, np.uint64), *(split_words(word).hashes for word in words)]))
