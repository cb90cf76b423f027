"""A profile of cleaning limits for a language, derived from a reference corpus that is known to be clean.

What the rules measure is measured of the reference, and a limit is set where ``tail`` of its documents
lie beyond. A clean reference is cleaner than a corpus need be, so no limit is stricter than English's
(Gopher's and FineWeb's), but for the mean word length, which is the language's own and gets a margin.
Words are those of ``steps.words``: in a script without spaces its characters. The stop words are the
commonest words, as in FineWeb-2 (arXiv 2506.20920): those that are more than 0.8 % of all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain, compress
from typing import Any

import numpy as np
import numpy.typing as npt

from rewarm.core.errors import DataError
from rewarm.data.documents import Document, read_documents
from rewarm.data.files import list_files
from rewarm.data.scan import clean
from rewarm.data.steps import build_steps, quality, repetition
from rewarm.data.steps.language import DETECTOR, build_scorer, is_known
from rewarm.data.steps.limits import Limit, Profile, load_profile
from rewarm.data.steps.words import JUDGED, batches, word_hashes
from rewarm.recipe.steps import Extract, Normalise, Quality, Repetition

FEWEST = 100
"""Documents that a reference must have: with fewer, a percentile is one document's accident."""
BUDGET = 64 << 20
"""Characters of the reference that are looked at; of a larger one, documents by the hash of their text."""
TAIL = 0.01
Figures = npt.NDArray[np.number[Any]]
_LIMITS: dict[str, Sequence[Limit]] = {"quality": quality.LIMITS, "repetition": repetition.LIMITS}
_STOP_SHARE, _STOP_FEWEST, _STOP_MOST = 0.008, 8, 24
_MARGIN = 0.1  # of the mean word length
_SCORES = (0.3, 0.9)  # what FineWeb-2 clips its thresholds to


def derive_thresholds(
    paths: Sequence[str], language: str, *, tail: float = TAIL, format: str = "auto", text_column: str | None = None
) -> Profile:
    """The profile that a reference gives; pure: the same files give the same profile, whatever their order.

    Args:
        tail: share of the reference's documents that may lie beyond each limit.

    Raises:
        DataError: if a file cannot be read, or the reference is too small.
    """
    every, texts = _texts(paths, format, text_column)
    counted = [(words.counts, words.unspaced) for words in (some.measured.words for some in batches(texts))]
    unspaced = 2 * sum(int(flags.sum()) for _, flags in counted) > len(texts)
    fewest = 100 if unspaced else 50  # shorter ones are dropped for that alone
    texts = list(compress(texts, (count >= fewest for counts, _ in counted for count in counts)))
    if len(texts) < FEWEST:
        raise DataError(
            f"a reference of {len(texts)} documents with at least {fewest} words; {FEWEST} are the least",
            where=", ".join(paths),
            remedy="give more clean text of this language, such as its Wikipedia",
        )
    stop_words = _stop_words(texts)
    measured = _measure(texts, stop_words)
    english = load_profile("eng_Latn")
    limits: dict[str, dict[str, Any]] = {
        kind: {limit.field: _limit(limit, measured[limit.figure], getattr(english, kind), tail) for limit in some}
        for kind, some in _LIMITS.items()
    }
    limits["quality"] |= {
        "min_words": fewest,
        "max_words": 200_000 if unspaced else 100_000,
        "stop_words": stop_words,
        "min_stop_words": min(2, math.floor(np.quantile(measured["stop_words"], tail))),
    }
    if known := is_known(language):
        measured["language_score"] = np.array(list(map(build_scorer(language), texts)))
        least = float(np.clip(np.quantile(measured["language_score"], tail), *_SCORES))
        limits["language"] = {"language": language, "min_score": _rounded(least, math.floor)}
    return Profile.model_validate(
        {kind: {"kind": kind, **some} for kind, some in limits.items()}
        | {
            "origin": f"rewarm data thresholds, {language}: the {tail:g} and {1 - tail:g} quantiles of a reference of "
            f"{len(texts)} documents, none stricter than English's; mean word length with a margin of a tenth; words "
            f"are {'characters, for this script has no spaces' if unspaced else 'what stands between spaces'}",
            "detector": DETECTOR if known else None,
            "reference": {
                "documents": every,
                "measured": len(texts),
                "characters": sum(map(len, texts)),
                "quantiles": {name: _quantiles(values) for name, values in measured.items()},
            },
        }
    )


