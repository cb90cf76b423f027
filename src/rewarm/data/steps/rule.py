"""What a cleaning step is to the rest of the data path: a pure function from texts to texts or drops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rewarm.data.steps.words import Texts


class Drop(NamedTuple):
    """A document that a rule takes out, with what the rule measured or found."""

    reason: str
    value: float | str | None = None
    flagged: tuple[tuple[str, str], ...] = ()
    """All benchmark items that it holds a piece of, each with its reason."""


Apply = Callable[[Texts], list[str | Drop]]


@dataclass(frozen=True)
class Rule:
    """A step, ready to be applied. A text gets the same answer in every process, whatever stands beside it.

    ``changes`` is false for a rule that only keeps or drops.
    """

    name: str
    changes: bool
    apply: Apply


def each(apply: Callable[[str], str | Drop]) -> Apply:
    """A rule that looks at one text after the other."""
    return lambda texts: list(map(apply, texts.texts))
