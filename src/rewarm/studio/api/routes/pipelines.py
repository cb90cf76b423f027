"""Pipelines: saved recipes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from rewarm.studio.api.access import Editor, Limit, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.api.routes.recipe import Overrides, Recipe
from rewarm.studio.service import pipelines as verbs
from rewarm.studio.service import runs
from rewarm.studio.service.pipelines import Pipeline
from rewarm.studio.service.runs import PRIORITIES, RunDetail, RunSummary

router = routes("/pipelines", "pipelines")
Name = Annotated[str, Field(pattern=verbs.NAME, examples=["legal-vi"])]
Description = Annotated[str, Field(max_length=verbs.DESCRIPTION, examples=["Vietnamese law, every month"])]
Priority = Annotated[int, Field(ge=PRIORITIES[0], le=PRIORITIES[1], description="higher ones go first")]
Confirm = Annotated[str, Query(description="its name once more")]
Text = Annotated[str, Query(max_length=200, description="a part of what is shown")]


class NewPipeline(BaseModel):
    """Exactly one of recipe, template and clone."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "legal-vi", "template": "new-domain"}]}
    )
    name: Name | None = Field(None, description="pipeline-TIME where none is given")
    description: Description = ""
    recipe: Recipe | None = None
    template: str | None = Field(None, description="the name of a template")
    clone: str | None = Field(None, description="the name of another pipeline")


class Change(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"revision": 1, "description": "every month"}]}
    )
    revision: int = Field(ge=1, lt=2**63, description="the one that the change was made to")
    name: Name | None = None
    description: Description | None = None
    recipe: Recipe | None = None


class Start(BaseModel):
    model_config = ConfigDict(extra="forbid")
    overrides: Overrides = []
    priority: Priority = 0


@router.get("")
def list_pipelines(
    studio: TheStudio, user: Viewer, text: Text = "", after: str | None = None, limit: Limit = 100
) -> list[Pipeline]:
    """Pipelines by name; go on behind the last one with ``after``."""
    return verbs.list_pipelines(studio, user, text=text, after=after, limit=limit)


@router.post("", status_code=201, responses=documented(404, 409))
def create(studio: TheStudio, user: Editor, body: NewPipeline) -> Pipeline:
    """Save a recipe under a name."""
    return verbs.create(studio, user, **body.model_dump())


@router.get("/{name}", responses=documented(404))
def show(name: str, studio: TheStudio, user: Viewer) -> Pipeline:
    """One pipeline."""
    return verbs.show(studio, user, name)


@router.patch("/{name}", responses=documented(404, 409))
def edit(name: str, studio: TheStudio, user: Editor, body: Change) -> Pipeline:
    """Change what is given; 409 where somebody else has changed the pipeline since."""
    return verbs.edit(
        studio, user, name, body.revision, new_name=body.name, description=body.description, recipe=body.recipe
    )


@router.delete("/{name}", status_code=204, responses=documented(404, 409))
def delete(name: str, confirm: Confirm, studio: TheStudio, user: Editor) -> None:
    """Delete a pipeline; its runs stay."""
    verbs.delete(studio, user, name, confirm)


@router.post("/{name}/runs", status_code=201, responses=documented(404, 409, 507))
def start(name: str, studio: TheStudio, user: Editor, body: Start | None = None) -> RunDetail:
    """Start a run; 409 while another one of this pipeline is live."""
    body = body or Start()
    return runs.start(studio, user, name, body.overrides, priority=body.priority)


@router.get("/{name}/runs", responses=documented(404))
def history(
    name: str, studio: TheStudio, user: Viewer, after: str | None = None, limit: Limit = 100
) -> list[RunSummary]:
    """Its runs, the newest first; go on behind the last one with ``after``."""
    verbs.show(studio, user, name)
    return runs.list_runs(studio, user, pipeline=name, after=after, limit=limit)
