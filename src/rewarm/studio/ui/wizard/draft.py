"""The draft of a pipeline: its name, the template it began with, and the recipe. Kept on the server at each change."""

from __future__ import annotations

import asyncio
from typing import Any

import yaml
from nicegui import background_tasks, ui

from rewarm.studio.service import drafts, recipes, templates
from rewarm.studio.ui.visit import Refused, Visit

KEEP_SECONDS = 0.6


class Draft:
    """What all steps read and write. ``changed`` after a change; ``replace`` for another recipe."""

    def __init__(self, visit: Visit, key: str, kept: dict[str, Any] | None) -> None:
        self.visit, self.key = visit, key
        self.value: dict[str, Any] = {"name": "", "description": "", "template": "", "recipe": {}, "step": "template"}
        self.value.update(kept or {})
        self._listeners: list[Any] = []
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

    def listen(self, listener: Any) -> None:
        """Call it (it may be a coroutine function) a moment after the last of several changes."""
        self._listeners.append(listener)

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
            try:
                await self.visit.call(drafts.save_draft, self.value, self.key)
            except Refused:
                return
            for listener in self._listeners:
                await listener()

    def to_yaml(self) -> str:
        """The recipe as text, without parts that hold nothing."""
        whole = {key: part for key, part in self.recipe.items() if part not in ({}, [], "", None)}
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=110)

    def take(self, text: str) -> None:
        """Another recipe in place of this one, or a block of hyperparameters into it. Raises ``UserError``."""
        self.value["recipe"] = recipes.convert(text, self.to_yaml()).recipe

    def begin_with(self, template: templates.Template) -> None:
        """The recipe of a template; a base model that was chosen stays."""
        base = self.recipe.get("base_model")
        self.value["template"] = template.name
        self.take(template.recipe)
        if base:
            self.recipe["base_model"] = base
