"""Runs: started, stopped, resumed, looked at. What is said of a run is read from its files."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from rewarm.core.control import enqueue, remove_run, stop_run
from rewarm.core.control import set_priority as set_queue_priority
from rewarm.core.errors import Conflict, DataError, NotFound, UserError
from rewarm.core.run import STAGES, Run, create_run, read_launch
from rewarm.core.states import LIVE
from rewarm.core.storage import bytes_of, locked, remove_folder
from rewarm.hub import models as hub
from rewarm.recipe.pilot import chosen_of, with_pilot
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service import recipes
from rewarm.studio.service.engine import ask
from rewarm.studio.service.housekeeping import check_quota
from rewarm.studio.store import pipelines as pipeline_store
from rewarm.studio.store import runs as store
from rewarm.studio.store.audit import note
from rewarm.studio.store.tables import PipelineRow, RunRow

PRIORITIES = (-100, 100)
REPORTS = {"html": "report.html", "md": "report.md", "json": "report.json"}


class RunSummary(BaseModel):
    """A run, as lists show it."""

    id: str = Field(examples=["20250905T235412-legal-vi-1f3a"])
    name: str = Field(description="of the recipe", examples=["legal-vi"])
    pipeline: str | None = Field(examples=["legal-vi"])
    state: str = Field(examples=["running"])
    reason: str | None = Field(description="why it is in this state, or still waits")
    stage: str = Field(examples=["train"])
    attempt: int = Field(examples=[1])
    progress: dict[str, Any] | None = Field(
        description="the last event of this kind", examples=[{"done": 40, "total": 80, "unit": "tokens"}]
    )
    headline: dict[str, Any] | None = Field(description="gain and forgetting, once there is a report")
    version: str | None = Field(description="the model version that it published", examples=["legal-vi@1"])
    created: float = Field(description="seconds since 1970, UTC", examples=[1767225600.0])
    changed: float
    started_by: str | None = Field(examples=["ana"])
    bytes: int
    device_seconds: float
    joules: float


class Stage(BaseModel):
    name: str = Field(examples=["prepare"])
    done: bool
    seconds: float | None = Field(description="that its last pass took")


class Checkpoint(BaseModel):
    name: str = Field(examples=["step-100"])
    step: int = Field(examples=[100])
    bytes: int


class RunDetail(RunSummary):
    """A run with its stages, its process and what waits for it."""

    stages: list[Stage]
    priority: int | None = Field(description="while it is queued: higher ones go first")
    process: dict[str, Any] | None = Field(description="pid, host and attempt of the process that works on it")
    report: bool = Field(description="whether there is a report")


class Frozen(BaseModel):
    """What a run was started with, and what was made of it."""

    recipe: str = Field(description="YAML, as it was given")
    overrides: list[str] = Field(examples=[["hyperparameters.epochs=2"]])
    resolved: dict[str, Any] | None = Field(
        description="every value with its origin; hashes of data, base and code; the machine; null until it is resolved"
    )


class Recomputed(BaseModel):
    """The report says what its items say."""

    rows: int
    items: int = Field(description="that were read again")


class Comparison(BaseModel):
    """Two results on what both were scored on."""

    before: str = Field(examples=["legal-vi@1"])
    after: str = Field(examples=["legal-vi@2"])
    rows: list[dict[str, Any]] = Field(description="as in a report")
    headline: dict[str, Any]
    notes: list[str] = Field(description="what was left out")


def start(studio: Studio, user: User, pipeline: str, overrides: Sequence[str] = (), *, priority: int = 0) -> RunDetail:
    """Start a run of a pipeline: it waits in the queue until the scheduler finds room for it.

    Raises:
        Conflict: while another run of this pipeline is live.
    """
    user.check(Role.editor)
    with studio.database.write() as session:
        row = pipeline_store.lock(session, pipeline)  # of several that start it at once, one goes on
        if row is None:
            raise NotFound("there is no such pipeline", where=pipeline[:100])
        for id in store.live(session, row.id):
            run = Run(studio.workspace.runs / id)
            if run.path.is_dir() and store.upsert(session, run).state in LIVE:
                raise Conflict(
                    "a run of this pipeline is live", where=pipeline, remedy=f"wait for {id}, or stop it first"
                )
        made = _create(studio, user, session, row.recipe, overrides, priority, row)
    return show(studio, user, made.id)


def start_recipe(
    studio: Studio, user: User, recipe: str, overrides: Sequence[str] = (), *, priority: int = 0
) -> RunDetail:
    """Start a run of a recipe that is saved nowhere."""
    user.check(Role.editor)
    recipes.check_paths(studio, user, recipes.read(studio.workspace, recipe))
    with studio.database.write() as session:
        made = _create(studio, user, session, recipe, overrides, priority, None)
    return show(studio, user, made.id)


def _create(
    studio: Studio,
    user: User,
    session: Session,
    text: str,
    overrides: Sequence[str],
    priority: int,
    pipeline: PipelineRow | None,
    origin: dict[str, Any] | None = None,
) -> Run:
    check_quota(studio)
    recipe = recipes.read(studio.workspace, text, overrides)
    if overrides:  # a saved recipe was looked at when it was saved
        recipes.check_paths(studio, user, recipe)
    now = time.time()
    launch = {"by": user.name, **({"pipeline": pipeline.name, "pipeline_id": pipeline.id} if pipeline else {})}
    queue = {"priority": priority, "arguments": [], "by": user.name, "time": now}
    made = create_run(
        studio.workspace, recipe.name, text, overrides, studio.workspace.root,
        origin={**launch, **(origin or {})}, queue=queue,
    )  # fmt: skip
    try:
        store.upsert(session, made)
        note(session, now, user.name, "start", f"run/{made.id}", launch | {"overrides": list(overrides)})
        session.flush()
    except BaseException:
        shutil.rmtree(made.path, ignore_errors=True)  # nobody was told of it
        raise
    return made


def stop(studio: Studio, user: User, id: str, reason: str = "") -> RunDetail:
    """Ask a run to write a checkpoint and end; one that waits in the queue is stopped at once.

    Asking again changes nothing, also where it has stopped already.

    Raises:
        Conflict: if the run has ended in another way.
    """
    user.check(Role.editor)
    run = find(studio, id)
    said = f"{user.name}: {reason.strip()}" if reason.strip() else f"stopped by {user.name}"
    if run.status().state != "stopped":
        stop_run(run, said)
        _index(studio, user, run, "stop", {"reason": reason})
    return show(studio, user, id)


def resume(studio: Studio, user: User, id: str, from_stage: str | None = None, *, priority: int = 0) -> RunDetail:
    """Let a run go on where it ended, from the beginning of a stage or from a checkpoint; it waits in the queue first.

    Raises:
        Conflict: if it is live already.
    """
    user.check(Role.editor)
    run = find(studio, id)
    if from_stage is not None:
        run.check_beginning(from_stage)
    if from_stage is None and run.status().state == "succeeded":
        raise Conflict("this run has succeeded", where=id, remedy="name the stage or checkpoint to begin again from")
    read_launch(run)
    enqueue(run, ["--from", from_stage] if from_stage else [], priority, user.name)
    _index(studio, user, run, "resume", {"from": from_stage})
    return show(studio, user, id)


def clone(studio: Studio, user: User, id: str, *, priority: int = 0) -> RunDetail:
    """Start a new run of the recipe that a run was started with."""
    return _again(studio, user, id, priority, "clone")


def retry(studio: Studio, user: User, id: str, *, priority: int = 0) -> RunDetail:
    """Start anew a run that did not come to its good end.

    Raises:
        Conflict: if it is live, or succeeded.
    """
    state = find(studio, id).status().state
    if state in LIVE or state == "succeeded":
        raise Conflict(f"there is nothing to retry: {state}", where=id, remedy="clone it")
    return _again(studio, user, id, priority, "retry")


def _again(studio: Studio, user: User, id: str, priority: int, verb: Literal["clone", "retry"]) -> RunDetail:
    user.check(Role.editor)
    run = find(studio, id)
    launch = read_launch(run)
    text = run.recipe.read_text(encoding="utf-8")
    with studio.database.write() as session:
        old = session.get(RunRow, id)
        pipeline = session.get(PipelineRow, old.pipeline_id) if old and old.pipeline_id else None
        made = _create(studio, user, session, text, launch["overrides"], priority, pipeline, {f"{verb}_of": id})
    return show(studio, user, made.id)


def delete(studio: Studio, user: User, id: str, confirm: str) -> None:
    """Delete a run with its checkpoints and report; what it published, and its dataset, stay.

    Args:
        confirm: its id, or the name in it, once more.

    Raises:
        Conflict: while it runs.
    """
    user.check(Role.editor)
    run = find(studio, id)
    if confirm not in (run.id, run.recipe_name):
        raise UserError("confirm with the run's id or name", where=id)
    try:
        remove_run(run)
    except FileNotFoundError:
        raise NotFound("there is no such run", where=id) from None
    with studio.database.write() as session:
        store.forget(session, run.id)
        note(session, time.time(), user.name, "delete", f"run/{id}")


def set_priority(studio: Studio, user: User, id: str, priority: int) -> RunDetail:
    """Where a run stands in the queue: higher ones go first. Raises ``Conflict`` unless it is queued."""
    user.check(Role.editor)
    run = find(studio, id)
    set_queue_priority(run, priority)
    _index(studio, user, run, "priority", {"priority": priority})
    return show(studio, user, id)


def show(studio: Studio, user: User, id: str) -> RunDetail:
    """What the run's files say now. Raises ``NotFound``."""
    run = find(studio, id)
    with studio.database.read() as session:
        row = store.shown(session, id)
    if row is None:  # somebody started it elsewhere a moment ago
        with studio.database.write() as session:
            store.upsert(session, run)
            session.flush()
            row = store.shown(session, id)
            assert row is not None
    shown = row | store.told(run)
    queued = run.queued() if shown["state"] == "queued" else None
    if queued:
        shown["reason"] = row["reason"]  # what the scheduler said last
    process = run.process() if shown["state"] in LIVE and not queued else None
    records = {stage: _stage(run, stage) for stage in STAGES}
    return RunDetail(
        **shown,
        stages=[Stage(name=s, done=r is not None, seconds=r and r["seconds"]) for s, r in records.items()],
        priority=queued["priority"] if queued else None,
        process={key: process[key] for key in ("pid", "host", "attempt")} if process else None,
        report=(run.report / "report.json").is_file(),
    )


