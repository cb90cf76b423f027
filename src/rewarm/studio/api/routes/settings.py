"""Settings of the Studio, each an object under its name."""

from __future__ import annotations

from typing import Any

from rewarm.studio.api.access import Administrator, TheStudio, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import settings as verbs

router = routes("/settings", "settings")


@router.get("")
def settings(studio: TheStudio, user: Administrator) -> dict[str, dict[str, Any]]:
    """All settings by name."""
    return verbs.list_settings(studio, user)


@router.get("/{name}", responses=documented(404))
def setting(name: str, studio: TheStudio, user: Administrator) -> dict[str, Any]:
    """One of them."""
    return verbs.get_setting(studio, user, name)


@router.put("/{name}", responses=documented(404))
def put_setting(name: str, studio: TheStudio, user: Administrator, body: dict[str, Any]) -> dict[str, Any]:
    """Set all of one setting; what is not given gets its default."""
    return verbs.put_setting(studio, user, name, body)
