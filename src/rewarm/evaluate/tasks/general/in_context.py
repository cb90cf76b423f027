"""A probe of in-context learning: what a model can do with examples that it never saw, in no language.

A model can lose this in continual pretraining while its bits per byte stay as they are (arXiv 2506.00288). Words are
made of syllables drawn with a fixed seed, so that nothing helps but the prompt itself.
"""

from __future__ import annotations

import random
from typing import Any

import datasets

ITEMS = 100
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def items(kind: str, **_: Any) -> Any:
    """``prompt`` and ``target`` of one kind: copy, map, or arithmetic."""
    draw = random.Random(f"in_context {kind}")
    rows = [KINDS[kind](draw) for _ in range(ITEMS)]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


def _words(draw: random.Random, count: int) -> list[str]:
    """So many different words."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices(SYLLABLES, k=2))] = None
    return list(found)


def _copy(draw: random.Random) -> dict[str, str]:
    """Four lines that repeat themselves behind a bar; of the last, the second half is asked for."""
    lines = [" ".join(_words(draw, 4)) for _ in range(4)]
    shown = "\n".join(f"{line} | {line}" for line in lines[:-1])
    return {"prompt": f"{shown}\n{lines[-1]} |", "target": f" {lines[-1]}"}


def _map(draw: random.Random) -> dict[str, str]:
    """Eight pairs, and one of their first words again."""
    words = _words(draw, 16)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    asked, answer = draw.choice(pairs)
    shown = "\n".join(f"{left} = {right}" for left, right in pairs)
    return {"prompt": f"{shown}\n{asked} =", "target": f" {answer}"}


def _arithmetic(draw: random.Random) -> dict[str, str]:
    """Six sums with the same second number, each in digits."""
    step = draw.randint(1, 5)
    numbers = draw.sample(range(1, 30), 7)
    lines = [f"{number} + {step} = {number + step}" for number in numbers]
    return {"prompt": "\n".join(lines).rpartition(" ")[0], "target": f" {numbers[-1] + step}"}


KINDS = {"copy": _copy, "map": _map, "arithmetic": _arithmetic}
