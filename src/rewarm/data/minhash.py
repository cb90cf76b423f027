"""MinHash signatures: a few hundred bytes of a document that tell how much of it another one shares.

Followed is Broder (1997), with what FineWeb's pipeline (datatrove) counts and how it hashes it, so that
the same documents share a band: texts are lower-cased, numbers become 0, punctuation and accents go;
a shingle is five words in a row, known by the xxHash64 of its UTF-8; and the hash functions are
``a * shingle + b`` with that pipeline's ``a`` and ``b``. Its remainder by 2^61 - 1 only moves a value
by less than eight, so 64-bit overflow takes its place here, and the top half of the 61 bits is kept.

What is a word: what stands between spaces once punctuation is gone, by its first 64 bytes. In scripts
that are written without spaces (``UNSPACED_BLOCKS``) each letter is a word. A document of fewer words than a
shingle has no signature: all its values are ``EMPTY``, and it is like no other.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rewarm.data.steps.words import UNSPACED_BLOCKS, Places, grouped

if TYPE_CHECKING:  # workers import this module, and pydantic costs them a quarter of a second
    from rewarm.recipe.steps import NearDuplicates


VERSION = 1
"""Goes up whenever the same text would get another signature."""
EMPTY = np.uint32(0xFFFFFFFF)

Signatures = npt.NDArray[np.uint32]  # (documents, bands * rows)
Numbers = npt.NDArray[np.uint64]

_NUMBER = re.compile(r"\d+(?:[.,،٫⎖⎗⎘]\d+)?")
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»´—–’“”„…►∶━、。〈〉《》「」【】！％（），．１：；？～"
_GAP = re.compile(r"\s")
_BLANKS = str.maketrans(
    dict.fromkeys([*range(9), 11, 12, *range(13, 32), *range(127, 160), *map(ord, _PUNCTUATION)], " ")
)
_LONGEST = 64
_LONG = re.compile(rb"([^ ]{64})[^ ]+")
_TOKENS = 1 << 18
_BATCH = 1 << 19
_PIECE = 1 << 19
_TOGETHER = (4, 1 << 14)  # hash functions and shingles whose 512 KiB of products stay in a core's cache


def signatures(texts: Sequence[str], settings: NearDuplicates) -> Signatures:
    """The signature of each text, (texts, bands * rows); of any text the same, whatever its neighbours."""
    found = np.full((len(texts), settings.bands * settings.rows), EMPTY)
    pieces = ((owner, piece) for owner, text in enumerate(texts) for piece in _pieces(text, settings.words - 1))
    for some in grouped(pieces, lambda one: len(one[1]), _BATCH):  # what is made of them stays in a core's caches
        np.minimum.at(found, [owner for owner, _ in some], _signatures([piece for _, piece in some], settings))
    return found


def band_keys(signature: Signatures, settings: NearDuplicates) -> Numbers:
    """One number for the rows of each band, (bands, documents): equal for equal rows, and else not."""
    rows = signature.reshape(len(signature), settings.bands, settings.rows).transpose(1, 0, 2)
    keys = np.zeros(rows.shape[:2], np.uint64)
    for row in range(settings.rows):
        keys = (keys ^ rows[:, :, row]) * _P1
        keys ^= keys >> np.uint64(29)
    return keys


# ---- words ----


def normalise(text: str) -> str:
    """The words of a text as they are compared, with one space between them."""
    text = _NUMBER.sub("0", text.lower()).translate(_BLANKS)
    if not text.isascii():
        text = unicodedata.normalize("NFD", text).translate(_LETTERS)
    return " ".join(text.split())


class _Letters(dict[int, "int | str"]):
    """What becomes of a code point: nothing of an accent, and a letter of an unspaced script stands alone."""

    def __missing__(self, code: int) -> int | str:
        alone = any(first <= code <= last for first, last in UNSPACED_BLOCKS)
        self[code] = "" if unicodedata.category(chr(code)) == "Mn" else f" {chr(code)} " if alone else code
        return self[code]


class _Tokens(dict[str, bytes]):
    """What stands between spaces, normalised, in UTF-8: most of a text are words that were seen before."""

    def __missing__(self, token: str) -> bytes:
        words = _LONG.sub(rb"\1", normalise(token).encode("utf-8", "surrogatepass"))
        if len(self) >= _TOKENS:
            self.clear()
        if len(token) <= _LONGEST:
            self[token] = words
        return words


_LETTERS = _Letters()
_KNOWN = _Tokens()


def _pieces(text: str, shared: int) -> Iterator[bytes]:
    """The words of a text; of a long one in pieces, each of which begins with the last ``shared`` words before it."""
    start, last = 0, b""
    while start < len(text):
        gap = _GAP.search(text, start + _PIECE, start + 2 * _PIECE)
        end = gap.end() if gap else start + 2 * _PIECE
        piece = b" ".join(filter(None, (last, *map(_KNOWN.__getitem__, text[start:end].split()))))
        yield piece
        start, last = end, b" ".join(piece.rsplit(b" ", shared)[-shared:]) if shared and end < len(text) else b""


# ---- shingles ----


def _signatures(documents: Sequence[bytes], settings: NearDuplicates) -> Signatures:
    shingles, counts = _shingles(documents, settings.words)
    best = np.full((settings.bands * settings.rows, len(documents)), np.iinfo(np.uint64).max, np.uint64)
    full = np.flatnonzero(counts)  # those that have a shingle; where each begins:
    begins = np.cumsum(counts[full]) - counts[full]
    factors, terms = _hash_functions(settings.bands * settings.rows)
    few, many = _TOGETHER
    buffer = np.empty((few, many), np.uint64)
    for start in range(0, len(shingles), many):
        block = shingles[start : start + many]
        first, last = np.searchsorted(begins, (start, start + many - 1), side="right")
        first = max(0, first - 1)
        inside, owners = np.maximum(begins[first:last] - start, 0), full[first:last]
        values = buffer[:, : len(block)]
        for some in range(0, len(factors), few):
            used = values[: len(factors) - some]
            np.multiply(block, factors[some : some + few, None], out=used)
            np.add(used, terms[some : some + few, None], out=used)
            low = np.minimum.reduceat(used, inside, axis=1)
            best[some : some + few, owners] = np.minimum(best[some : some + few, owners], low)
    return np.ascontiguousarray((best >> np.uint64(32)).astype(np.uint32).T)


def _shingles(documents: Sequence[bytes], words: int) -> tuple[Numbers, Places]:
    """The hashes of all shingles of all documents behind one another, and how many each document has."""
    texts = [document for document in documents if document]
    data = b" ".join(texts) + bytes(8)
    spaces = np.flatnonzero(np.frombuffer(data, np.uint8, len(data) - 8) == ord(" "))
    starts, ends = np.append(0, spaces + 1), np.append(spaces, len(data) - 8)
    counts = np.array([document.count(b" ") + bool(document) for document in documents], np.int64)
    whole = np.ones(len(starts) + words, bool)  # the words that a shingle of one document begins with
    for back in range(1, words):
        whole[np.cumsum(counts) - back] = False  # before the first word: in the margin at the end
    begin = np.flatnonzero(whole[: len(starts)]) if texts else np.zeros(0, np.int64)
    begin = begin[begin + words <= len(starts)]
    at = starts[begin]
    return _xxh64(data, at, ends[begin + words - 1] - at), np.maximum(counts - words + 1, 0)


@lru_cache(4)
def _hash_functions(count: int) -> tuple[Numbers, Numbers]:
    """Factors and terms, times 8: bit 60 of the field's value, the highest that it keeps, is bit 63 of ours."""
    dice, prime = np.random.RandomState(1), (1 << 61) - 1
    factors = dice.randint(1, prime, dtype=np.uint64, size=count)
    return factors << np.uint64(3), dice.randint(0, prime, dtype=np.uint64, size=count) << np.uint64(3)


