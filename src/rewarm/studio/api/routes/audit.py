"""Who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from rewarm.studio.api.access import Administrator, Limit, TheStudio, routes
from rewarm.studio.service import audit as verbs
from rewarm.studio.service.audit import Entry

router = routes("/audit", "audit")
Time = Annotated[float | None, Query(allow_inf_nan=False, description="seconds since 1970, UTC")]


@router.get("")
def audit(
    studio: TheStudio,
    administrator: Administrator,
    user: Annotated[str | None, Query(description="who did it")] = None,
    action: Annotated[str | None, Query(description="what was done, such as stop")] = None,
    object: Annotated[str | None, Query(description="to what: run/ID, or run for all of them")] = None,
    since: Time = None,
    until: Time = None,
    after: Annotated[int | None, Query(ge=1, lt=2**63, description="the last id of the page before")] = None,
    limit: Limit = 100,
) -> list[Entry]:
    """The record of who did what, the newest first."""
    return verbs.list_audit(studio, administrator, user, action, object, since, until, after, limit)
