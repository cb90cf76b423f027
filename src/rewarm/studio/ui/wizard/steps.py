"""What each step shows. A step is built when it is opened, from the draft as it is then."""

from __future__ import annotations

import difflib
from typing import Any

import orjson
from nicegui import ui

from rewarm.core.errors import UserError
from rewarm.studio.service import connections, metrics, models, recipes, templates, uploads
from rewarm.studio.service.recipes import Verdict
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.form import form
from rewarm.studio.ui.parts.text import command, section
from rewarm.studio.ui.visit import Refused, Visit
from rewarm.studio.ui.wizard.catalog import BASE_MODELS
from rewarm.studio.ui.wizard.draft import Draft

SCHEMA = recipes.schema()["$defs"]


async def choose_template(visit: Visit, draft: Draft) -> None:
    known = templates.list_templates()

    def choose(name: str) -> None:
        draft.begin_with(next(template for template in known if template.name == name))
        draft.changed()

    options = {template.name: template.title for template in known}
    ui.radio(options, value=draft.value["template"] or None, on_change=lambda e: choose(e.value))
    for template in known:
        about = ui.label(template.description).classes("rw-quiet")
        about.visible = template.name == draft.value["template"]
        draft.listen(_shows(about, draft, template.name))


def _shows(label: ui.label, draft: Draft, name: str) -> Any:
    async def show() -> None:
        label.visible = draft.value["template"] == name

    return show


async def choose_data(visit: Visit, draft: Draft) -> None:
    versions = {version.model: version.model for version in await visit.read(models.list_versions, limit=200)}
    options = {**versions, **{id: f"{id} · {about}" for id, about in BASE_MODELS.items()}}
    base = draft.recipe.get("base_model")
    if base and base not in options:
        options[base] = base

    def take_base(value: Any) -> None:
        draft.recipe["base_model"] = value
        draft.changed()

    choice = ui.select(
        options, value=base, label=visit.say("wizard.base"), with_input=True, new_value_mode="add-unique",
        on_change=lambda e: take_base(e.value),
    )  # fmt: skip
    choice.props("outlined dense").classes("w-full")
    ui.label(visit.say("wizard.base_help")).classes("rw-help")
    paths = [text.path for text in await visit.read(uploads.texts)]
    names = [known.name for known in await visit.read(connections.listed)]
    data = draft.part("data")
    section(visit.say("wizard.sources"))
    _texts(visit, draft, data.setdefault("sources", []), paths, names)
    section(visit.say("wizard.replay"))
    replays = [data["replay"]] if isinstance(data.get("replay"), dict) else []

    def set_replay() -> None:
        data.pop("replay", None)
        if replays:
            data["replay"] = replays[0]

    _texts(visit, draft, replays, paths, names, most=1, share=True, after=set_replay)
    section(visit.say("wizard.panels"))
    _texts(visit, draft, draft.part("evaluation").setdefault("panels", []), paths, names)


def _texts(
    visit: Visit, draft: Draft, texts: list[dict[str, Any]], paths: list[str], names: list[str],
    most: int = 50, share: bool = False, after: Any = lambda: None,
) -> None:  # fmt: skip
    """Rows of name, path, connection; a change goes into ``texts`` at once."""
    place = ui.element("div")

    def keep(text: dict[str, Any], key: str, value: Any) -> None:
        text.pop(key, None)
        if value not in ("", None):
            text[key] = value
        after()
        draft.changed()

    def row(text: dict[str, Any]) -> None:
        path = text.get("path")
        shown = path if isinstance(path, str) else ", ".join(path or [])
        with ui.element("div").classes("rw-row rw-text"):
            ui.input(
                visit.say("wizard.name"), value=text.get("name", ""), on_change=lambda e: keep(text, "name", e.value)
            )
            ui.input(
                visit.say("wizard.path"),
                value=shown,
                autocomplete=paths,
                on_change=lambda e: keep(text, "path", e.value),
            ).classes("rw-grow")
            if names:
                ui.select(
                    {"": "–"} | {name: name for name in names}, value=text.get("connection", ""),
                    label=visit.say("wizard.connection"), on_change=lambda e: keep(text, "connection", e.value),
                ).style("min-width: 120px")  # fmt: skip
            if share:
                ui.number(
                    visit.say("wizard.share"), value=text.get("share", 0.25), min=0.01, max=0.99, step=0.05,
                    on_change=lambda e: keep(text, "share", e.value),
                ).style("width: 90px")  # fmt: skip
            ui.button(icon="close", on_click=lambda: remove(text)).props(
                f'flat round dense aria-label="{visit.say("wizard.remove")}"'
            )

    def remove(text: dict[str, Any]) -> None:
        texts.remove(text)
        after()
        draw()
        draft.changed()

    def add() -> None:
        texts.append({"name": f"text{len(texts) + 1}", "path": paths[0] if paths else ""})
        after()
        draw()
        draft.changed()

    def draw() -> None:
        place.clear()
        with place:
            for text in texts:
                row(text)
            if len(texts) < most:
                ui.button(visit.say("wizard.add"), icon="add", on_click=add).props("flat dense no-caps")

    draw()


