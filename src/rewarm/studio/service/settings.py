"""Settings: named values that administrators change, each a model with a default for everything.

None of them holds a secret: what does has verbs of its own (mail, webhooks, connections).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from rewarm.core.config import Frozen, dotted
from rewarm.core.errors import Invalid, NotFound
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.store import settings as store
from rewarm.studio.store.audit import note

M = TypeVar("M", bound=Frozen)
_MODELS: dict[str, type[Frozen]] = {}


def setting(name: str) -> Callable[[type[M]], type[M]]:
    """Of a model: it is the setting ``name``. Its module must be one that the routes or loops import."""

    def register(model: type[M]) -> type[M]:
        _MODELS[name] = model
        return model

    return register


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("must be an absolute path")
    return path


@setting("folders")
class Folders(Frozen):
    """Folders outside the workspace that recipes of editors may read; an administrator's may read any."""

    readable: list[Annotated[str, AfterValidator(_absolute)]] = Field([], max_length=1000, examples=[["/data/corpora"]])


def read_setting(studio: Studio, model: type[M]) -> M:
    """What is set; the defaults where nothing is."""
    name = next(name for name, known in _MODELS.items() if known is model)
    with studio.database.read() as session:
        return model.model_validate(store.get(session, name) or {})


def list_settings(studio: Studio, user: User) -> dict[str, dict[str, Any]]:
    """All of them by name."""
    return {name: get_setting(studio, user, name) for name in sorted(_MODELS)}


def schema(name: str) -> dict[str, Any]:
    """JSON Schema of a setting. Raises ``NotFound``."""
    return _model(name).model_json_schema()


def get_setting(studio: Studio, user: User, name: str) -> dict[str, Any]:
    """Raises ``NotFound`` if there is no such setting."""
    user.check(Role.administrator)
    return read_setting(studio, _model(name)).model_dump(mode="json")


def put_setting(studio: Studio, user: User, name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Set all of it; what is not given gets its default. Raises ``NotFound``, or ``Invalid`` for a wrong value."""
    user.check(Role.administrator)
    try:
        made = _model(name).model_validate(value).model_dump(mode="json")
    except ValidationError as error:
        lines = [(item["loc"], item["msg"].removeprefix("Value error, ")) for item in error.errors()]
        raise Invalid([(("body", *path), f"{dotted(path) or name}: {what}") for path, what in lines]) from None
    with studio.database.write() as session:
        store.put(session, name, made)
        note(session, time.time(), user.name, "change", f"setting/{name}", made)
    return made


def _model(name: str) -> type[Frozen]:
    if name not in _MODELS:
        raise NotFound(f"there is no setting {name!r}", remedy=f"known: {', '.join(sorted(_MODELS))}")
    return _MODELS[name]
