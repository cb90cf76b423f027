"""Drops documents that hold a piece of a benchmark: a run of words that also stands in one of its items.

13 words in a row, in lower case and without punctuation, as GPT-3 did (arXiv 2005.14165), and without the marks of
tones and invisible characters: Vietnamese writes hoà and hòa, and some writing systems mark by several code points what
others do by one. A shorter item
of at least eight words is looked for whole. In a script without spaces every character is a word, and
two of them count as one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from rewarm.core.errors import DataError
from rewarm.core.storage import sha256_file
from rewarm.data.steps.rule import Apply, Drop
from rewarm.data.steps.words import JUDGED, Hashes, grouped, measure, n_grams
from rewarm.recipe.steps import Decontaminate

VERSION = 4
CHANGES = False
SHORTEST = 8
"""Words of an item that is still looked for: shorter ones are everyday phrases."""
_DROPPED = re.compile(
    "[\u0300\u0301\u0303\u0309\u0323\u00ad\u200b-\u200d\u2060\ufeff]+"
)  # tone marks, and what is invisible
_OVERLAP = 10_000  # characters that two pieces of a long document share


class _Item(BaseModel):
    task: str
    id: str | int
    text: str


@dataclass(frozen=True)
class BenchmarkNgrams:
    """The runs of words of benchmark items: for each length, sorted hashes and the item of each."""

    items: list[tuple[str, str]]  # task, id
    grams: dict[int, tuple[Hashes, npt.NDArray[np.int32]]]
    too_short: int  # items that cannot be looked for

    def matches(self, texts: Sequence[str]) -> list[list[tuple[str, str]]]:
        """For each text, task and id of the items that share a run with it, in the order of the file."""
        found: list[set[int]] = [set() for _ in texts]
        for some in grouped(_pieces(texts), lambda piece: len(piece[0]) + 1, JUDGED):
            words = measure([piece for piece, _ in some], inner_punctuation=False).words
            for n, (keys, items) in self.grams.items():
                wanted = n_grams(words.hashes, n)
                begins = np.searchsorted(keys[:-1], wanted)
                hits = np.flatnonzero(keys[begins] == wanted)
                for hit in hits[words.owners[hits] == words.owners[hits + n - 1]]:  # not from one text into the next
                    end = np.searchsorted(keys, wanted[hit], "right")
                    found[some[words.owners[hit]][1]].update(items[begins[hit] : end].tolist())
        return [[self.items[index] for index in sorted(some)] for some in found]


def _pieces(texts: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The texts, folded, in pieces that are measured at once, and which text each is of."""
    for number, text in enumerate(map(_folded, texts)):
        for begin in range(0, max(1, len(text) - _OVERLAP), JUDGED - _OVERLAP):
            yield text[begin : begin + JUDGED], number


def _folded(text: str) -> str:
    """The text without what differs between two copies of it: case, forms of characters, tone marks."""
    return text.lower() if text.isascii() else _DROPPED.sub("", unicodedata.normalize("NFKD", text.lower()))


def benchmark_ngrams(path: str | Path, words: int = 13) -> BenchmarkNgrams:
    """Read the items of a jsonl file of ``{"task", "id", "text"}``. Takes 12 bytes for each word of them.

    Raises:
        DataError: if the file cannot be read, a line is no item, or there is none.
    """
    items: list[tuple[str, str]] = []
    grams: dict[int, list[tuple[Hashes, int]]] = {}
    too_short = 0
    for item in _items(path):
        items.append((item.task, str(item.id)))
        found = measure([_folded(item.text)[:JUDGED]], inner_punctuation=False).words
        doubled = 2 if found.unspaced[0] else 1
        n = min(words * doubled, len(found))
        if n < min(SHORTEST, words) * doubled:
            too_short += 1
        else:
            grams.setdefault(n, []).append((np.unique(n_grams(found.hashes, n)), len(items) - 1))
    if not items:
        raise DataError("there is no benchmark item in it", where=path)
    return BenchmarkNgrams(items, {n: _sorted(some) for n, some in sorted(grams.items())}, too_short)


def _sorted(some: list[tuple[Hashes, int]]) -> tuple[Hashes, npt.NDArray[np.int32]]:
    keys = np.concatenate([hashes for hashes, _ in some])
    owners = np.repeat(np.array([item for _, item in some], np.int32), [len(hashes) for hashes, _ in some])
    order = np.argsort(keys, kind="stable")
    return keys[order], owners[order]


def _items(path: str | Path) -> Iterator[_Item]:
    number = 0
    try:
        with Path(path).open("rb") as file:
            for line in file:
                number += 1
                if line.strip():
                    yield _Item.model_validate_json(line)
    except OSError as error:
        raise DataError(f"the benchmark items cannot be read: {error.strerror}", where=path) from None
    except ValidationError:
        remedy = 'a line is {"task": ..., "id": ..., "text": ...}'
        raise DataError("not a benchmark item", where=f"{path}:{number}", remedy=remedy) from None


def build(step: Decontaminate) -> Apply:
    index = benchmark_ngrams(_path(step), step.words)

    def judge(text: str, matches: list[tuple[str, str]]) -> str | Drop:
        found = tuple((f"{step.words}-gram of {task}", item) for task, item in matches)
        return Drop(*found[0], found) if found else text

    return lambda texts: list(map(judge, texts.texts, index.matches(texts.texts)))


def facts(step: Decontaminate) -> dict[str, Any]:
    try:
        return {"benchmarks": sha256_file(_path(step))}
    except OSError as error:
        raise DataError(f"the benchmark items cannot be read: {error.strerror}", where=step.path) from None


def _path(step: Decontaminate) -> Path:
    if step.path is None:
        raise DataError(
            "there is no benchmark to look for",
            where="data.steps: decontaminate",
            remedy="name evaluation.tasks, or give the step the path of a file of items",
        )
    return Path(step.path)
