"""What stands under every step: what is wrong, what has no effect, and what the run will take.

The check follows each change. The engine's figures follow too where the base model lies here already; elsewhere it
would have to be fetched, so they are made on request.
"""

from __future__ import annotations

import asyncio
from shutil import disk_usage
from typing import Any

from nicegui import ui

from rewarm.core.errors import UserError
from rewarm.studio.service import recipes
from rewarm.studio.service.recipes import Mistake, Verdict
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.dialog import busy
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import told
from rewarm.studio.ui.visit import Refused, Visit
from rewarm.studio.ui.wizard.draft import Draft

QUIET_SECONDS = 2.0


async def checked(visit: Visit, draft: Draft) -> None:
    """The place for all this; it listens to the draft."""
    place = ui.element("div").props('role="status"')
    figures = ui.element("div")
    changes, said = 0, list[str]()
    turn = asyncio.Lock()

    async def look() -> bool:
        nonlocal changes
        changes += 1
        try:
            found = await visit.call(recipes.check, draft.to_yaml())
        except Refused:
            return False
        draft.mistakes = {mistake.pointer: _reason(mistake) for mistake in found.mistakes}
        draft.ignored = {f"/{i.field.replace('.', '/')}": _no_effect(visit, "", i.because) for i in found.ignored}
        draft.mark()
        place.clear()
        said[:] = found.advice
        with place:
            _verdict(visit, found)
        return found.valid

    async def estimate() -> None:
        async with turn:  # the engine is asked once at a time
            figures.clear()
            with figures:
                ui.label(visit.say("wizard.estimating")).classes("rw-help")
            problem, found = "", None
            with busy(button):
                try:
                    found = (await visit.read(recipes.check, draft.to_yaml(), with_estimate=True)).estimate
                except UserError as error:
                    problem = str(error)
            figures.clear()
            with figures:
                if found:
                    _figures(visit, found, said)
                elif problem:
                    ui.label(problem).classes("rw-help")

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


def _no_effect(visit: Visit, field: str, because: str) -> str:
    return visit.say("wizard.ignored", field=field, because=because).strip()


def _verdict(visit: Visit, found: Verdict) -> None:
    if found.valid:
        ui.label(visit.say("wizard.good")).classes("rw-state-succeeded")
    for mistake in found.mistakes:
        where = mistake.pointer.strip("/").replace("/", ".")
        ui.label(f"{where}: {_reason(mistake)}" if where else mistake.message).classes("rw-state-failed")
    for one in found.ignored:
        ui.label(_no_effect(visit, one.field, one.because)).classes("rw-help")
    for line in found.advice:
        ui.label(line).classes("rw-help")
    if found.tokens_per_update:
        ui.label(visit.say("wizard.update_most", tokens=units.amount(found.tokens_per_update))).classes("rw-help")


def _figures(visit: Visit, found: dict[str, Any], said: list[str]) -> None:
    """What the run takes, and of what that is a part; a ~ where texts were only sampled. ``said`` stands above."""
    needs, times, machine = found["needs"], found["times"], found["machine"]
    trying, about = times["pilot"], "" if found["dataset"] else "~ "
    free, whole = disk_usage(visit.studio.workspace.root).free, machine["memory"]
    of_memory = visit.say("wizard.of_memory", memory=units.size(whole)) if found["device"] == "cpu" else found["device"]
    per_update = units.amount(needs["tokens"] / max(1, needs["steps"]))
    checkpoint, rows = units.size(needs["checkpoint"]), units.amount(needs["rows"])
    lines = [
        ("tokens", about + units.amount(needs["tokens"]), visit.say("wizard.in_rows", rows=rows)),
        ("steps", about + units.amount(needs["steps"]), visit.say("wizard.update", tokens=per_update)),
        ("memory", f"~ {units.size(needs['memory'])}", of_memory),
        ("disk", f"~ {units.size(needs['disk'])}",
         visit.say("wizard.of_disk", free=units.size(free), checkpoint=checkpoint)),
        ("time_training", f"~ {units.duration(needs['seconds'])}", visit.say("wizard.alone")),
        *([("pilot", f"~ {units.duration(trying)}", visit.say("wizard.choosing"))] if trying != 0 else []),
        ("time", f"~ {units.duration(times['total'])}", visit.say("wizard.not_preparing")),
        *([("cost", f"~ {found['cost']}", "")] if found["cost"] else []),
    ]  # fmt: skip
    columns = [
        Column("what", visit.say("wizard.takes"), lambda row: visit.say(f"wizard.{row[0]}")),
        Column("value", visit.say("wizard.about"), lambda row: row[1], number=True),
        Column("of", visit.say("wizard.of"), lambda row: row[2]),
    ]
    table(columns, lines, title=visit.say("wizard.takes")).classes("rw-bar")
    for problem in found["problems"]:
        ui.label(str(problem)).classes("rw-state-failed")
    for line in (line for line in found["advice"] if line not in said):
        ui.label(line).classes("rw-help")
    chosen = [(k, v) for k, v in found["hyperparameters"].items() if v["origin"] == "recommended"]
    columns = [
        Column("name", visit.say("compare.setting"), lambda row: row[0]),
        Column("value", visit.say("configuration.value"), lambda row: told(row[1]["value"]), number=True),
        Column("because", visit.say("configuration.reason"), lambda row: row[1]["reason"]),
    ]
    if chosen:
        with ui.expansion(visit.say("wizard.chosen")).classes("w-full"):
            table(columns, chosen, title=visit.say("wizard.chosen"))