# ---- xxHash64 of many short strings at once, after its specification ----

_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)
_STARTS = tuple(np.uint64(lane % 2**64) for lane in (int(_P1) + int(_P2), int(_P2), 0, -int(_P1)))


def _xxh64(data: bytes, starts: Places, lengths: Places) -> Numbers:
    """xxHash64, seed 0, of parts of ``data``, which has 8 bytes more than belong to any part."""
    eight = np.ndarray(len(data) - 7, "<u8", data, strides=(1,)).copy()  # the 8 bytes from each place on
    order = np.argsort(lengths.astype(np.uint16), kind="stable")
    hashes = np.empty(len(starts), np.uint64)
    end = 0
    for length, count in enumerate(np.bincount(lengths).tolist()):
        if count:
            same = order[end : end + count]
            hashes[same] = _xxh64_of_length(eight, starts[same], length)
            end += count
    return hashes


def _xxh64_of_length(eight: Numbers, at: Places, length: int) -> Numbers:
    if length < 32:
        value = np.full(len(at), _P5)
    else:
        lanes = [np.full(len(at), start) for start in _STARTS]
        for place in range(0, length - 31, 32):
            lanes = [_round(lane, eight[at + (place + 8 * number)]) for number, lane in enumerate(lanes)]
        value = _turn(lanes[0], 1) + _turn(lanes[1], 7) + _turn(lanes[2], 12) + _turn(lanes[3], 18)
        for lane in lanes:
            value = (value ^ _round(np.zeros_like(lane), lane)) * _P1 + _P4
    value += np.uint64(length)
    for place in range(length & ~31, length - 7, 8):
        value = _turn(value ^ _round(np.zeros_like(value), eight[at + place]), 27) * _P1 + _P4
    if length & 4:
        value = _turn(value ^ (eight[at + (length & ~7)] & np.uint64(0xFFFFFFFF)) * _P1, 23) * _P2 + _P3
    for place in range(length & ~3, length):
        value = _turn(value ^ (eight[at + place] & np.uint64(0xFF)) * _P5, 11) * _P1
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    return value ^ (value >> np.uint64(32))


def _round(lane: Numbers, more: Numbers) -> Numbers:
    return _turn(lane + more * _P2, 31) * _P1


def _turn(value: Numbers, bits: int) -> Numbers:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))
