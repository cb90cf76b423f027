"""Pipelines: saved, named recipes."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import PipelineRow, RunRow


def by_name(session: Session, name: str) -> PipelineRow | None:
    return session.scalar(select(PipelineRow).where(PipelineRow.name == name))


def lock(session: Session, name: str) -> PipelineRow | None:
    """The pipeline, which nobody else changes or starts until this session ends, on any database."""
    session.execute(update(PipelineRow).where(PipelineRow.name == name).values(name=name))
    return by_name(session, name)


def page(session: Session, *, text: str = "", after: str | None = None, limit: int = 100) -> list[PipelineRow]:
    """In the order of their names, those behind ``after``; ``text`` is a part of name or description."""
    query = select(PipelineRow).order_by(PipelineRow.name).limit(limit)
    if text:
        fits = func.lower(PipelineRow.name + " " + PipelineRow.description).contains(text.lower(), autoescape=True)
        query = query.where(fits)
    if after is not None:
        query = query.where(PipelineRow.name > after)
    return list(session.scalars(query))


def newest_runs(session: Session, ids: list[int]) -> dict[int, RunRow]:
    """The newest run of each of these pipelines that has one."""
    newest = select(func.max(RunRow.id)).where(RunRow.pipeline_id.in_(ids)).group_by(RunRow.pipeline_id)
    rows = session.scalars(select(RunRow).where(RunRow.id.in_(newest)))
    return {row.pipeline_id: row for row in rows if row.pipeline_id is not None}
