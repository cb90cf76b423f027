"""The last step: the name, where it differs from the template, all settings, and the equal command."""

from __future__ import annotations

from nicegui import ui

from rewarm.core.errors import NotFound
from rewarm.studio.service import recipes, templates
from rewarm.studio.ui.parts.settings import differences
from rewarm.studio.ui.parts.text import command, section
from rewarm.studio.ui.visit import Visit
from rewarm.studio.ui.wizard.draft import Draft


async def review(visit: Visit, draft: Draft) -> None:
    def keep(key: str, value: str) -> None:
        draft.value[key] = value
        if key == "name" and draft.key == "new":
            draft.recipe["name"] = value  # the model that it publishes is called so too
        draft.changed()

    def show() -> None:
        different.clear()
        with different:
            _difference(visit, draft)
        whole.text = draft.to_yaml()

    async def again() -> None:
        show()

    name = draft.value["name"] or str(draft.recipe.get("name", ""))
    for key, word, value in (("name", "name", name), ("description", "description", draft.value["description"])):
        ui.input(
            visit.say(f"pipelines.{word}"), value=value, on_change=lambda e, key=key: keep(key, e.value)
        ).props("outlined dense").classes("w-full rw-bar")  # fmt: skip
    section(visit.say("wizard.difference"))
    different = ui.element("div")
    section(visit.say("wizard.recipe"))
    whole = ui.label().classes("rw-log rw-code")
    show()
    draft.listen(again)
    with ui.element("div").classes("rw-row"):
        ui.button(visit.say("wizard.download"), on_click=lambda: _download(draft)).props("outline no-caps dense")
    command(visit, "rewarm check recipe.yaml && rewarm run recipe.yaml")


def _download(draft: Draft) -> None:
    ui.download.content(draft.to_yaml(), "recipe.yaml", "text/yaml")


def _difference(visit: Visit, draft: Draft) -> None:
    """Setting by setting, what the template says and what this recipe says."""
    try:
        template = templates.template(draft.value["template"] or "")
    except NotFound:  # made from none, or from one that is gone
        ui.label(visit.say("wizard.no_template")).classes("rw-quiet")
        return
    mine = recipes.convert(draft.to_yaml()).recipe
    trees = {template.title: recipes.convert(template.recipe).recipe, visit.say("wizard.yours"): mine}
    if not differences(visit, trees, visit.say("wizard.difference")):
        ui.label(visit.say("wizard.no_difference")).classes("rw-quiet")
