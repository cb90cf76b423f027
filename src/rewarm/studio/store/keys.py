"""Idempotency-Keys, and what was answered to the requests that came with them."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from rewarm.studio.store.points import insert_into
from rewarm.studio.store.tables import KeyRow

LIFETIME = 86_400.0
WORK = 600.0
"""Seconds after which a request that was never answered counts as lost with its server."""


def claim(session: Session, user: str, key: str, request: str, now: float) -> KeyRow | None:
    """Take a key for a request; None where it was free, else its row. Of several at once, one gets it."""
    unanswered = KeyRow.status.is_(None) & (KeyRow.created < now - WORK)
    session.execute(delete(KeyRow).where((KeyRow.created < now - LIFETIME) | unanswered))
    row = {"user": user, "key": key, "request": request, "created": now}
    made = session.execute(
        insert_into(session, KeyRow).values(row).on_conflict_do_nothing().returning(KeyRow.key)
    ).first()
    return None if made else session.get_one(KeyRow, (user, key))


def answer(session: Session, user: str, key: str, status: int, body: str) -> None:
    """Keep what was answered."""
    if (row := session.get(KeyRow, (user, key))) is not None:
        row.status, row.body = status, body


def release(session: Session, user: str, key: str) -> None:
    """Forget a key whose request may be sent again."""
    session.execute(delete(KeyRow).where(KeyRow.user == user, KeyRow.key == key))
