"""Runs beside each other: curves overlaid, where their settings differ, before and after."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

from nicegui import ui

from rewarm.core.errors import NotFound
from rewarm.report import words
from rewarm.studio.service import metrics, models, runs
from rewarm.studio.service.metrics import MOST_RUNS
from rewarm.studio.service.runs import RunSummary
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.dialog import busy
from rewarm.studio.ui.parts.results import results
from rewarm.studio.ui.parts.settings import differences
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/compare", "compare.title", wide=True)
async def compare(visit: Visit, run: str = "", before: str = "", after: str = "") -> None:
    """``run`` holds the ids with commas between, so that the address can be kept and sent; so can the other two."""
    heading(visit.say("compare.title"))
    known = await visit.read(runs.list_runs, limit=500)
    chosen = [found for id in run.split(",")[:MOST_RUNS] if (found := next((r for r in known if r.id == id), None))]
    choice = ui.select(
        [r.id for r in known], multiple=True, value=[r.id for r in chosen], label=visit.say("compare.choose")
    )
    choice.props("use-chips outlined dense").classes("w-full rw-bar")
    choice.on("popup-hide", lambda: ui.navigate.to(f"/compare?run={quote(','.join(choice.value), safe=',')}"))
    if len(chosen) < 2:
        ui.label(visit.say("compare.none")).classes("rw-quiet")
    else:
        await _beside(visit, chosen)
    await _pair(visit, known, before, after)


async def _beside(visit: Visit, chosen: list[RunSummary]) -> None:
    await _curves(visit, chosen)
    section(visit.say("compare.differences"))
    resolved = {r.id: (await visit.read(runs.frozen, r.id)).resolved or {} for r in chosen}
    if not differences(visit, resolved, visit.say("compare.differences")):
        ui.label(visit.say("compare.same")).classes("rw-quiet")
    section(visit.say("compare.results"))
    await _side_by_side(visit, chosen)


async def _side_by_side(visit: Visit, chosen: list[RunSummary]) -> None:
    """A line for each text and task that any of them was scored on, a column for each run."""
    found: dict[str, dict[str, list[str]]] = {}
    for r in chosen:
        with contextlib.suppress(NotFound):
            report = await visit.read(runs.report, r.id)
            for row in map(words.result_cells, report["rows"]):
                found.setdefault(f"{row[0]} · {row[2]}", {})[r.id] = row
    columns = [Column("task", visit.say("model.task"), lambda pair: pair[0])]
    for at, r in enumerate(chosen):
        columns.append(Column(f"of{at}", r.id, lambda pair, id=r.id: _cell(pair[1].get(id)), number=True))  # type: ignore[misc]
    if found:
        table(columns, list(found.items()), title=visit.say("compare.results"))
    else:
        ui.label(visit.say("compare.no_results")).classes("rw-quiet")


def _cell(row: list[str] | None) -> str:
    return f"{row[3]} → {row[4]} ({row[7]})" if row else "–"


async def _pair(visit: Visit, known: list[RunSummary], before: str, after: str) -> None:
    """Two results on what both were scored on: the pairs that no report holds."""
    section(visit.say("compare.pair"))
    ui.label(visit.say("compare.pair_text")).classes("rw-help")
    scored = {r.id: r.version for r in known if r.headline}
    versions = await visit.read(models.list_versions, limit=200)
    # Of a version whose run was trained again since, no items are kept.
    published = [v.model for v in versions if v.run and scored.get(v.run) == v.model]
    names = [*published, *scored]
    with ui.element("div").classes("rw-row rw-bar"):
        first = ui.select(["base", *names], value=before if before in ("base", *names) else "base")
        second = ui.select(names, value=after if after in names else next(iter(names), None))
        for select, word in ((first, "before"), (second, "after")):
            select.props(f'outlined dense label="{visit.say(f"compare.{word}")}"').classes("rw-choice")
        button = ui.button(visit.say("compare.go"), on_click=lambda: go()).props("no-caps")
        button.set_enabled(bool(names))
    place = ui.element("div")
    shown = command(visit, "")
    for select in (first, second):
        shown.bind_text_from(select, "value", lambda _: f"rewarm compare {first.value} {second.value or 'AFTER'}")

    async def go() -> None:
        place.clear()
        with busy(button), place:
            found = await visit.call(runs.compare, str(first.value), str(second.value))
            results(visit, found.model_dump())
            for note in found.notes:
                ui.label(note).classes("rw-help")

    if (before, after) == (first.value, second.value):  # else the address names what is not here
        ui.timer(0, go, once=True)


async def _curves(visit: Visit, chosen: list[RunSummary]) -> None:
    names = sorted({m.name for r in chosen for m in await visit.read(metrics.metrics, r.id)})
    if not names:
        return
    first = "train/loss" if "train/loss" in names else names[0]
    select = (
        ui.select(names, value=first, label=visit.say("compare.metric"), with_input=True)
        .props("outlined dense")
        .classes("rw-search rw-bar")
    )
    chart = Chart(visit, first, [line_of(r.id, first, r.id) for r in chosen], height=360)

    def change_metric() -> None:
        lines = [line_of(r.id, select.value, r.id) for r in chosen]
        chart.change(
            heading=select.value, lines=[vars(line) for line in lines], time=select.value.startswith("system/")
        )

    select.on_value_change(change_metric)
