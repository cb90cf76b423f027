"""Limits on what is measured of a document, and the profiles of languages that they come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import Field, ValidationError

from rewarm.core.config import Frozen
from rewarm.core.errors import DataError
from rewarm.data.steps.rule import Drop
from rewarm.data.steps.words import Flags, Texts
from rewarm.recipe.steps import Language, Profiled, Quality, Repetition, is_path

S = TypeVar("S", bound=Profiled)
Bounds = dict[str, list[tuple[float, bool, str]]]
Figure = tuple[str, npt.NDArray[np.number[Any]], Flags]
"""A name, and for each text its value and whether it has one, both (texts,)."""


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


def first_broken(texts: Texts, figures: Iterable[Figure], wanted: Bounds) -> list[str | Drop]:
    """Each text, or the first of its figures that is out of its bounds; once all are, no further one is computed."""
    answers: list[str | Drop] = list(texts.texts)
    whole = np.ones(len(answers), bool)
    for name, values, there in figures:
        for bound, least, reason in wanted.get(name, ()):
            broken = whole & there & (values < bound if least else values > bound)
            for index in np.flatnonzero(broken).tolist():
                answers[index] = Drop(reason, round(values[index].item(), 4))
            whole &= ~broken
        if not whole.any():
            break
    return answers


def facts(step: Quality | Repetition) -> dict[str, Any]:
    """The limits that hold in the end: where they came from makes no difference."""
    return with_profile(step).model_dump(mode="json", exclude={"kind", "profile"})
