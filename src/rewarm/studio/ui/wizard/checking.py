"""What stands under every step: what is wrong, what has no effect, and what the run will take.

The check follows each change. The engine's figures follow too where the base model lies here already; elsewhere it
would have to be fetched, so they are made on request.
"""

from __future__ import annotations

import asyncio
from typing import Any

from nicegui import ui

from rewarm.core.errors import UserError
from rewarm.studio.service import recipes
from rewarm.studio.service.recipes import Mistake, Verdict
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.visit import Refused, Visit
from rewarm.studio.ui.wizard.draft import Draft

QUIET_SECONDS = 2.0


async def checked(visit: Visit, draft: Draft) -> None:
    """The place for all this; it listens to the draft."""
    place = ui.element("div").props('role="status"')
    figures = ui.element("div")
    changes = 0
    busy = asyncio.Lock()

    async def look() -> bool:
        nonlocal changes
        changes += 1
        try:
            found = await visit.call(recipes.check, draft.to_yaml())
        except Refused:
            return False
        draft.mistakes = {mistake.pointer: _reason(mistake) for mistake in found.mistakes}
        draft.mark()
        place.clear()
        with place:
            _verdict(visit, found)
        return found.valid

    async def estimate() -> None:
        async with busy:  # the engine is asked once at a time
            button.disable()
            figures.clear()
            with figures:
                ui.label(visit.say("wizard.estimating")).classes("rw-help")
            said, found = "", None
            try:
                found = (await visit.read(recipes.check, draft.to_yaml(), with_estimate=True)).estimate
            except UserError as error:
                said = str(error)
            button.enable()
            figures.clear()
            with figures:
                if found:
                    _figures(visit, found)
                elif said:
                    ui.label(said).classes("rw-help")

    async def again() -> None:
        sound = await look()
        if not sound:
            figures.clear()
        mine = changes
        base = str(draft.recipe.get("base_model", ""))
        await asyncio.sleep(QUIET_SECONDS)
        if sound and mine == changes and (base.startswith(("/", ".", "~")) or "@" in base):
            await estimate()

    draft.listen(again, always=True)
    button = ui.button(visit.say("wizard.estimate"), on_click=estimate).props("flat dense no-caps")
    await look()


def _reason(mistake: Mistake) -> str:
    """The message without the place, which the form shows itself."""
    return mistake.message.split(": ", 2)[-1]


def _verdict(visit: Visit, found: Verdict) -> None:
    if found.valid:
        ui.label(visit.say("wizard.good")).classes("rw-state-succeeded")
    for mistake in found.mistakes:
        where = mistake.pointer.strip("/").replace("/", ".")
        ui.label(f"{where}: {_reason(mistake)}" if where else mistake.message).classes("rw-state-failed")
    for one in found.ignored:
        ui.label(visit.say("wizard.ignored", field=one.field, because=one.because)).classes("rw-help")
    for line in found.advice:
        ui.label(line).classes("rw-help")
    if found.tokens_per_update:
        ui.label(visit.say("wizard.update", tokens=units.amount(found.tokens_per_update))).classes("rw-help")


def _figures(visit: Visit, found: dict[str, Any]) -> None:
    needs, times = found["needs"], found["times"]
    rows = [
        ("tokens", units.amount(needs["tokens"])),
        ("steps", units.amount(needs["steps"])),
        ("memory", units.size(needs["memory"])),
        ("disk", units.size(needs["disk"])),
        ("time_training", units.duration(needs["seconds"])),
        ("time", units.duration(times["total"])),
        ("cost", found["cost"] or "–"),
    ]
    columns = [
        Column("what", visit.say("wizard.takes"), lambda row: visit.say(f"wizard.{row[0]}")),
        Column("value", visit.say("wizard.about"), lambda row: str(row[1]), number=True),
    ]
    table(columns, rows, title=visit.say("wizard.takes"))
    for problem in found["problems"]:
        ui.label(str(problem)).classes("rw-state-failed")
    for line in found["advice"]:
        ui.label(line).classes("rw-help")
