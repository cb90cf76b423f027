"""The record of who did what, for those who look after the workspace."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from rewarm.studio.context import Role, Studio, User
from rewarm.studio.store import audit as store


class Entry(BaseModel):
    """Somebody did something."""

    id: int
    time: float = Field(description="seconds since 1970, UTC", examples=[1767225600.0])
    user: str = Field(examples=["ana"])
    action: str = Field(examples=["stop"])
    object: str = Field(examples=["run/20260101-120000-quickstart-1f2e"])
    detail: dict[str, Any]


def list_audit(
    studio: Studio,
    user: User,
    by: str | None = None,
    action: str | None = None,
    object: str | None = None,
    since: float | None = None,
    until: float | None = None,
    after: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """The newest first; the next page is what comes ``after`` the last one's id."""
    user.check(Role.administrator)
    with studio.database.read() as session:
        rows = store.entries(
            session, user=by, action=action, object=object, since=since, until=until, before=after, limit=limit
        )
        return [Entry.model_validate(row, from_attributes=True) for row in rows]
