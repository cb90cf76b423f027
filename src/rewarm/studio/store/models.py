"""What of the store may use a model version: live runs and saved recipes."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from rewarm.core.states import LIVE, RESUMED
from rewarm.studio.store.tables import PipelineRow, RunRow


def live_runs(session: Session) -> list[str]:
    """The ids of the runs that are queued, at work, or resumed by themselves."""
    return list(session.scalars(select(RunRow.id).where(RunRow.state.in_(LIVE | RESUMED))))


def saved_recipes(session: Session) -> dict[str, str]:
    """The recipe of each pipeline, by the pipeline's name."""
    return {row.name: row.recipe for row in session.execute(select(PipelineRow.name, PipelineRow.recipe))}
