"""Users, and what lets them in: sessions, tokens, links. Of a secret only the SHA-256 comes here."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import LinkRow, SessionRow, TokenRow, UserRow


def users(session: Session) -> list[UserRow]:
    """All, by name."""
    return list(session.scalars(select(UserRow).order_by(UserRow.name)))


def user_named(session: Session, name: str) -> UserRow | None:
    return session.scalar(select(UserRow).where(UserRow.name == name))


def count_users(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(UserRow)) or 0


def administrators(session: Session, *, hold: bool = False) -> list[UserRow]:
    """Those that are not disabled; with ``hold`` nobody else changes them before the transaction (of writing) ends."""
    found = select(UserRow).where(UserRow.role == "administrator", UserRow.disabled.is_(False)).order_by(UserRow.id)
    return list(session.scalars(found.with_for_update() if hold else found))


class Asker(NamedTuple):
    """Who asks, as a session or a token tells."""

    id: int
    name: str
    role: str
    token: int | None = None
    token_role: str | None = None
    token_used: float | None = None


def user_of_session(session: Session, hash: str, now: float) -> Asker | None:
    """Who is signed in there, unless it has expired or the user is disabled."""
    return _asker(session, _OF_SESSION, hash, now)


def user_of_token(session: Session, hash: str, now: float) -> Asker | None:
    """Whose token that is, unless it has expired or the user is disabled."""
    return _asker(session, _OF_TOKEN, hash, now)


def _asker(session: Session, query: Any, hash: str, now: float) -> Asker | None:
    found = session.connection().execute(query, {"hash": hash, "now": now}).first()
    return None if found is None else Asker(*found)


# Every request asks one of these: they are built once, and give columns, which cost a third of what objects do.
_USER = (UserRow.id, UserRow.name, UserRow.role)
_OF_SESSION = (
    select(*_USER)
    .join(SessionRow, SessionRow.user_id == UserRow.id)
    .where(SessionRow.hash == bindparam("hash"), SessionRow.expires > bindparam("now"), UserRow.disabled.is_(False))
)
_OF_TOKEN = (
    select(*_USER, TokenRow.id, TokenRow.role, TokenRow.used)
    .join(TokenRow, TokenRow.user_id == UserRow.id)
    .where(TokenRow.hash == bindparam("hash"), TokenRow.expires.is_(None) | (TokenRow.expires > bindparam("now")))
    .where(UserRow.disabled.is_(False))
)


def touch_token(session: Session, id: int, now: float) -> None:
    """The token was used."""
    session.execute(update(TokenRow).where(TokenRow.id == id).values(used=now))


def add_session(session: Session, row: SessionRow) -> None:
    """Add it, and drop those that have expired."""
    session.execute(delete(SessionRow).where(SessionRow.expires <= row.created))
    session.add(row)


def end_session(session: Session, hash: str) -> None:
    session.execute(delete(SessionRow).where(SessionRow.hash == hash))


def end_sessions(session: Session, user_id: int, but: str | None = None) -> None:
    """End all sessions of a user, except that with the hash ``but``."""
    session.execute(delete(SessionRow).where(SessionRow.user_id == user_id, SessionRow.hash != (but or "")))


def put_link(session: Session, row: LinkRow) -> None:
    """Add it in place of all earlier ones of its user."""
    session.execute(delete(LinkRow).where(LinkRow.user_id == row.user_id))
    session.add(row)


def drop_links(session: Session, user_id: int) -> None:
    session.execute(delete(LinkRow).where(LinkRow.user_id == user_id))


def take_link(session: Session, hash: str, now: float) -> UserRow | None:
    """Whose link that is; it is used up. None where it was, has expired, or the user is disabled."""
    user = session.scalar(
        select(UserRow)
        .join(LinkRow, LinkRow.user_id == UserRow.id)
        .where(LinkRow.hash == hash, LinkRow.expires > now, UserRow.disabled.is_(False))
    )
    taken = cast(CursorResult[Any], session.execute(delete(LinkRow).where(LinkRow.hash == hash)))
    return user if taken.rowcount == 1 else None  # of two at once, one


def tokens_of(session: Session, user_id: int) -> list[TokenRow]:
    return list(session.scalars(select(TokenRow).where(TokenRow.user_id == user_id).order_by(TokenRow.id)))


def remove_token(session: Session, user_id: int, id: int) -> TokenRow | None:
    """Remove a token of this user; None where there is none with this number."""
    row = session.scalar(select(TokenRow).where(TokenRow.user_id == user_id, TokenRow.id == id))
    if row is not None:
        session.delete(row)
    return row
