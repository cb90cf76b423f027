"""What a cleaning step is to the rest of the data path: a pure function from a text to a text or a drop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Drop(NamedTuple):
    """A document that a rule takes out, with what the rule measured or found."""

    reason: str
    value: float | str | None = None


Apply = Callable[[str], str | Drop]


@dataclass(frozen=True)
class Rule:
    """A step, ready to be applied. The same text gives the same answer in every process.

    ``changes`` is false for a rule that only keeps or drops.
    """

    name: str
    changes: bool
    apply: Apply
