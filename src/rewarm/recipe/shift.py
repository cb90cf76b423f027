"""How far a corpus lies from what the base model knows, and how much replay that takes.

The base's own writing is the distribution that it would lose. A language that it hardly ever writes is a new one. In
a language that it writes, what the base pays for a byte of the corpus is held against what it pays for a byte of its
own: a ratio, because bits per byte differ from model to model, and never between languages, which differ in bytes per
character. The shares are those of arXiv 2403.08763 (5 % for similar text, 25 % for a strong shift); the bounds are a
judgement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from rewarm.recipe.recipe import Generate, Replay

Kind = Literal["update", "domain", "language"]

_BOUNDS: tuple[tuple[float, Kind, float, str], ...] = (
    (1.3, "update", 0.05, "text much like what the base knows; a little replay already helps (arXiv 2403.08763)"),
    (2.0, "domain", 0.15, "a domain new to the base: between the 5 % of an update and the 25 % of a new language"),
    (
        float("inf"),
        "domain",
        0.25,
        "text far from what the base knows: a strong shift takes about a quarter (2403.08763)",
    ),
)
_MOST, _HARDLY = 0.5, 0.1  # shares of texts: a corpus in a language, and a language that the base hardly ever writes


@dataclass(frozen=True)
class Shift:
    """The kind of a shift, the replay it takes, and why."""

    kind: Kind
    share: float
    reason: str


def shift_of(
    corpus: float, own: float, corpus_languages: Mapping[str, float], own_languages: Mapping[str, float]
) -> Shift:
    """From the base's bits per byte of the corpus and of texts that it wrote itself, and both's shares by language."""
    for language, share in corpus_languages.items():
        written = own_languages.get(language, 0.0)
        if share > _MOST and written < _HARDLY:
            why = "a language new to the base: a strong shift takes about a quarter (2403.08763)"
            seen = f"{100 * share:.0f} % of the corpus is {language}, and {100 * written:.0f} % of what the base writes"
            return Shift("language", 0.25, f"{why}: {seen}")
    ratio = corpus / own
    kind, share, why = next((kind, share, why) for bound, kind, share, why in _BOUNDS if ratio < bound)
    return Shift(kind, share, f"{why}: {corpus:.2f} bits per byte against {own:.2f} of its own writing")


def own_replay(share: float, tokens: int, taken: Collection[str] = ()) -> Replay:
    """Replay that the base writes beside ``tokens`` of a corpus: up to 20M tokens, seen four times at most.

    A tenth of it may be held out. Texts are shorter where few tokens are wanted, so that there are a hundred or more.
    """
    wanted = max(1, min(20_000_000, round(share / (1 - share) * tokens / 3.6)))
    generate = Generate(tokens=wanted, max_tokens=min(1024, max(64, wanted // 128)))
    replay = Replay(share=share, generate=generate)
    return replay if replay.name not in taken else replay.model_copy(update={"name": "written-by-the-base"})
