"""A step made of its settings as a recipe has them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from rewarm.data.steps import Drop, Rule, build_steps
from rewarm.data.steps.words import Texts
from rewarm.recipe.steps import Step

STEPS: TypeAdapter[list[Step]] = TypeAdapter(list[Step])


def rule(kind: str, **settings: Any) -> Rule:
    (built,) = build_steps(STEPS.validate_python([{"kind": kind, **settings}]))
    return built


def applied(text: str, kind: str, **settings: Any) -> str | Drop:
    (answer,) = rule(kind, **settings).apply(Texts([text]))
    return answer


def reason(text: str, kind: str, **settings: Any) -> str | None:
    """Why the step drops the text; None where it keeps it."""
    result = applied(text, kind, **settings)
    return result.reason if isinstance(result, Drop) else None
