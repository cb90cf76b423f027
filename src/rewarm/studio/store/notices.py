"""The outbox: what is to be told to whom, when it is tried next, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import NoticeRow, RunRow


def untold(session: Session, states: Iterable[str], since: float, limit: int = 100) -> Sequence[RunRow]:
    """Runs that came into one of these states since then, of which nobody has asked yet who is to be told."""
    told = select(NoticeRow.id).where(
        NoticeRow.run == RunRow.id, NoticeRow.attempt == RunRow.attempt, NoticeRow.state == RunRow.state
    )
    wanted = RunRow.state.in_(list(states)), RunRow.changed >= since, ~told.exists()
    return session.scalars(select(RunRow).where(*wanted).order_by(RunRow.changed).limit(limit)).all()


def add(
    session: Session, run: str, attempt: int, state: str, reason: str | None, targets: Iterable[str], now: float
) -> None:
    """Put a notice for each target into the outbox; one that is there stays as it is."""
    of_these = NoticeRow.run == run, NoticeRow.attempt == attempt, NoticeRow.state == state
    there = set(session.scalars(select(NoticeRow.target).where(*of_these)))
    for target in dict.fromkeys(targets):
        if target not in there:
            row = NoticeRow(run=run, attempt=attempt, state=state, target=target, reason=reason, created=now)
            row.next_time = now if target else None
            session.add(row)


def due(session: Session, now: float, limit: int = 100) -> list[int]:
    """Notices whose time has come, the one that waits longest first."""
    query = select(NoticeRow.id).where(NoticeRow.sent.is_(None), NoticeRow.next_time <= now)
    return list(session.scalars(query.order_by(NoticeRow.next_time).limit(limit)))


def claim(session: Session, id: int, now: float, until: float) -> NoticeRow | None:
    """Count a try and keep everybody else off until then; None where it is not due any more."""
    mine = NoticeRow.id == id, NoticeRow.sent.is_(None), NoticeRow.next_time <= now
    done = session.execute(update(NoticeRow).where(*mine).values(tries=NoticeRow.tries + 1, next_time=until))
    return session.get(NoticeRow, id) if done.rowcount else None  # type: ignore[attr-defined]


def settle(session: Session, id: int, *, sent: float | None, next_time: float | None, error: str | None) -> None:
    """Say what became of a try."""
    values = {"sent": sent, "next_time": next_time, "error": error}
    session.execute(update(NoticeRow).where(NoticeRow.id == id).values(values))


def postpone(session: Session, id: int, until: float) -> None:
    """Let it wait without a try."""
    session.execute(update(NoticeRow).where(NoticeRow.id == id).values(next_time=until))


def sent_since(session: Session, target: str, since: float) -> tuple[int, float]:
    """How many notices a target got since then, and when the first of them."""
    query = select(func.count(), func.min(NoticeRow.sent)).where(NoticeRow.target == target, NoticeRow.sent >= since)
    count, first = session.execute(query).one()
    return count, first or since


def notices(session: Session, run: str | None, after: int | None, limit: int) -> Sequence[NoticeRow]:
    """The newest first; those of a run, those before the notice with id ``after``."""
    query = select(NoticeRow).where(NoticeRow.target != "").order_by(NoticeRow.id.desc()).limit(limit)
    if run is not None:
        query = query.where(NoticeRow.run == run)
    if after is not None:
        query = query.where(NoticeRow.id < after)
    return session.scalars(query).all()


def again(session: Session, id: int, now: float) -> NoticeRow | None:
    """Let a notice that is not under way begin anew; None where there is none such."""
    idle = NoticeRow.id == id, NoticeRow.target != "", or_(NoticeRow.next_time.is_(None), NoticeRow.next_time > now)
    values = {"tries": 0, "next_time": now, "sent": None, "error": None}
    done = session.execute(update(NoticeRow).where(*idle).values(values))
    return session.get(NoticeRow, id) if done.rowcount else None  # type: ignore[attr-defined]
