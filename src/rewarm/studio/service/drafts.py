"""A pipeline that a user has begun to describe and not yet saved: it survives the tab, one for each user."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.manifest import to_json
from rewarm.core.storage import write_file
from rewarm.studio.context import Role, Studio, User


def read_draft(studio: Studio, user: User, key: str = "new") -> dict[str, Any] | None:
    """What was kept last under ``key``; None where nothing was, or it is damaged."""
    try:
        found = orjson.loads(_path(studio, user, key).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None


def save_draft(studio: Studio, user: User, draft: dict[str, Any], key: str = "new") -> None:
    """Keep it in place of the one before."""
    user.check(Role.editor)
    write_file(_path(studio, user, key), to_json(draft))


def drop_draft(studio: Studio, user: User, key: str = "new") -> None:
    _path(studio, user, key).unlink(missing_ok=True)


def _path(studio: Studio, user: User, key: str) -> Path:
    return studio.workspace.root / "drafts" / f"{user.id}-{re.sub(r'[^A-Za-z0-9_-]', '_', key)[:100]}.json"
