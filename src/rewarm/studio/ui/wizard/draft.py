"""The draft of a pipeline: its name, the template it began with, and the recipe. Kept on the server at each change."""

from __future__ import annotations

import asyncio
from typing import Any

import yaml
from nicegui import background_tasks, ui

from rewarm.studio.service import drafts, recipes, templates
from rewarm.studio.ui.visit import Visit

KEEP_SECONDS = 0.6


class Draft:
    """What all steps read and write. ``changed`` after a change; ``replace`` for another recipe."""

    def __init__(self, visit: Visit, key: str, kept: dict[str, Any] | None) -> None:
        self.visit, self.key = visit, key
        self.value: dict[str, Any] = {"name": "", "description": "", "template": "", "recipe": {}, "step": "template"}
        self.value.update(kept or {})
        self.fields: dict[str, Any] = {}
        """Inputs on the page, by the JSON pointer of what they hold."""
        self.mistakes: dict[str, str] = {}
        self.ignored: dict[str, str] = {}
        """Why a value has no effect, by the same pointers."""
        self._listeners: list[Any] = []
        self._of_step: list[Any] = []
        self._later: asyncio.TimerHandle | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        recipe: dict[str, Any] = self.value["recipe"]
        return recipe

    def part(self, name: str) -> dict[str, Any]:
        """A part of the recipe, there from now on."""
        found = self.recipe.get(name)
        if not isinstance(found, dict):
            found = self.recipe[name] = {}
        return found

    def texts(self, part: str, name: str) -> list[dict[str, Any]]:
        """The list of texts there, which the caller may change."""
        found = self.part(part).get(name)
        if not isinstance(found, list) or not all(isinstance(text, dict) for text in found):
            found = self.part(part)[name] = []
        return found

    def mark(self) -> None:
        """Say at each input on the page what is wrong with it, or why it has no effect."""
        for pointer, field in self.fields.items():
            field.error = self.mistakes.get(pointer)
            because = self.ignored.get(pointer)
            if because != field.props.get("hint"):
                field.props["hint"] = because
                field.classes(**{"add" if because else "remove": "rw-ignored"})
                field.update()

    def settle(self) -> None:
        """Keep nothing more: the draft is done with."""
        if self._later is not None:
            self._later.cancel()

    def listen(self, listener: Any, always: bool = False) -> None:
        """Call this coroutine function a moment after the last of several changes, until the step is left."""
        (self._listeners if always else self._of_step).append(listener)

    def open_step(self, name: str) -> None:
        """Another step is shown: inputs and listeners of the one before are gone."""
        self.fields.clear()
        self._of_step.clear()
        if self.value["step"] != name:
            self.value["step"] = name
            self.changed()

    def changed(self) -> None:
        """Something in the draft is not what it was."""
        if self._later is not None:
            self._later.cancel()
        client = ui.context.client

        def soon() -> None:
            background_tasks.create(self._tell(client))

        self._later = asyncio.get_running_loop().call_later(KEEP_SECONDS, soon)

    async def _tell(self, client: Any) -> None:
        with client:
            await self.visit.call(drafts.save_draft, self.value, self.key)
            for listener in [*self._of_step, *self._listeners]:
                await listener()

    def to_yaml(self) -> str:
        """The recipe as text, without parts that hold nothing."""
        whole = {key: _filled(part) for key, part in self.recipe.items()}
        whole = {key: part for key, part in whole.items() if part not in ({}, [], "", None)}
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=110)

    def take(self, text: str) -> None:
        """Another recipe in place of this one, or a block of hyperparameters into it. Raises ``UserError``."""
        self.value["recipe"] = recipes.convert(text, self.to_yaml()).recipe

    def begin_with(self, template: templates.Template) -> None:
        """The recipe of a template; whatever differs from the template before it stays."""
        before = self.value["template"]
        old = recipes.convert(templates.template(before).recipe).recipe if before else {}
        mine = recipes.convert(self.to_yaml()).recipe if self.recipe else {}
        new = recipes.convert(template.recipe).recipe
        for key, value in mine.items():
            if not isinstance(value, dict):
                if value != old.get(key):
                    new[key] = value
            else:
                was = old.get(key) or {}
                changed = {name: each for name, each in value.items() if name not in was or was[name] != each}
                new[key] = {**(new.get(key) or {}), **changed}
        self.value.update(template=template.name, recipe=new)


def _filled(part: Any) -> Any:
    """A part without its empty lists, which a step has made to write into."""
    return {key: value for key, value in part.items() if value != []} if isinstance(part, dict) else part
