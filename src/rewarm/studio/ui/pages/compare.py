"""Runs beside each other: curves overlaid, where their settings differ, before and after."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui

from rewarm.studio.service import metrics, runs
from rewarm.studio.service.metrics import MOST_RUNS
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.runs import change
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/compare", "compare.title", wide=True)
async def compare(visit: Visit, run: str = "") -> None:
    """``run`` holds the ids with commas between, so that the address can be kept and sent."""
    heading(visit.say("compare.title"))
    known = await visit.read(runs.list_runs, limit=500)
    chosen = [found for id in run.split(",")[:MOST_RUNS] if (found := next((r for r in known if r.id == id), None))]
    choice = ui.select(
        [r.id for r in known], multiple=True, value=[r.id for r in chosen], label=visit.say("compare.choose")
    )
    choice.props("use-chips outlined dense").classes("w-full")
    choice.on("popup-hide", lambda: ui.navigate.to(f"/compare?run={quote(','.join(choice.value), safe=',')}"))
    if len(chosen) < 2:
        ui.label(visit.say("compare.none")).classes("rw-quiet")
        return
    await _curves(visit, chosen)
    section(visit.say("compare.differences"))
    await _differences(visit, chosen)
    section(visit.say("compare.results"))
    columns = [
        Column("id", visit.say("run.id"), lambda r: r.id, link=lambda r: f"/runs/{quote(r.id)}"),
        Column("gain", visit.say("run.gain"), lambda r: change(r.headline, "gain"), number=True),
        Column("forgetting", visit.say("run.forgetting"), lambda r: change(r.headline, "forgetting"), number=True),
        Column("version", visit.say("run.version"), lambda r: r.version or "–"),
    ]
    table(columns, chosen, title=visit.say("compare.results"))


async def _curves(visit: Visit, chosen: list[runs.RunSummary]) -> None:
    names = sorted({m.name for r in chosen for m in await visit.read(metrics.metrics, r.id)})
    if not names:
        return
    first = "train/loss" if "train/loss" in names else names[0]
    select = ui.select(names, value=first, label=visit.say("compare.metric"), with_input=True).props("outlined dense")
    chart = Chart(visit, first, [line_of(r.id, first, r.id) for r in chosen], height=360)

    def change_metric() -> None:
        lines = [line_of(r.id, select.value, r.id) for r in chosen]
        chart.change(
            heading=select.value, lines=[vars(line) for line in lines], time=select.value.startswith("system/")
        )

    select.on_value_change(change_metric)


async def _differences(visit: Visit, chosen: list[runs.RunSummary]) -> None:
    settings = [_flat((await visit.read(runs.frozen, r.id)).resolved or {}) for r in chosen]
    keys = sorted({key for one in settings for key in one})
    different = [key for key in keys if len({str(one.get(key, "–")) for one in settings}) > 1]
    if not different:
        ui.label(visit.say("compare.same")).classes("rw-quiet")
        return
    columns = [Column("key", visit.say("compare.setting"), lambda key: key)]
    for number, (r, one) in enumerate(zip(chosen, settings, strict=True)):
        columns.append(Column(f"run{number}", r.id, lambda key, one=one: str(one.get(key, "–"))[:200]))  # type: ignore[misc]
    table(columns, different, title=visit.say("compare.differences"))


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """``{"hyperparameters.epochs": 2}``; of a value that carries its origin, the value."""
    if isinstance(tree, dict) and "value" in tree and "origin" in tree:
        return _flat(tree["value"], path)
    if isinstance(tree, dict):
        return {k: v for key, value in tree.items() for k, v in _flat(value, f"{path}.{key}".lstrip(".")).items()}
    return {path: tree}