def _stage(run: Run, stage: str) -> dict[str, Any] | None:
    with contextlib.suppress(UserError):
        return run.stage(stage)
    return None


def list_runs(
    studio: Studio,
    user: User,
    *,
    states: Sequence[str] = (),
    pipeline: str | None = None,
    text: str = "",
    after: str | None = None,
    limit: int = 100,
) -> list[RunSummary]:
    """The newest first, those older than the run ``after``."""
    with studio.database.read() as session:
        rows = store.page(session, states=states, pipeline=pipeline, text=text, after=after, limit=limit)
    return [RunSummary(**row) for row in rows]


def checkpoints(studio: Studio, user: User, id: str) -> list[Checkpoint]:
    """Those that are there, in the order of their steps."""
    run = find(studio, id)
    steps = [(path, int(m[1])) for path in run.checkpoints.glob("step-*") if (m := _STEP.fullmatch(path.name))]
    return [
        Checkpoint(name=path.name, step=step, bytes=bytes_of(path)) for path, step in sorted(steps, key=lambda s: s[1])
    ]


_PATIENCE = 240.0
"""Seconds for what a client waits for; it asks again after 300."""
_STEP = re.compile(r"step-(\d+)")


def export(studio: Studio, user: User, id: str, checkpoint: str) -> Path:
    """The checkpoint as a Hugging Face folder, ``runs/ID/exports/step-N``; it is made once, which takes a while.

    Raises:
        NotFound: if there is no such checkpoint. Conflict: while somebody else exports it.
    """
    user.check(Role.editor)
    run = find(studio, id)
    if checkpoint not in {found.name for found in checkpoints(studio, user, id)}:
        raise NotFound("there is no such checkpoint", where=f"{id}/{checkpoint[:100]}")
    target = run.path / "exports" / checkpoint
    with locked(target.with_name(f"{checkpoint}.lock"), "this export"):
        old = target.is_dir() and target.stat().st_mtime < (run.checkpoints / checkpoint).stat().st_mtime
        if old or not target.is_dir():  # old: the run was trained again from before
            new = target.with_name(f"{checkpoint}.new")
            shutil.rmtree(new, ignore_errors=True)
            ask(studio.workspace, ["models", "export", f"--checkpoint={checkpoint}", "--", id, str(new)], seconds=600)
            if old:
                remove_folder(target)
            new.rename(target)
    return target


