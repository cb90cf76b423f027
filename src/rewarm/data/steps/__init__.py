"""The cleaning steps: one module for each kind, each a pure function from a text to a text or a drop.

The module of a kind has its name, and ``VERSION`` (raised when it answers differently), ``CHANGES``,
``build(step)``, which gives the function, and ``facts(step)``: what the answers depend on beyond the
step's own settings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from rewarm.data.steps.rule import Apply, Drop, Rule

if TYPE_CHECKING:  # workers import this module, and pydantic costs them a quarter of a second
    from rewarm.recipe.steps import Step

__all__ = ["Drop", "Rule", "build_steps", "facts"]


class _Kind(Protocol):
    VERSION: int
    CHANGES: bool

    def build(self, step: Any) -> Apply: ...

    def facts(self, step: Any) -> dict[str, Any]: ...


def _kind(step: Step) -> _Kind:
    return cast(_Kind, import_module(f"{__name__}.{step.kind}"))  # a closed list: the union of the settings


def build_steps(steps: Sequence[Step]) -> list[Rule]:
    """The rules of the steps, in their order.

    Raises:
        DataError: if a profile, word list or benchmark file cannot be read.
    """
    return [Rule(step.kind, _kind(step).CHANGES, _kind(step).build(step)) for step in steps]


def facts(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Everything that the result of the steps depends on, as JSON: it enters the addresses of what they make.

    Files are known by their content, never by their place.

    Raises:
        DataError: as ``build_steps``.
    """
    return [
        {"kind": step.kind, "version": _kind(step).VERSION, "unicode": unicodedata.unidata_version}
        | step.model_dump(mode="json", exclude={"kind", "path", "profile"})
        | _kind(step).facts(step)
        for step in steps
    ]
