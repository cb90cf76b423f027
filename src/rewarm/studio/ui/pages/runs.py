"""All runs, the newest first, with a search."""

from __future__ import annotations

from nicegui import ui

from rewarm.studio.service import runs
from rewarm.studio.service.runs import RunSummary
from rewarm.studio.ui.parts.runs import columns
from rewarm.studio.ui.parts.table import refill, table
from rewarm.studio.ui.parts.text import command, heading
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit

PAGE = 50


@page("/runs", "runs.title", wide=True)
async def all_runs(visit: Visit) -> None:
    heading(visit.say("runs.title"))
    search = ui.input(visit.say("runs.search")).props("dense outlined clearable debounce=300")
    shown = table(columns(visit), [], title=visit.say("runs.title"))
    none = ui.label(visit.say("runs.none")).classes("rw-quiet")
    count = PAGE

    async def look() -> None:
        found: list[RunSummary] = await visit.read(runs.list_runs, text=search.value or "", limit=count)
        refill(shown, columns(visit), found)
        none.visible = not found
        more.visible = len(found) == count

    async def longer() -> None:
        nonlocal count
        count = min(count + PAGE, 1000)
        await look()

    more = ui.button(visit.say("runs.more"), on_click=longer).props("flat no-caps")
    search.on_value_change(look)
    await look()
    ui.timer(5.0, look)
    command(visit, "rewarm runs ls")