def frozen(studio: Studio, user: User, id: str) -> Frozen:
    """What the run was started with, and what was settled since."""
    run = find(studio, id)
    resolved = run.path / "resolved.json"
    return Frozen(
        recipe=run.recipe.read_text(encoding="utf-8"),
        overrides=read_launch(run)["overrides"],
        resolved=with_pilot(orjson.loads(resolved.read_bytes()), chosen_of(run)) if resolved.is_file() else None,
    )


def documents(studio: Studio, user: User, id: str, step: int = 1) -> dict[str, Any]:
    """Which documents went into an update of the run, or will. Raises ``UserError`` before its text is prepared."""
    found = ask(studio.workspace, ["runs", "data", find(studio, id).id, "--step", str(step)])
    assert isinstance(found, dict)
    return found


def report_file(studio: Studio, user: User, id: str, form: str) -> Path:
    """The report as ``html``, ``md`` or ``json``. Raises ``NotFound`` before there is one."""
    run = find(studio, id)
    path = run.report / REPORTS[form]
    if not path.is_file():
        raise NotFound("this run has no report yet", where=id)
    return path


def report(studio: Studio, user: User, id: str) -> dict[str, Any]:
    """What ``report.json`` says. Raises ``NotFound`` before there is one, ``DataError`` where it is damaged."""
    path = report_file(studio, user, id, "json")
    try:
        told: dict[str, Any] = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        raise DataError("this report is damaged", where=id, remedy=f"rewarm resume {id} draws it again") from None
    return told


