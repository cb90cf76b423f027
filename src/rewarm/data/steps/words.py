"""Documents as arrays: where their words and lines begin and end, and a hash for each.

A word is a run of characters between white space, without the punctuation at its ends. A character of a
script that is written without spaces (``UNSPACED_BLOCKS``) is a word of its own, with the marks on it: no
segmenter, no dictionary, the same rule for every text. Hangul has spaces. A line is what stands between
line feeds, without the white space at its ends; one of white space alone is none. Only the first million
characters of a document are looked at, and many short documents at once: numpy costs microseconds a call.
"""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

JUDGED = 1_000_000
"""Characters of a document that it is judged by: more would take memory and say nothing new."""
BATCH = 1 << 17
"""Characters of documents that are looked at together: what is made of them stays in a core's cache."""
UNSPACED_BLOCKS = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # ideographic iteration mark and zero
    (0x3041, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA980, 0xA9FF),  # Javanese, Burmese
    (0xAA60, 0xAADF),  # Burmese, Tai Viet
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width kana
    (0x20000, 0x33FFF),
)
_SPACE, _OUTER, _CORE, _UNSPACED_MARK, _LETTER, _UNSPACED = range(6)
_PLANES = 0x34000  # nothing above holds letters
_POSITIONS = 2 * JUDGED  # a batch, and a document that comes last in it
STEP = np.uint64(0xD1342543DE82EF95)  # from the hash of n words in a row to that of n + 1
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it can be divided by modulo 2**64
_MIX = np.uint64(0xBF58476D1CE4E5B9)

T = TypeVar("T")
Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Spans:
    """The lines (or words) of texts in their order: positions in the joined texts, and 64-bit hashes."""

    starts: Places  # (spans,)
    ends: Places  # (spans,), exclusive
    hashes: Hashes  # (spans,)
    owners: Places  # (spans,), the text of each
    counts: Places  # (texts,), how many each has

    def __len__(self) -> int:
        return len(self.starts)

    def sums(self, values: npt.NDArray[np.integer] | Flags) -> Places:
        """Of what there is for each span, the sum for each text."""
        upto = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, out=upto[1:])
        ends = np.cumsum(self.counts)
        totals: Places = upto[ends] - upto[ends - self.counts]
        return totals

    def of(self, kept: Flags) -> Self:
        """Those of some of the texts."""
        mine = kept[self.owners]
        values = {f.name: getattr(self, f.name)[mine] for f in dataclasses.fields(self) if f.name != "counts"}
        values["owners"] = (np.cumsum(kept) - 1)[values["owners"]]
        return dataclasses.replace(self, **values, counts=self.counts[kept])


@dataclasses.dataclass(frozen=True)
class Words(Spans):
    """The words of texts."""

    alphabetic: Flags  # (words,), has a letter
    alone: Flags  # (words,), a character of a script without spaces

    @property
    def unspaced(self) -> Flags:
        """Whether most words of a text belong to a script without spaces, (texts,)."""
        return 2 * self.sums(self.alone) > self.counts


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured of texts: all of them behind one another, and their sizes, words and lines."""

    text: str  # all of them, each in lines of its own
    codes: npt.NDArray[np.uint32]  # (characters,)
    sizes: Places  # (texts,)
    words: Words
    lines: Spans


class Texts:
    """Texts that are cleaned together. What is measured of them is measured once, for all rules that ask."""

    def __init__(self, texts: Sequence[str], measured: Measured | None = None) -> None:
        self.texts = texts
        self._measured = measured

    @property
    def measured(self) -> Measured:
        if self._measured is None:
            self._measured = measure(self.texts)
        return self._measured

    def of(self, kept: Sequence[bool]) -> Texts:
        """Some of the texts, with what was measured of them."""
        some, known = list(compress(self.texts, kept)), self._measured
        if known is None or len(some) == len(self.texts):
            return Texts(some, known)
        flags = np.array(kept, bool)
        lines, words = known.lines.of(flags), known.words.of(flags)
        return Texts(some, dataclasses.replace(known, sizes=known.sizes[flags], words=words, lines=lines))


def batches(texts: Iterable[str]) -> Iterator[Texts]:
    """Texts by the batch."""
    return map(Texts, grouped(texts, lambda text: min(len(text), JUDGED), BATCH))


def grouped(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Items in their order, together until they have ``most`` in all; the last of a group may go beyond."""
    group, held = list[T](), 0
    for item in items:
        group.append(item)
        held += size(item)
        if held >= most:
            yield group
            group, held = [], 0
    if group:
        yield group


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """For each code point, what it is to a word."""
    first = {"L": _LETTER, "M": _CORE, "N": _CORE}
    names = [unicodedata.category(chr(code)) for code in range(_PLANES)]
    kinds = np.array([first.get(name[0], _OUTER) for name in names], np.uint8)
    for low, high in UNSPACED_BLOCKS:
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
        powers = np.full(_POSITIONS + 1, factor, np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers))
    return both[0], both[1]


