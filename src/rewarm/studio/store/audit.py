"""The record of who did what; rows are added and never changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import AuditRow


def note(
    session: Session, time: float, user_name: str, action: str, object: str, detail: dict[str, Any] | None = None
) -> None:
    """Add an entry: ``action`` is a verb such as ``add``, ``object`` is ``noun/name`` such as ``user/ana``."""
    session.add(AuditRow(time=time, user=user_name, action=action, object=object, detail=detail or {}))


def entries(
    session: Session,
    *,
    user: str | None = None,
    action: str | None = None,
    object: str | None = None,
    since: float | None = None,
    until: float | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditRow]:
    """The newest first; those before the entry with id ``before``. ``object`` is whole, or a noun for all of it."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if user is not None:
        query = query.where(AuditRow.user == user)
    if action is not None:
        query = query.where(AuditRow.action == action)
    if object is not None:
        wanted = AuditRow.object == object
        query = query.where(wanted if "/" in object else AuditRow.object.startswith(f"{object}/", autoescape=True))
    if since is not None:
        query = query.where(AuditRow.time >= since)
    if until is not None:
        query = query.where(AuditRow.time < until)
    if before is not None:
        query = query.where(AuditRow.id < before)
    return list(session.scalars(query))