def recompute(studio: Studio, user: User, id: str) -> Recomputed:
    """Compute the report's table again from the kept items. Raises ``UserError`` naming what is not as it says."""
    report_file(studio, user, id, "json")
    return Recomputed.model_validate(ask(studio.workspace, ["report", "--recompute", "--", id], _PATIENCE))


def compare(studio: Studio, user: User, before: str, after: str) -> Comparison:
    """Two results on the documents and items that both were scored on; see ``rewarm compare``.

    Args:
        before: a run, a version, or base.
        after: a run or a version.

    Raises:
        NotFound: one of them is not there. UserError: they have nothing in common.
    """
    for name in (before, after):
        if "@" in name:
            hub.find(studio.workspace.models, name)
        elif name != "base" or name == after:
            find(studio, name)
    return Comparison.model_validate(ask(studio.workspace, ["compare", "--", before, after], _PATIENCE))


def find(studio: Studio, id: str) -> Run:
    """The run with exactly this id. Raises ``NotFound``."""
    run = Run(studio.workspace.runs / id)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,150}", id) or not run.recipe.is_file():
        raise NotFound("there is no such run", where=id[:150])
    return run


def _index(studio: Studio, user: User, run: Run, action: str, detail: dict[str, Any]) -> None:
    with studio.database.write() as session:
        store.upsert(session, run)
        note(session, time.time(), user.name, action, f"run/{run.id}", detail)
