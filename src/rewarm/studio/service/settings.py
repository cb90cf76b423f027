"""Settings: named values that administrators change, each a pydantic model with a default for everything.

Any of them may hold secrets (``SecretStr``), so all are kept encrypted with the workspace's key. A secret is shown as
asterisks; where asterisks come back, it stays what it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from cryptography.fernet import InvalidToken
from pydantic import BaseModel, SecretStr, ValidationError

from rewarm.core.config import dotted
from rewarm.core.connections import cipher
from rewarm.core.errors import NotFound, UserError
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.store import settings as store
from rewarm.studio.store.audit import note

M = TypeVar("M", bound=BaseModel)
_MODELS: dict[str, type[BaseModel]] = {}
HIDDEN = str(SecretStr("x"))


def setting(name: str) -> Callable[[type[M]], type[M]]:
    """Of a model: it is the setting ``name``. Its module must be one that the routes or loops import."""

    def register(model: type[M]) -> type[M]:
        _MODELS[name] = model
        return model

    return register


def read_setting(studio: Studio, model: type[M]) -> M:
    """What is set, secrets and all; the defaults where nothing is.

    Raises:
        UserError: if it was encrypted with another key.
    """
    name = next(name for name, known in _MODELS.items() if known is model)
    return model.model_validate(_read(studio, name))


def list_settings(studio: Studio, user: User) -> dict[str, Any]:
    """All of them by name, without their secrets."""
    return {name: get_setting(studio, user, name) for name in sorted(_MODELS)}


def get_setting(studio: Studio, user: User, name: str) -> dict[str, Any]:
    """One of them, without its secrets."""
    user.check(Role.administrator)
    model = _model(name)
    return model.model_validate(_read(studio, name)).model_dump(mode="json")


def put_setting(studio: Studio, user: User, name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Set all of it; what is not given gets its default.

    Raises:
        NotFound: if there is no such setting.
        UserError: if a value is wrong; it is named and not repeated.
    """
    user.check(Role.administrator)
    try:
        made = _model(name).model_validate(_kept(value, _read(studio, name)))
    except ValidationError as error:
        places = [(dotted(item["loc"]), item["msg"].removeprefix("Value error, ")) for item in error.errors()]
        where = "".join(f"/{part}" for part in ("body", *error.errors()[0]["loc"]))
        raise UserError("\n".join(f"{place or name}: {what}" for place, what in places), where=where) from None
    shown = orjson.dumps(made.model_dump(), default=lambda secret: secret.get_secret_value())
    sealed = cipher(studio.workspace).encrypt(shown).decode()
    with studio.database.write() as session:
        store.put(session, name, {"sealed": sealed})
        note(session, time.time(), user.name, "change", f"setting/{name}")
    return made.model_dump(mode="json")


def _model(name: str) -> type[BaseModel]:
    if name not in _MODELS:
        raise NotFound(f"there is no setting {name!r}", remedy=f"known: {', '.join(sorted(_MODELS))}")
    return _MODELS[name]


def _read(studio: Studio, name: str) -> dict[str, Any]:
    with studio.database.read() as session:
        row = store.get(session, name)
    if row is None:
        return {}
    try:
        value: dict[str, Any] = orjson.loads(cipher(studio.workspace).decrypt(row["sealed"]))
        return value
    except InvalidToken:
        what = f"it was not encrypted with {studio.workspace.secret_key}"
        raise UserError(what, where=f"setting {name}", remedy="restore the key, or set it again") from None


def _kept(new: Any, old: Any) -> Any:
    """``new``, with what is hidden in it taken from the same place of ``old``; items of lists are known by name."""
    if new == HIDDEN:
        if isinstance(old, str):
            return old
        raise UserError("asterisks stand for a secret that is there; there is none yet", remedy="give the secret")
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        return {key: _kept(value, before.get(key)) for key, value in new.items()}
    if isinstance(new, list):
        named = {item.get("name"): item for item in old if isinstance(item, dict)} if isinstance(old, list) else {}
        return [_kept(item, named.get(str(item.get("name"))) if isinstance(item, dict) else None) for item in new]
    return new
