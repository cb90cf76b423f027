"""How far a corpus lies from what the base model knows, and how much replay that takes.

What the base pays for a byte of the corpus is held against what it pays for a byte of its own writing, which is the
distribution that it would lose. A ratio, because bits per byte differ from model to model. The shares are those of
arXiv 2403.08763 (5 % for similar text, 25 % for a strong shift); the bounds between the kinds are a judgement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["update", "domain", "language"]

_BOUNDS: tuple[tuple[float, Kind, float, str], ...] = (
    (1.3, "update", 0.05, "text much like what the base knows; a little replay already helps (arXiv 2403.08763)"),
    (2.0, "domain", 0.15, "a domain new to the base: between the 5 % of an update and the 25 % of a new language"),
    (float("inf"), "language", 0.25, "a language new to the base: a strong shift takes about a quarter (2403.08763)"),
)


@dataclass(frozen=True)
class Shift:
    """The kind of a shift, the replay it takes, and why."""

    kind: Kind
    share: float
    reason: str


def shift_of(corpus: float, own: float) -> Shift:
    """From the base's bits per byte of the corpus, and of texts that it wrote itself."""
    ratio = corpus / own
    kind, share, why = next((kind, share, why) for bound, kind, share, why in _BOUNDS if ratio < bound)
    return Shift(kind, share, f"{why}: {corpus:.2f} bits per byte against {own:.2f} of its own writing")


def written_tokens(share: float, tokens: int, passes: float = 4.0) -> int:
    """Tokens of replay that the base should write beside ``tokens`` of a corpus: seen ``passes`` times, up to 20M."""
    return max(1, min(20_000_000, round(share / (1 - share) * tokens / passes)))
