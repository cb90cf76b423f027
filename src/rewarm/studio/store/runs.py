"""The index of the run directories: what lists show, and what the scheduler looks at.

A row is made from the files alone, so that it can be made again at any time. What other
parts of the Studio count in a row (bytes, device seconds, joules) is left alone here.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import bindparam, delete, func, or_, select, update
from sqlalchemy.orm import Session

from rewarm.core.errors import NotFound, UserError
from rewarm.core.run import Run, read_launch
from rewarm.core.states import LIVE
from rewarm.studio.store.points import insert_into
from rewarm.studio.store.tables import OffsetRow, PipelineRow, RunRow, SeriesRow

DAMAGED = "damaged"
"""The state of a run whose record cannot be read; its reason says why."""


def upsert(session: Session, run: Run) -> RunRow:
    """Bring the row of ``run`` to what its files say now. Raises ``NotFound`` where it was deleted."""
    if not run.recipe.is_file():
        raise NotFound("there is no such run", where=run.id)
    values = told(run)
    row = session.get(RunRow, run.id, with_for_update=True)
    if row is None:
        new = {"id": run.id, "name": run.recipe_name, "created": _created(run), **_origin(session, run)}
        session.execute(insert_into(session, RunRow).values(new | values).on_conflict_do_nothing())
        row = session.get_one(RunRow, run.id, with_for_update=True)  # ours, or of who was faster
    elif values["state"] == row.state == "queued":
        values["reason"] = row.reason  # what the scheduler said last
    for name, value in values.items():
        setattr(row, name, value)
    return row


def told(run: Run) -> dict[str, Any]:
    """What the run's files say, by the names of the columns."""
    try:
        status = run.status()
        headline = version = None
        if status.state == "succeeded":
            published = run.stage("publish")
            version = published and published["facts"].get("version")
            headline = orjson.loads((run.report / "report.json").read_bytes()).get("headline")
        return {
            "state": status.state,
            "reason": status.reason if status.reason != status.state else None,
            "stage": status.stage,
            "attempt": status.attempt,
            "progress": status.progress,
            "headline": headline,
            "version": version,
            "changed": status.last["time"] if status.last else _created(run),
        }
    except (UserError, OSError, orjson.JSONDecodeError, AttributeError) as error:
        return {"state": DAMAGED, "reason": str(error), "changed": _created(run)}


def _created(run: Run) -> float:
    try:
        return datetime.strptime(run.id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return run.path.stat().st_mtime


def _origin(session: Session, run: Run) -> dict[str, Any]:
    """Who started it, and of which pipeline it is; one that is known by its name is found again in a new database."""
    try:
        launch = read_launch(run)
    except (UserError, OSError):
        return {}
    name = launch.get("pipeline")
    found = session.scalar(select(PipelineRow.id).where(PipelineRow.name == name)) if name else None
    return {"pipeline_id": found, "started_by": launch.get("by")}


def forget(session: Session, run: str) -> None:
    """Remove a run that is not there any more from the index, with its points."""
    for table, column in ((SeriesRow, SeriesRow.run), (OffsetRow, OffsetRow.run), (RunRow, RunRow.id)):
        session.execute(delete(table).where(column == run))


def page(
    session: Session,
    *,
    states: Collection[str] = (),
    pipeline: str | None = None,
    text: str = "",
    after: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """What lists show, the newest first, those older than ``after``; ``text``: part of id, reason, version, starter."""
    query = _NEWEST
    if states:
        query = query.where(RunRow.state.in_(states))
    if pipeline is not None:
        query = query.where(PipelineRow.name == pipeline)
    if text:
        shown = (RunRow.id, RunRow.reason, RunRow.version, RunRow.started_by)
        query = query.where(or_(*(func.lower(c).contains(text.lower(), autoescape=True) for c in shown)))
    if after is not None:
        query = query.where(RunRow.id < after)
    found = session.connection().execute(query, {"limit": limit})
    names = tuple(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found.all()]


def shown(session: Session, run: str) -> dict[str, Any] | None:
    """What lists show of one run."""
    row = session.connection().execute(_ONE, {"run": run}).first()
    return None if row is None else dict(row._mapping)


_SHOWN = select(
    *(column for column in RunRow.__table__.columns if column.name != "pipeline_id"), PipelineRow.name.label("pipeline")
).outerjoin(PipelineRow, PipelineRow.id == RunRow.pipeline_id)
_ONE = _SHOWN.where(RunRow.id == bindparam("run"))
_NEWEST = _SHOWN.order_by(RunRow.id.desc()).limit(bindparam("limit"))


def live(session: Session, pipeline_id: int | None = None) -> list[str]:
    """The runs, of one pipeline or of all, that were live when they were looked at last."""
    query = select(RunRow.id).where(RunRow.state.in_(LIVE)).order_by(RunRow.id)
    return list(session.scalars(query if pipeline_id is None else query.where(RunRow.pipeline_id == pipeline_id)))


def ours(session: Session, states: Collection[str]) -> list[str]:
    """The runs in these states that the Studio started."""
    query = select(RunRow.id).where(RunRow.state.in_(states), RunRow.started_by.is_not(None))
    return list(session.scalars(query.order_by(RunRow.id)))


def known(session: Session) -> dict[str, str]:
    """The state of every run in the index."""
    return {row.id: row.state for row in session.execute(select(RunRow.id, RunRow.state))}


def waits(session: Session) -> dict[str, str | None]:
    """What was said last of each run that is queued."""
    query = select(RunRow.id, RunRow.reason).where(RunRow.state == "queued")
    return {row.id: row.reason for row in session.execute(query)}


def explain(session: Session, run: str, reason: str) -> None:
    """Say why a run still waits."""
    session.execute(update(RunRow).where(RunRow.id == run, RunRow.state == "queued").values(reason=reason))


def set_joules(session: Session, run: str, joules: float) -> None:
    """What its GPUs used so far."""
    session.execute(update(RunRow).where(RunRow.id == run).values(joules=joules))
