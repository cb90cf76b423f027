"""Who uses something that is about to be deleted: saved pipelines, and runs that are not over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, Field
from sqlalchemy import select

from rewarm.core.errors import Conflict, UserError
from rewarm.core.run import Run, list_runs, read_launch
from rewarm.core.states import LIVE, RESUMED
from rewarm.recipe.load import parse_recipe, read_text
from rewarm.recipe.recipe import Recipe
from rewarm.studio.context import Studio
from rewarm.studio.store.tables import PipelineRow


class Users(BaseModel):
    """Who uses it."""

    pipelines: list[str] = Field(default_factory=list, examples=[["legal-vi"]])
    runs: list[str] = Field(default_factory=list, description="all that use it, or the live ones where others do not")
    versions: list[str] = Field(default_factory=list, description="of models that came from it")

    def refuse(self, what: str, live: Sequence[str], used: bool = False) -> None:
        """Raise ``Conflict`` while a live run uses it; or anybody does, unless that was known (``used``)."""
        if live:
            raise Conflict(f"a run uses this {what}", where=live[0], remedy="wait for its end, or stop it")
        if names := [] if used else [*self.pipelines, *self.versions, *self.runs]:
            raise Conflict(
                f"this {what} is used: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}",
                remedy="delete it with used=true if they need it no more",
            )


def is_live(run: Run) -> bool:
    """Whether it runs, waits or will be resumed by itself; one that cannot be read may."""
    try:
        return run.status().state in LIVE | RESUMED
    except UserError:
        return run.alive()


def users(studio: Studio, word: str, uses: Callable[[Recipe], bool]) -> Users:
    """The pipelines, and the runs that are not over, whose recipe holds ``word`` and ``uses`` it, or cannot be read."""
    root = studio.workspace.root
    with studio.database.read() as session:
        saved = session.execute(select(PipelineRow.name, PipelineRow.recipe).order_by(PipelineRow.name)).all()
    pipelines = [name for name, text in saved if _is_used(text, (), root, word, uses)]
    runs = [run.id for run in list_runs(studio.workspace) if _run_uses(run, word, uses) and is_live(run)]
    return Users(pipelines=pipelines, runs=runs)


def _run_uses(run: Run, word: str, uses: Callable[[Recipe], bool]) -> bool:
    try:
        launch = read_launch(run)
        return _is_used(read_text(run.recipe), launch["overrides"], Path(launch["folder"]), word, uses)
    except UserError:
        return False


def _is_used(text: str, overrides: Sequence[str], folder: Path, word: str, uses: Callable[[Recipe], bool]) -> bool:
    if word not in text and not any(word in override for override in overrides):
        return False  # most: nothing has to be parsed
    try:
        return uses(parse_recipe(text, overrides, folder))
    except UserError:  # a draft
        return True
