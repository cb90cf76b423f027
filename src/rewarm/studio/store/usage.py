"""Sizes of what lies in the workspace, and what runs took of devices, energy and money."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import PipelineRow, RunRow, SizeRow, UsageRow

Key = tuple[str, str]


def measured(session: Session) -> dict[Key, float]:
    """When each (kind, name) was measured last."""
    query = select(SizeRow.kind, SizeRow.name, SizeRow.measured)
    return {(kind, name): at for kind, name, at in session.execute(query)}


def put_sizes(session: Session, sizes: dict[Key, int], now: float) -> None:
    """Keep what was measured just now."""
    for (kind, name), count in sizes.items():
        session.merge(SizeRow(kind=kind, name=name, bytes=count, measured=now))


def drop_sizes(session: Session, gone: Iterable[Key]) -> None:
    """Forget what is not there any more."""
    for kind, name in gone:
        session.execute(delete(SizeRow).where(SizeRow.kind == kind, SizeRow.name == name))


def totals(session: Session) -> dict[str, tuple[int, int]]:
    """Of each kind, how many there are and their bytes; checkpoints are a part of their runs."""
    query = select(SizeRow.kind, func.count(), func.sum(SizeRow.bytes)).group_by(SizeRow.kind)
    return {kind: (count, int(total)) for kind, count, total in session.execute(query)}


def largest(session: Session, kind: str, limit: int, offset: int = 0) -> Sequence[SizeRow]:
    """The largest of a kind first."""
    query = select(SizeRow).where(SizeRow.kind == kind).order_by(SizeRow.bytes.desc(), SizeRow.name)
    return session.scalars(query.limit(limit).offset(offset)).all()


def run_facts(session: Session, run: str) -> tuple[RunRow | None, str]:
    """The row of a run, and the name of its pipeline ("" without one)."""
    row = session.get(RunRow, run)
    pipeline = session.get(PipelineRow, row.pipeline_id) if row and row.pipeline_id else None
    return row, pipeline.name if pipeline else ""


def put_usage(session: Session, row: UsageRow, size: int) -> None:
    """Keep what a run took so far, in the run's own row too."""
    session.merge(row)
    if (run := session.get(RunRow, row.run)) is not None:
        run.bytes, run.device_seconds = size, row.device_seconds


def usage(session: Session, by: str, month: str | None) -> list[tuple[str, str, int, float, float, float]]:
    """``(key, currency, runs, device seconds, joules, cost)`` for each run, pipeline, user or month."""
    key = {"run": UsageRow.run, "pipeline": UsageRow.pipeline, "user": UsageRow.user, "month": UsageRow.month}[by]
    sums = (func.sum(column) for column in (UsageRow.device_seconds, UsageRow.joules, UsageRow.cost))
    query = select(key, UsageRow.currency, func.count(), *sums).group_by(key, UsageRow.currency)
    if month is not None:
        query = query.where(UsageRow.month == month)
    return [tuple(row) for row in session.execute(query.order_by(key.desc()))]
