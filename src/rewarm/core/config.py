"""The base of every configuration class, and pydantic's errors in the words of a recipe's author."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rewarm.core.errors import UserError

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class Frozen(BaseModel):
    """Immutable, strict about types, closed to unknown keys, and without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=False)


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


def known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the object at ``path`` may have; empty where the path leads out of the tree."""
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
            return []
    return list(models[0].model_fields)


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_within(inner)]


def validate(model: type[M], value: Mapping[str, Any], where: Callable[[Path], str]) -> M:
    """Build ``model`` from ``value``; ``where(path)`` names the place of a field for the error.

    Raises:
        UserError: with one line for each field that is wrong, all of them at once.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_line(model, item, where) for item in error.errors()]
        raise UserError("\n".join(dict.fromkeys(lines)), remedy="correct the lines named above") from None


def _line(model: type[BaseModel], item: Any, where: Callable[[Path], str]) -> str:
    path: Path = tuple(item["loc"])
    place = f"{where(path)}{dotted(path) or 'recipe'}"
    if item["type"] == "extra_forbidden":
        known = known_keys(model, path[:-1])
        guess = nearest(str(path[-1]), known)
        hint = f"did you mean {guess!r}?" if guess else f"known here: {', '.join(known)}"
        return f"{place}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{place}: missing"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    if isinstance(item["input"], dict):  # a rule over several fields: its message names them
        return f"{place}: {message}"
    shown = repr(item["input"])
    return f"{place}: {message}, got {shown if len(shown) <= 80 else shown[:77] + '...'}"