async def configure(visit: Visit, draft: Draft) -> None:
    with ui.tabs().props("dense no-caps align=left") as tabs:
        fields = ui.tab("form", visit.say("wizard.form"))
        ui.tab("advanced", visit.say("wizard.advanced"))
    with ui.tab_panels(tabs, value=fields).classes("rw-panels"):
        with ui.tab_panel("form"):
            groups = ui.element("div")
        with ui.tab_panel("advanced"):
            ui.label(visit.say("wizard.advanced_help")).classes("rw-help")
            text = ui.textarea(value=draft.to_yaml()).props(
                f'outlined autogrow input-class="rw-code" aria-label="{visit.say("wizard.advanced")}"'
            )
            text.classes("w-full")

            def apply() -> None:
                try:
                    draft.take(text.value or "")
                except UserError as error:
                    visit.tell(error)
                    return
                text.value = draft.to_yaml()
                draw()
                draft.changed()

            ui.button(visit.say("wizard.apply"), on_click=apply).props("outline no-caps")

    def draw() -> None:
        groups.clear()
        with groups:
            _groups(draft)

    draw()

    async def again() -> None:
        if tabs.value == "form":
            text.value = draft.to_yaml()

    draft.listen(again)
    section(visit.say("wizard.infrastructure"))
    here = await visit.read(metrics.computer)
    gpus = ", ".join(here.gpus) or visit.say("wizard.no_gpu")
    memory = units.size(here.memory_bytes)
    ui.label(visit.say("wizard.here", cores=here.cores, memory=memory, gpus=gpus)).classes("rw-help")
    form(SCHEMA["Infrastructure"]["properties"], draft.part("infrastructure"), draft.changed)


def _groups(draft: Draft) -> None:
    fields = SCHEMA["Hyperparameters"]["properties"]
    for number, group in enumerate(dict.fromkeys(field["group"] for field in fields.values())):
        with ui.expansion(group, value=number == 0).classes("w-full"):
            part = {name: field for name, field in fields.items() if field["group"] == group}
            form(part, draft.part("hyperparameters"), draft.changed)


async def tell_whom(visit: Visit, draft: Draft) -> None:
    section(visit.say("wizard.notify"))
    form(SCHEMA["Notify"]["properties"], draft.part("notify"), draft.changed)


async def review(visit: Visit, draft: Draft) -> None:
    def keep(key: str, value: str) -> None:
        draft.value[key] = value
        draft.changed()

    name = draft.value["name"] or draft.recipe.get("name", "")
    draft.value["name"] = name
    ui.input(visit.say("pipelines.name"), value=name, on_change=lambda e: keep("name", e.value)).classes("w-full")
    about = draft.value["description"]
    ui.input(visit.say("pipelines.description"), value=about, on_change=lambda e: keep("description", e.value)).classes(
        "w-full"
    )
    section(visit.say("wizard.difference"))
    ui.label(_difference(draft) or visit.say("wizard.no_difference")).classes("rw-log rw-code")
    section(visit.say("wizard.recipe"))
    ui.label(draft.to_yaml()).classes("rw-log rw-code")
    command(visit, "rewarm run recipe.yaml")


def _difference(draft: Draft) -> str:
    if not draft.value["template"]:
        return ""
    before = recipes.convert(templates.template(draft.value["template"]).recipe).yaml.splitlines()
    lines = difflib.unified_diff(before, draft.to_yaml().splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


async def verdict(visit: Visit, draft: Draft) -> None:
    """What is wrong, what has no effect, and on request what it will take; follows every change."""
    place = ui.element("div").props('role="status"')

    async def look(with_estimate: bool = False) -> None:
        try:
            found = await visit.call(recipes.check, draft.to_yaml(), with_estimate=with_estimate)
        except Refused:
            return
        place.clear()
        with place:
            _verdict(visit, found)

    async def estimate() -> None:
        ui.notify(visit.say("wizard.estimating"))
        button.disable()
        try:
            await look(with_estimate=True)
        finally:
            button.enable()

    async def again() -> None:
        await look()

    draft.listen(again)
    button = ui.button(visit.say("wizard.estimate"), on_click=estimate).props("flat dense no-caps")
    await look()


def _verdict(visit: Visit, found: Verdict) -> None:
    if found.valid:
        ui.label(visit.say("wizard.good")).classes("rw-state-succeeded")
    for mistake in found.mistakes:
        ui.label(f"{mistake.pointer.strip('/').replace('/', '.')}: {mistake.message}").classes("rw-state-failed")
    for one in found.ignored:
        ui.label(visit.say("wizard.ignored", field=one.field, because=one.because)).classes("rw-help")
    for line in found.advice:
        ui.label(line).classes("rw-help")
    if found.tokens_per_update:
        ui.label(visit.say("wizard.update", tokens=units.amount(found.tokens_per_update))).classes("rw-help")
    if found.estimate:
        ui.label(orjson.dumps(found.estimate, option=orjson.OPT_INDENT_2).decode()).classes("rw-log rw-code")
