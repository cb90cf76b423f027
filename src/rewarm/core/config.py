"""The base of every configuration class, and pydantic's errors in the words of a recipe's author."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from rewarm.core.errors import Invalid

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
SHOWN = 20
"""Mistakes that are named; of more there is but the number."""


class Frozen(BaseModel):
    """Immutable, strict about types, closed to unknown keys, without NaN or infinity, whole numbers of 64 bits."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=False)
    names_elsewhere: ClassVar[Mapping[str, str]] = {}
    """What a reader may know of keys that other programs have: 'X's a is b here'."""

    @field_validator("*", mode="after")
    @classmethod
    def _fits_64_bits(cls, value: Any) -> Any:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("must fit into 64 bits")
        return value


def dotted(path: Path) -> str:
    """``("data", "sources", 0, "path")`` as ``data.sources[0].path``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that looks most like ``word``, if any looks alike."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The class of the object at ``path``; None where the path leads out of the tree."""
    models = [model]
    for part in path:
        if isinstance(part, int):
            continue
        if tagged := [m for m in models if (kind := m.model_fields.get("kind")) and part in get_args(kind.annotation)]:
            models = tagged  # pydantic names the member of a union in the path
            continue
        field = models[0].model_fields.get(part)
        models = _models_within(field.annotation) if field else []
        if not models:
            return None
    return models[0]


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_within(inner)]


def validate(model: type[M], value: Mapping[str, Any], where: Callable[[Path], str]) -> M:
    """Build ``model`` from ``value``; ``where(path)`` names the place of a field for the error.

    Raises:
        Invalid: with one line for each field that is wrong, all of them at once unless they are very many.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = error.errors()
        mistakes = [(tuple(item["loc"]), _line(model, item, where)) for item in errors[:SHOWN]]
        if len(errors) > SHOWN:
            mistakes.append(((), f"and {len(errors) - SHOWN:,} more"))
        raise Invalid(mistakes) from None


def _line(model: type[BaseModel], item: Any, where: Callable[[Path], str]) -> str:
    path: Path = tuple(item["loc"])
    name = dotted(path) or "recipe"
    place = where(path)
    place = place.removesuffix(": ") if place.endswith(f" {name}: ") else f"{place}{name}"
    if item["type"] == "extra_forbidden":
        return f"{place}: unknown key; {_hint(_model_at(model, path[:-1]), str(path[-1]))}"
    if item["type"] == "missing":
        return f"{place}: missing"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = _short(message[:1].lower() + message[1:], 500)  # it may repeat what was given
    if isinstance(item["input"], dict):  # a rule over several fields: its message names them
        return f"{place}: {message}"
    return f"{place}: {message}, got {_short(repr(item['input']), 80)}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _hint(model: type[BaseModel] | None, key: str) -> str:
    known = list(model.model_fields) if model else []
    if model and issubclass(model, Frozen) and key in model.names_elsewhere:
        return model.names_elsewhere[key]
    if guess := nearest(key, known):
        return f"did you mean {guess!r}?"
    return f"known here: {', '.join(known)}" if 0 < len(known) <= 12 else "docs/recipe.md lists those that there are"