def _measure(texts: Sequence[str], stop_words: Sequence[str]) -> dict[str, Figures]:
    """Each figure of each text, by name; what a text has nothing to measure of is 0."""
    hashes = word_hashes(stop_words)
    found: dict[str, list[Figures]] = {limit.figure: [] for some in _LIMITS.values() for limit in some}
    for some in batches(texts):
        here = {
            name: values * there
            for name, values, there in chain(quality.figures(some, hashes), repetition.figures(some))
        }
        for name, parts in found.items():
            parts.append(here.get(name, np.zeros(len(some.texts))))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _limit(limit: Limit, values: Figures, english: Quality | Repetition, tail: float) -> float:
    """The quantile, or what English allows where that is more; rounded to the lenient side."""
    least = limit.field.startswith("min_")
    found = float(np.quantile(values, tail if least else 1 - tail))
    if limit.figure == "word_length":
        return _rounded(found * (1 - _MARGIN if least else 1 + _MARGIN), math.floor if least else math.ceil)
    base = float(getattr(english, limit.field))
    return _rounded(min(found, base), math.floor) if least else _rounded(max(found, base), math.ceil)


def _rounded(value: float, towards: Any) -> float:
    return float(towards(round(value * 1000, 6)) / 1000)


def _quantiles(values: Figures) -> dict[str, float]:
    return {f"{q:g}": round(float(np.quantile(values, q)), 4) for q in (0.01, 0.05, 0.5, 0.95, 0.99)}


def _stop_words(texts: Sequence[str]) -> list[str]:
    counts: Counter[str] = Counter()
    total = 0
    for some in batches(texts):
        words = some.measured.words
        total += len(words)
        here = np.flatnonzero(words.alphabetic)
        _, index, often = np.unique(words.hashes[here], return_index=True, return_counts=True)
        found = zip(words.starts[here[index]], words.ends[here[index]], often.tolist(), strict=True)
        joined = some.measured.text
        counts.update({joined[a:b]: count for a, b, count in found})
    common = [(n, word) for word, n in counts.items() if word == word.lower()]
    common.sort(key=lambda pair: (-pair[0], pair[1]))
    many = sum(n > _STOP_SHARE * total for n, _ in common)
    return [word for _, word in common[: min(_STOP_MOST, max(_STOP_FEWEST, many))]]


def _texts(paths: Sequence[str], format: str, text_column: str | None) -> tuple[int, list[str]]:
    """How many documents there are, and what is looked at: all, or those with the smallest hashes."""
    kept: list[tuple[bytes, str]] = []
    size = count = 0
    for text in _read(paths, format, text_column):
        kept.append((blake2b(text.encode(), digest_size=8).digest(), text[:JUDGED]))
        count, size = count + 1, size + len(kept[-1][1])
        if size > 2 * BUDGET:
            kept, size = _smallest(kept)
    return count, [text for _, text in _smallest(kept)[0]]


def _smallest(kept: list[tuple[bytes, str]]) -> tuple[list[tuple[bytes, str]], int]:
    size, some = 0, []
    for digest, text in sorted(kept):
        if size and size + len(text) > BUDGET:
            break
        some.append((digest, text))
        size += len(text)
    return some, size


def _read(paths: Sequence[str], format: str, text_column: str | None) -> Iterator[str]:
    """The texts as the steps that measure them will see them: out of HTML, and normalised."""
    rules = build_steps([Extract(kind="extract"), Normalise(kind="normalise")])
    for path in list_files(paths, format).files:
        for item in read_documents(path, format, text_column):
            if isinstance(item, Document):
                yield from (text for text in clean([item.text], rules) if isinstance(text, str))
