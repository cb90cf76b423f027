"""Sizes of what lies in the workspace, and what runs took of devices, energy and money."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from rewarm.studio.store.points import replace
from rewarm.studio.store.tables import PipelineRow, RunRow, SizeRow, UsageRow

Key = tuple[str, str]


def measured(session: Session) -> dict[Key, float]:
    """When each (kind, name) was measured last."""
    query = select(SizeRow.kind, SizeRow.name, SizeRow.measured)
    return {(kind, name): at for kind, name, at in session.execute(query)}


def put_sizes(session: Session, sizes: dict[Key, int], now: float) -> None:
    """Keep what was measured just now."""
    if sizes:
        rows = [{"kind": kind, "name": name, "bytes": count, "measured": now} for (kind, name), count in sizes.items()]
        replace(session, SizeRow, rows)


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


def run_facts(session: Session, runs: Collection[str]) -> dict[str, tuple[str, str, float]]:
    """Of each run that is known: who started it, the name of its pipeline ("" without one), and its joules."""
    query = select(RunRow.id, RunRow.started_by, PipelineRow.name, RunRow.joules).outerjoin(PipelineRow)
    found = session.execute(query.where(RunRow.id.in_(runs)))
    return {run: (user or "", pipeline or "", joules) for run, user, pipeline, joules in found}


def put_usage(session: Session, rows: list[dict[str, Any]], sizes: dict[Key, int]) -> None:
    """Keep what runs took so far, in their own rows too."""
    if rows:
        replace(session, UsageRow, rows)
        values: dict[str, Any] = {"bytes": bindparam("size"), "device_seconds": bindparam("seconds")}
        change = update(RunRow.__table__).where(RunRow.id == bindparam("its")).values(values)  # type: ignore[arg-type]
        its = [{"its": row["run"], "size": sizes["run", row["run"]], "seconds": row["device_seconds"]} for row in rows]
        session.connection().execute(change, its)


def usage(session: Session, by: str, month: str | None) -> list[tuple[str, str, int, float, float, float]]:
    """``(key, currency, runs, device seconds, joules, cost)`` for each run, pipeline, user or month."""
    key = {"run": UsageRow.run, "pipeline": UsageRow.pipeline, "user": UsageRow.user, "month": UsageRow.month}[by]
    sums = (func.sum(column) for column in (UsageRow.device_seconds, UsageRow.joules, UsageRow.cost))
    query = select(key, UsageRow.currency, func.count(), *sums).group_by(key, UsageRow.currency)
    if month is not None:
        query = query.where(UsageRow.month == month)
    return [tuple(row) for row in session.execute(query.order_by(key.desc()))]
