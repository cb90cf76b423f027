"""Pipelines: the list, one with its runs, and the steps that make one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from rewarm.studio.context import Role
from rewarm.studio.service import drafts, pipelines, runs
from rewarm.studio.service.pipelines import Pipeline
from rewarm.studio.ui.parts.dialog import busy, confirm
from rewarm.studio.ui.parts.runs import columns as run_columns
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, empty, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit
from rewarm.studio.ui.wizard import steps
from rewarm.studio.ui.wizard.checking import checked
from rewarm.studio.ui.wizard.draft import Draft
from rewarm.studio.ui.wizard.review import review

STEPS: dict[str, Callable[[Visit, Draft], Awaitable[None]]] = {
    "template": steps.choose_template,
    "model": steps.choose_data,
    "training": steps.configure,
    "others": steps.tell_whom,
    "review": review,
}


@page("/pipelines", "nav.pipelines")
async def all_pipelines(visit: Visit) -> None:
    heading(visit.say("nav.pipelines"))
    found = await visit.read(pipelines.list_pipelines)
    if not found:
        empty(
            visit.say("pipelines.none"),
            visit.say("pipelines.none_next"),
            visit.say("pipelines.create"),
            "/pipelines/new",
        )
        return
    columns = [
        Column("name", visit.say("pipelines.name"), lambda p: p.name, link=lambda p: f"/pipelines/of/{quote(p.name)}"),
        Column("description", visit.say("pipelines.description"), lambda p: p.description),
        Column(
            "last", visit.say("pipelines.last"),
            lambda p: visit.say(f"state.{p.last_run.state}") if p.last_run else "–",
            link=lambda p: f"/runs/{quote(p.last_run.id)}" if p.last_run else "",
        ),
        Column("by", visit.say("run.by"), lambda p: p.created_by),
        Column("updated", visit.say("pipelines.updated"), lambda p: visit.date(p.updated)),
    ]  # fmt: skip
    shown = table(columns, found, title=visit.say("nav.pipelines"))

    async def again() -> None:
        refill(shown, columns, await visit.read(pipelines.list_pipelines))

    ui.timer(5.0, again)
    if visit.may(Role.editor):
        ui.link(visit.say("pipelines.create"), "/pipelines/new").classes("rw-button")


@page("/pipelines/of/{name}", "pipelines.name")
async def one_pipeline(visit: Visit, name: str) -> None:
    found = await visit.read(pipelines.show, name)
    heading(found.name, found.description)
    if visit.may(Role.editor):
        _actions(visit, found)
    section(visit.say("pipelines.runs"))
    known = await visit.read(runs.list_runs, pipeline=name, limit=50)
    if known:
        shown = table(run_columns(visit), known, title=visit.say("pipelines.runs"))

        async def again() -> None:
            refill(shown, run_columns(visit), await visit.read(runs.list_runs, pipeline=name, limit=50))

        ui.timer(3.0, again)
    else:
        ui.label(visit.say("pipelines.no_runs")).classes("rw-quiet")
    section(visit.say("pipelines.recipe"))
    ui.label(found.recipe).classes("rw-log rw-code")
    ui.button(
        visit.say("wizard.download"),
        on_click=lambda: ui.download.content(found.recipe, f"{found.name}.yaml", "text/yaml"),
    ).props("outline no-caps dense")
    command(visit, f"rewarm run {found.name}.yaml")


def _actions(visit: Visit, found: Pipeline) -> None:
    async def start() -> None:
        with busy(button):  # a second click starts no second run
            made = await visit.call(runs.start, found.name)
        ui.navigate.to(f"/runs/{quote(made.id)}")

    def delete() -> None:
        line = f'curl -sX DELETE "$URL/api/v1/pipelines/{quote(found.name)}?confirm={quote(found.name)}" -H "$AUTH"'
        confirm(visit, visit.say("pipelines.delete_text"), found.name, pipelines.delete, line, "/pipelines")

    with ui.element("div").classes("rw-row"):
        button = ui.button(visit.say("pipelines.start"), on_click=start).props("no-caps")
        ui.link(visit.say("pipelines.edit"), f"/pipelines/new?edit={quote(found.name)}").classes("rw-link")
        ui.button(visit.say("pipelines.delete"), on_click=delete).props("outline no-caps dense color=negative")


@page("/pipelines/new", "wizard.title")
async def wizard(visit: Visit, base_model: str = "", edit: str = "") -> None:
    visit.user.check(Role.editor)
    heading(visit.say("wizard.edit" if edit else "wizard.title"), visit.say("wizard.kept"))
    draft = await _draft(visit, base_model, edit)
    with ui.stepper(value=draft.value["step"]).props("header-nav flat animated=false").classes("rw-steps") as stepper:
        bodies = {}
        for name in STEPS:
            with ui.step(name, title=visit.say(f"wizard.{name}")):
                bodies[name] = ui.element("div").classes("w-full")

    async def show() -> None:
        name = str(stepper.value)
        draft.open_step(name)
        bodies[name].clear()
        with bodies[name]:
            await STEPS[name](visit, draft)
        draft.mark()
        back.visible, on.visible, save.visible = name != "template", name != "review", name == "review"

    stepper.on_value_change(show)
    section(visit.say("wizard.check"))
    await checked(visit, draft)

    async def finish() -> None:
        draft.settle()
        with busy(save):
            made = await _save(visit, draft, edit)
        ui.navigate.to(f"/pipelines/of/{quote(made.name)}")

    async def anew() -> None:
        draft.settle()
        await visit.call(drafts.drop_draft, draft.key)
        ui.navigate.reload()

    with ui.element("div").classes("rw-row rw-act"):
        back = ui.button(visit.say("wizard.back"), on_click=stepper.previous).props("outline no-caps")
        on = ui.button(visit.say("wizard.next"), on_click=stepper.next).props("no-caps")
        save = ui.button(visit.say("wizard.save"), on_click=finish).props("no-caps")
        ui.button(visit.say("wizard.again"), on_click=anew).props("flat no-caps")
    await show()


async def _draft(visit: Visit, base_model: str, edit: str) -> Draft:
    """What was begun, or the pipeline that is to be changed."""
    key = f"edit-{edit}" if edit else "new"
    kept = await visit.read(drafts.read_draft, key)
    draft = Draft(visit, key, kept)
    if edit and kept is None:
        found = await visit.read(pipelines.show, edit)
        draft.take(found.recipe)
        about = {"name": found.name, "description": found.description, "template": found.template or ""}
        draft.value.update(about, step="model", revision=found.revision)
    if base_model:
        draft.recipe["base_model"] = base_model
    return draft


async def _save(visit: Visit, draft: Draft, edit: str) -> Pipeline:
    name = draft.value["name"] or str(draft.recipe.get("name", ""))
    about, recipe = draft.value["description"], draft.to_yaml()
    if edit:
        revision = int(draft.value["revision"])
        made = await visit.call(pipelines.edit, edit, revision, new_name=name, description=about, recipe=recipe)
    else:
        made = await visit.call(pipelines.create, name=name or None, description=about, recipe=recipe)
    await visit.call(drafts.drop_draft, draft.key)
    return made
