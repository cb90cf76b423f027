"""Pipelines: recipes that are saved under a name, to be run again and again."""

from __future__ import annotations

import re
import time

from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from rewarm.core.errors import Conflict, NotFound, UserError
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service import recipes
from rewarm.studio.service.templates import template as template_named
from rewarm.studio.store import pipelines as store
from rewarm.studio.store import runs as run_store
from rewarm.studio.store.audit import note
from rewarm.studio.store.tables import PipelineRow, RunRow

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
DESCRIPTION = 200


class LastRun(BaseModel):
    id: str = Field(examples=["20250905T235412-legal-vi-1f3a"])
    state: str = Field(examples=["succeeded"])


class Pipeline(BaseModel):
    """A saved recipe."""

    name: str = Field(examples=["legal-vi"])
    description: str = Field(examples=["Vietnamese law, every month"])
    recipe: str = Field(description="YAML, as it was given", examples=["name: legal-vi\nbase_model: ..."])
    template: str | None = Field(examples=["new-domain"])
    created: float = Field(description="seconds since 1970, UTC", examples=[1767225600.0])
    updated: float
    created_by: str = Field(examples=["ana"])
    revision: int = Field(description="rises by one with every edit", examples=[1])
    last_run: LastRun | None = None


def create(
    studio: Studio,
    user: User,
    *,
    name: str | None = None,
    description: str = "",
    recipe: str | None = None,
    template: str | None = None,
    clone: str | None = None,
) -> Pipeline:
    """Save a recipe: the one given, or a template's, or that of the pipeline ``clone``.

    Raises:
        Conflict: if the name is taken.
        UserError: if the recipe is none, or not exactly one of the three is given.
    """
    user.check(Role.editor)
    if sum(given is not None for given in (recipe, template, clone)) != 1:
        raise UserError("give one of recipe, template and clone")
    now = time.time()
    name = _checked_name(name if name is not None else default_name(now))
    if template is not None:
        recipe = re.sub(r"(?m)^name: \S+$", f"name: {name}", template_named(template).recipe, count=1)
    if clone is not None:
        with studio.database.read() as session:
            recipe = _found(session, clone).recipe
    assert recipe is not None
    row = PipelineRow(
        name=name, description=_checked_description(description), recipe=_checked_recipe(studio, user, recipe),
        template=template, created=now, updated=now, created_by=user.name,
    )  # fmt: skip
    try:
        with studio.database.write() as session:
            session.add(row)
            session.flush()
            note(session, now, user.name, "create", f"pipeline/{name}", {"template": template, "clone": clone})
            return _shown(row, None)
    except IntegrityError:
        raise Conflict("there is a pipeline of this name", where=name, remedy="take another name") from None


def default_name(now: float) -> str:
    return time.strftime("pipeline-%Y%m%d%H%M%S", time.gmtime(now))


def show(studio: Studio, user: User, name: str) -> Pipeline:
    """Raises ``NotFound``."""
    with studio.database.read() as session:
        row = _found(session, name)
        return _shown(row, store.newest_runs(session, [row.id]).get(row.id))


def list_pipelines(
    studio: Studio, user: User, *, text: str = "", after: str | None = None, limit: int = 100
) -> list[Pipeline]:
    """In the order of their names, those behind ``after``."""
    with studio.database.read() as session:
        rows = store.page(session, text=text, after=after, limit=limit)
        newest = store.newest_runs(session, [row.id for row in rows])
        return [_shown(row, newest.get(row.id)) for row in rows]


def edit(
    studio: Studio,
    user: User,
    name: str,
    revision: int,
    *,
    new_name: str | None = None,
    description: str | None = None,
    recipe: str | None = None,
) -> Pipeline:
    """Change what is given. Runs that were started keep the recipe that they were started with.

    Args:
        revision: the one that the change was made to.

    Raises:
        Conflict: if somebody else has changed the pipeline since, or the new name is taken.
    """
    user.check(Role.editor)
    changes = {
        "name": None if new_name is None else _checked_name(new_name),
        "description": None if description is None else _checked_description(description),
        "recipe": None if recipe is None else _checked_recipe(studio, user, recipe),
    }
    given = {field: value for field, value in changes.items() if value is not None}
    now = time.time()
    try:
        with studio.database.write() as session:
            row = _locked(session, name)
            if row.revision != revision:
                raise Conflict(
                    f"somebody has changed this pipeline: it is at revision {row.revision} now, not {revision}",
                    where=name,
                    remedy="look at it again, and make your change to that",
                )
            for field, value in given.items():
                setattr(row, field, value)
            row.revision, row.updated = revision + 1, now
            note(session, now, user.name, "edit", f"pipeline/{name}", {"fields": sorted(given), "name": row.name})
            session.flush()
            return _shown(row, store.newest_runs(session, [row.id]).get(row.id))
    except IntegrityError:
        raise Conflict("there is a pipeline of this name", where=new_name, remedy="take another name") from None


def delete(studio: Studio, user: User, name: str, confirm: str) -> None:
    """Delete a pipeline; its runs stay. ``confirm`` is its name once more.

    Raises:
        Conflict: while a run of it is at work.
    """
    user.check(Role.editor)
    if confirm != name:
        raise UserError("confirm with the pipeline's name", where=name)
    with studio.database.write() as session:
        row = _locked(session, name)
        if ids := run_store.live(session, row.id):
            raise Conflict("a run of this pipeline is live", where=name, remedy=f"stop {', '.join(ids)}")
        session.delete(row)
        note(session, time.time(), user.name, "delete", f"pipeline/{name}")


def _found(session: Session, name: str) -> PipelineRow:
    if (row := store.by_name(session, name)) is None:
        raise NotFound("there is no such pipeline", where=name[:100])
    return row


def _locked(session: Session, name: str) -> PipelineRow:
    if (row := store.lock(session, name)) is None:
        raise NotFound("there is no such pipeline", where=name[:100])
    return row


def _checked_name(name: str) -> str:
    if not re.fullmatch(NAME.strip("^$"), name):
        raise UserError(
            "a pipeline's name begins with a letter or digit and has only letters, digits, _ and -, at most 100",
            where=name[:120],
        )
    return name


def _checked_description(text: str) -> str:
    if len(text) > DESCRIPTION:
        raise UserError(f"a description has at most {DESCRIPTION} characters, this one has {len(text):,}")
    return text


def _checked_recipe(studio: Studio, user: User, text: str) -> str:
    recipes.check_paths(studio, user, recipes.read(studio.workspace, text))
    return text


def _shown(row: PipelineRow, newest: RunRow | None) -> Pipeline:
    return Pipeline(
        **{name: getattr(row, name) for name in Pipeline.model_fields if name != "last_run"},
        last_run=None if newest is None else LastRun(id=newest.id, state=newest.state),
    )
