"""What each step shows. A step is built when it is opened, from the draft as it is then."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from rewarm.core.errors import UserError
from rewarm.studio.service import connections, metrics, models, recipes, templates, uploads
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.form import form
from rewarm.studio.ui.parts.text import section
from rewarm.studio.ui.visit import Visit
from rewarm.studio.ui.wizard.catalog import BASE_MODELS, catalog
from rewarm.studio.ui.wizard.draft import Draft

SCHEMA = recipes.schema()["$defs"]


async def choose_template(visit: Visit, draft: Draft) -> None:
    known = templates.list_templates()

    def choose(name: str) -> None:
        draft.begin_with(next(template for template in known if template.name == name))
        draft.changed()

    options = {each.name: visit.name_of("template", f"{each.name}.title", each.title) for each in known}
    ui.radio(options, value=draft.value["template"] or None, on_change=lambda e: choose(e.value))
    for template in known:
        about = ui.label(visit.name_of("template", f"{template.name}.about", template.description)).classes("rw-quiet")
        about.visible = template.name == draft.value["template"]
        draft.listen(_shows(about, draft, template.name))


def _shows(label: ui.label, draft: Draft, name: str) -> Any:
    async def show() -> None:
        label.visible = draft.value["template"] == name

    return show


async def choose_data(visit: Visit, draft: Draft) -> None:
    versions = {version.model: version.model for version in await visit.read(models.list_versions, limit=200)}
    options = {**versions, **{known.id: known.line for known in BASE_MODELS}}
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
    choice.props("outlined dense hide-bottom-space").classes("w-full")
    draft.fields["/base_model"] = choice
    ui.label(visit.say("wizard.base_help")).classes("rw-help")
    catalog(visit, choice.set_value)
    paths = [text.path for text in await visit.read(uploads.texts)]
    names = [known.name for known in await visit.read(connections.listed)]
    data = draft.part("data")
    section(visit.say("wizard.sources"))
    _texts(visit, draft, draft.texts("data", "sources"), paths, names, at="/data/sources/{}")
    section(visit.say("wizard.replay"))
    replays = [data["replay"]] if isinstance(data.get("replay"), dict) else []

    def set_replay() -> None:
        data.pop("replay", None)
        if replays:
            data["replay"] = replays[0]
        elif none.value:  # left out, the run would choose it
            data["replay"] = None
        none.visible = not replays

    def take_none() -> None:
        set_replay()
        draft.changed()

    _texts(visit, draft, replays, paths, names, at="/data/replay", most=1, share=True, after=set_replay)
    ui.label(visit.say("wizard.replay_help")).classes("rw-help")
    none = ui.checkbox(
        visit.say("wizard.no_replay"), value="replay" in data and data["replay"] is None, on_change=take_none
    )
    none.visible = not replays
    section(visit.say("wizard.panels"))
    _texts(visit, draft, draft.texts("evaluation", "panels"), paths, names, at="/evaluation/panels/{}")


def _texts(
    visit: Visit, draft: Draft, texts: list[dict[str, Any]], paths: list[str], names: list[str],
    at: str, most: int = 50, share: bool = False, after: Any = lambda: None,
) -> None:  # fmt: skip
    """Rows of name, path, connection; a change goes into ``texts`` at once. ``at`` points to one of them."""
    place = ui.element("div")

    def keep(text: dict[str, Any], key: str, value: Any) -> None:
        text.pop(key, None)
        if value not in ("", None):
            text[key] = value
        after()
        draft.changed()

    def keep_path(text: dict[str, Any], value: str | None) -> None:
        parts = [part.strip() for part in (value or "").split(",") if part.strip()]
        keep(text, "path", parts if len(parts) > 1 else "".join(parts))

    def row(number: int, text: dict[str, Any]) -> None:
        path = text.get("path")
        shown = ", ".join(map(str, path)) if isinstance(path, list) else str(path or "")
        here = at.format(number)
        with ui.element("div").classes("rw-row rw-text"):
            draft.fields[f"{here}/name"] = ui.input(
                visit.say("wizard.name"),
                value=str(text.get("name", "")),
                on_change=lambda e: keep(text, "name", e.value),
            ).props("outlined dense hide-bottom-space")
            draft.fields[f"{here}/path"] = (
                ui.input(
                    visit.say("wizard.path"),
                    value=shown,
                    autocomplete=paths,
                    on_change=lambda e: keep_path(text, e.value),
                )
                .props("outlined dense hide-bottom-space")
                .classes("rw-grow")
            )
            if names:
                ui.select(
                    {"": "–"} | {name: name for name in names},
                    value=known if (known := text.get("connection")) in names else "",
                    label=visit.say("wizard.connection"), on_change=lambda e: keep(text, "connection", e.value),
                ).props("outlined dense").style("min-width: 120px")  # fmt: skip
            if share:
                ui.number(
                    visit.say("wizard.share"), value=_share(text), min=0.01, max=0.99, step=0.05,
                    on_change=lambda e: keep(text, "share", e.value),
                ).props("outlined dense").style("width: 90px")  # fmt: skip
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
            for number, text in enumerate(texts):
                row(number, text)
            if len(texts) < most:
                ui.button(visit.say("wizard.add"), icon="add", on_click=add).props("flat dense no-caps")

    draw()


def _share(text: dict[str, Any]) -> float | None:
    found = text.get("share")
    return found if isinstance(found, int | float) else None


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
    _form(draft, "infrastructure", SCHEMA["Infrastructure"]["properties"])


def _groups(draft: Draft) -> None:
    fields = SCHEMA["Hyperparameters"]["properties"]
    for number, group in enumerate(dict.fromkeys(field["group"] for field in fields.values())):
        with ui.expansion(group, value=number == 0).classes("w-full"):
            part = {name: field for name, field in fields.items() if field["group"] == group}
            _form(draft, "hyperparameters", part)


def _form(draft: Draft, part: str, fields: dict[str, Any]) -> None:
    made = form(fields, draft.part(part), draft.changed)
    draft.fields.update({f"/{part}/{name}": field for name, field in made.items()})


async def tell_whom(visit: Visit, draft: Draft) -> None:
    section(visit.say("wizard.notify"))
    _form(draft, "notify", SCHEMA["Notify"]["properties"])
    ui.label(visit.say("wizard.no_test")).classes("rw-help")
