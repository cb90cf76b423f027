"""Drops documents of which too large a part stands on a list of words or phrases."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from rewarm.core.errors import DataError
from rewarm.core.storage import sha256_bytes
from rewarm.data.steps.rule import Apply, Drop, each
from rewarm.data.steps.words import Hashes, measure, n_grams
from rewarm.recipe.steps import WordList

VERSION = 2
CHANGES = False
LISTED = "listed words"


def build(step: WordList) -> Apply:
    listed = _hashes(_read(step.path).decode("utf-8-sig"), step.path)

    def apply(text: str) -> str | Drop:
        words = measure([text.lower()]).words
        covered = np.zeros(len(words), bool)
        for n, wanted in listed.items():
            for begin in np.flatnonzero(np.isin(n_grams(words.hashes, n), wanted)):
                covered[begin : begin + n] = True
        share = float(covered.mean()) if len(words) else 0.0
        return Drop(LISTED, round(share, 4)) if share > step.max_share else text

    return each(apply)


def _hashes(text: str, path: str) -> dict[int, Hashes]:
    """What is looked for, by the number of its words."""
    found: dict[int, list[np.uint64]] = {}
    for line in text.splitlines():
        entry = unicodedata.normalize("NFC", line.partition("#")[0]).strip().lower()
        words = measure([entry]).words
        if len(words):
            found.setdefault(len(words), []).append(n_grams(words.hashes, len(words))[0])
    if not found:
        raise DataError("there is no word on the list", where=path, remedy="one word or phrase a line")
    return {n: np.array(hashes) for n, hashes in sorted(found.items())}


def _read(path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
        data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"the word list cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise DataError("the word list is not UTF-8", where=path, remedy="save it as UTF-8") from None
    return data


def facts(step: WordList) -> dict[str, Any]:
    return {"list": sha256_bytes(_read(step.path))}
