"""Limits on what is measured of a document, and the profiles of languages that they come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import Field, ValidationError

from rewarm.core.config import Frozen
from rewarm.core.errors import DataError
from rewarm.data.steps.rule import Drop
from rewarm.recipe.steps import Language, Profiled, Quality, Repetition, is_path

S = TypeVar("S", bound=Profiled)
Bounds = dict[str, list[tuple[float, bool, str]]]


class Limit(NamedTuple):
    """A setting that bounds a figure from below (``min_...``) or above (``max_...``). On the bound is kept."""

    field: str
    figure: str
    reason: str


class Profile(Frozen):
    """The limits for one language, with where they come from."""

    origin: str = Field(description="who set the limits, by which method")
    detector: str | None = Field(None, description="whose scores min_score is about")
    language: Language | None = None
    quality: Quality | None = None
    repetition: Repetition | None = None
    reference: dict[str, object] = Field(default_factory=dict, description="the figures of the clean reference")


def load_profile(name: str) -> Profile:
    """A profile that ships with Rewarm, or a file.

    Raises:
        DataError: if there is none, or it is broken.
    """
    shipped = resources.files(__package__) / "profiles"
    try:
        data = Path(name).read_bytes() if is_path(name) else (shipped / f"{name}.json").read_bytes()
    except OSError as error:
        known = ", ".join(sorted(p.name.removesuffix(".json") for p in shipped.iterdir()))
        raise DataError(
            f"the profile cannot be read: {error.strerror}" if is_path(name) else f"there is no profile {name!r}",
            where=name if is_path(name) else None,
            remedy=f"shipped are {known}; for another language: rewarm data thresholds FILES --language xxx "
            "--output profile.json",
        ) from None
    try:
        return Profile.model_validate(orjson.loads(data))
    except (orjson.JSONDecodeError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else "broken JSON"
        raise DataError(f"not a profile: {what}", where=name, remedy="make it with rewarm data thresholds") from None


def with_profile(step: S) -> S:
    """The step with every setting that is not set taken from its profile."""
    if step.profile is None:
        return step
    values = getattr(load_profile(step.profile), step.kind)
    given = {} if values is None else values.model_dump(exclude_none=True)
    return step.model_copy(update={name: value for name, value in given.items() if getattr(step, name) is None})


def bounds(step: Quality | Repetition, limits: Sequence[Limit]) -> Bounds:
    """For each figure its limits that are set: value, whether it is the least, and the reason of a drop."""
    found: Bounds = {}
    for limit in limits:
        value = getattr(step, limit.field)
        if value is not None:
            found.setdefault(limit.figure, []).append((value, limit.field.startswith("min_"), limit.reason))
    return found


def first_broken(figures: Iterable[tuple[str, float]], wanted: Bounds) -> Drop | None:
    """The first figure that is out of its bounds; no further one is then computed."""
    for name, value in figures:
        for bound, least, reason in wanted.get(name, ()):
            if value < bound if least else value > bound:
                return Drop(reason, round(value, 4))
    return None


def facts(step: Quality | Repetition) -> dict[str, Any]:
    """The limits that hold in the end: where they came from makes no difference."""
    return with_profile(step).model_dump(mode="json", exclude={"kind", "profile"})