def measure(texts: Sequence[str], inner_punctuation: bool = True) -> Measured:
    """The words and lines of texts; without ``inner_punctuation`` that parts words as well.

    Raises:
        ValueError: if there are more than 2 * ``JUDGED`` characters of them.
    """
    joined = "\n".join([text[:JUDGED] for text in texts])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    if len(codes) > _POSITIONS:
        raise ValueError(f"{len(codes)} characters at once")
    sizes = np.array([min(len(text), JUDGED) for text in texts], np.int64)
    kinds = _kinds().take(codes, mode="clip")
    if not inner_punctuation:
        kinds[kinds == _OUTER] = _SPACE
    powers, inverses = _powers()
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    begins = np.cumsum(sizes + 1) - sizes - 1

    def spans(starts: Places, ends: Places) -> tuple[Places, Places, Hashes, Places, Places]:
        hashes = (sums[ends] - sums[starts]) * inverses[starts]
        before = np.searchsorted(starts, np.append(begins, len(codes)))
        counts = np.diff(before)
        owners = np.repeat(np.arange(len(texts)), counts)
        return starts, ends, (hashes ^ (hashes >> np.uint64(31))) * _MIX, owners, counts

    starts, ends = _words(kinds)
    most = np.maximum.reduceat(kinds, starts) if len(starts) else kinds[:0]  # behind a word no letter comes
    words = Words(*spans(starts, ends), most >= _LETTER, kinds[starts] == _UNSPACED)
    return Measured(joined, codes, sizes, words, Spans(*spans(*_lines(codes, kinds))))


def _words(kinds: npt.NDArray[np.uint8]) -> tuple[Places, Places]:
    begins = kinds == _UNSPACED
    before = kinds[:-1]
    begins[1:] |= before == _SPACE
    begins[1:] |= ((before == _UNSPACED) | (before == _UNSPACED_MARK)) & (kinds[1:] != _UNSPACED_MARK)
    inner = np.flatnonzero(kinds >= _CORE)
    runs = np.cumsum(begins, dtype=np.int32)[inner]
    edges = np.flatnonzero(runs[1:] != runs[:-1])
    return inner[np.append(0, edges + 1)[: len(inner)]], inner[np.append(edges, len(inner) - 1)[: len(inner)]] + 1


def _lines(codes: npt.NDArray[np.uint32], kinds: npt.NDArray[np.uint8]) -> tuple[Places, Places]:
    breaks = np.flatnonzero(codes == ord("\n"))
    text = np.flatnonzero(kinds != _SPACE)
    upto = np.searchsorted(text, np.concatenate(([0], breaks, [len(codes)])))
    some = upto[1:] > upto[:-1]
    return text[upto[:-1][some]], text[upto[1:][some] - 1] + 1


def n_grams(hashes: Hashes, n: int) -> Hashes:
    """The hash of each ``n`` words in a row, (words - n + 1,)."""
    grams = hashes
    for more in range(1, min(n, len(hashes) + 1)):
        grams = grams[:-1] * STEP + hashes[more:]
    return grams


def word_hashes(words: Sequence[str]) -> Hashes:
    """The hash that each word has in every text, sorted."""
    return np.unique(measure(words).words.hashes)
