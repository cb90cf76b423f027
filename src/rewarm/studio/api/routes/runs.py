"""Runs: what was started, and what is done with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from rewarm.studio.api.access import Editor, Limit, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.api.routes.pipelines import Confirm, Priority, Text
from rewarm.studio.api.routes.recipe import Overrides, Recipe
from rewarm.studio.service import runs as verbs
from rewarm.studio.service.runs import Checkpoint, Comparison, Frozen, Recomputed, RunDetail, RunSummary

router = routes("/runs", "runs")
States = Annotated[list[str] | None, Query(alias="state", max_length=20, description="one or several states")]
Compared = Annotated[str, Query(max_length=200, examples=["legal-vi@1"])]
Form = Annotated[Literal["html", "md", "json"], Path()]
_TYPES = {"html": "text/html", "md": "text/markdown", "json": "application/json"}
_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'"
)
"""A report is one file with all its styles and drawings; in a browser it is a page of nowhere, without our cookies.
Our own pages may frame it."""
_FRAMED = {"Content-Security-Policy": _SANDBOX, "X-Frame-Options": "SAMEORIGIN"}


class NewRun(BaseModel):
    model_config = ConfigDict(extra="forbid")
    recipe: Recipe
    overrides: Overrides = []
    priority: Priority = 0


class Stop(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: str = Field("", max_length=1000, examples=["the learning rate is too high"])


class Resume(BaseModel):
    model_config = ConfigDict(extra="forbid")
    from_stage: str | None = Field(
        None,
        max_length=40,
        pattern="^(prepare|baseline|train|evaluate|publish|step-[0-9]{1,12})$",
        description="do this stage and those after it again; or train on from this checkpoint",
    )
    priority: Priority = 0


class Again(BaseModel):
    model_config = ConfigDict(extra="forbid")
    priority: Priority = 0


class Queue(BaseModel):
    model_config = ConfigDict(extra="forbid")
    priority: Priority


class Exported(BaseModel):
    path: str = Field(description="in the workspace", examples=["runs/20250905T235412-legal-vi-1f3a/exports/step-100"])


@router.get("")
def list_runs(
    studio: TheStudio,
    user: Viewer,
    state: States = None,
    pipeline: str | None = None,
    text: Text = "",
    after: str | None = None,
    limit: Limit = 100,
) -> list[RunSummary]:
    """Runs, the newest first; go on behind the last one with ``after``."""
    return verbs.list_runs(studio, user, states=state or (), pipeline=pipeline, text=text, after=after, limit=limit)


@router.post("", status_code=201, responses=documented(409, 507))
def start(studio: TheStudio, user: Editor, body: NewRun) -> RunDetail:
    """Start a run of a recipe that is saved nowhere."""
    return verbs.start_recipe(studio, user, body.recipe, body.overrides, priority=body.priority)


@router.get("/compare", responses=documented(404, 507))
def compare(studio: TheStudio, user: Viewer, before: Compared, after: Compared) -> Comparison:
    """Two results on what both were scored on: runs or versions; ``before`` may be base."""
    return verbs.compare(studio, user, before, after)


@router.get("/{run}", responses=documented(404))
def show(run: str, studio: TheStudio, user: Viewer) -> RunDetail:
    """What the run does now."""
    return verbs.show(studio, user, run)


@router.delete("/{run}", status_code=204, responses=documented(404, 409))
def delete(run: str, confirm: Confirm, studio: TheStudio, user: Editor) -> None:
    """Delete a run with its checkpoints and report; what it published stays. 409 while it runs."""
    verbs.delete(studio, user, run, confirm)


@router.post("/{run}/stop", responses=documented(404, 409))
def stop(run: str, studio: TheStudio, user: Editor, body: Stop | None = None) -> RunDetail:
    """Let a run write a checkpoint and end; one that is queued is stopped at once."""
    return verbs.stop(studio, user, run, body.reason if body else "")


@router.post("/{run}/resume", responses=documented(404, 409))
def resume(run: str, studio: TheStudio, user: Editor, body: Resume | None = None) -> RunDetail:
    """Let a run go on where it ended."""
    body = body or Resume()
    return verbs.resume(studio, user, run, body.from_stage, priority=body.priority)


@router.post("/{run}/retry", status_code=201, responses=documented(404, 409, 507))
def retry(run: str, studio: TheStudio, user: Editor, body: Again | None = None) -> RunDetail:
    """Start anew, as another run, one that did not come to its good end."""
    return verbs.retry(studio, user, run, priority=body.priority if body else 0)


@router.post("/{run}/clone", status_code=201, responses=documented(404, 409, 507))
def clone(run: str, studio: TheStudio, user: Editor, body: Again | None = None) -> RunDetail:
    """Start another run of the same frozen recipe."""
    return verbs.clone(studio, user, run, priority=body.priority if body else 0)


@router.put("/{run}/priority", responses=documented(404, 409))
def set_priority(run: str, studio: TheStudio, user: Editor, body: Queue) -> RunDetail:
    """Move a run in the queue; 409 unless it is queued."""
    return verbs.set_priority(studio, user, run, body.priority)


@router.get("/{run}/checkpoints", responses=documented(404))
def checkpoints(run: str, studio: TheStudio, user: Viewer) -> list[Checkpoint]:
    """The checkpoints that are kept."""
    return verbs.checkpoints(studio, user, run)


@router.post("/{run}/checkpoints/{checkpoint}/export", responses=documented(404, 409, 507))
def export(run: str, checkpoint: str, studio: TheStudio, user: Editor) -> Exported:
    """Turn a checkpoint into a Hugging Face folder, which can be a recipe's base model; takes seconds to minutes."""
    folder = verbs.export(studio, user, run, checkpoint)
    return Exported(path=str(folder.relative_to(studio.workspace.root)))


@router.get("/{run}/frozen", responses=documented(404))
def frozen(run: str, studio: TheStudio, user: Viewer) -> Frozen:
    """What the run was started with: recipe, values, data, code and machine."""
    return verbs.frozen(studio, user, run)


@router.get("/{run}/documents", responses=documented(404, 507))
def documents(
    run: str, studio: TheStudio, user: Viewer, step: Annotated[int, Query(ge=1, lt=2**31)] = 1
) -> dict[str, Any]:
    """Which documents went into an update, or will; known once the text is prepared."""
    return verbs.documents(studio, user, run, step)


@router.get("/{run}/recomputed", responses=documented(404, 507))
def recompute(run: str, studio: TheStudio, user: Viewer) -> Recomputed:
    """Compute the report's table again from the kept items; 422 names what is not as the report says."""
    return verbs.recompute(studio, user, run)


@router.get(
    "/{run}/report.{form}",
    response_class=FileResponse,
    responses={200: {"content": {kind: {"example": "{}"} for kind in _TYPES.values()}}, **documented(404)},
)
def report(
    run: str,
    form: Form,
    studio: TheStudio,
    user: Viewer,
    download: Annotated[bool, Query(description="as a file to save")] = False,
) -> FileResponse:
    """The before/after report."""
    path = verbs.report_file(studio, user, run, form)
    name = f"{run}.{form}" if download else None
    return FileResponse(path, media_type=_TYPES[form], filename=name, headers=_FRAMED)
