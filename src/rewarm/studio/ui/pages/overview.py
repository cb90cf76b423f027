"""The first page: what runs, what waits, what failed and why, the machine, and what to do next."""

from __future__ import annotations

from nicegui import ui

from rewarm.core.states import LIVE
from rewarm.studio.service import metrics, runs
from rewarm.studio.service.runs import RunSummary
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.runs import columns, left, progress, speed
from rewarm.studio.ui.parts.table import refill, table
from rewarm.studio.ui.parts.text import command, empty, heading, section, state
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/", "nav.overview")
async def overview(visit: Visit) -> None:
    heading(visit.say("nav.overview"))
    latest = await visit.read(runs.list_runs, limit=10)
    if not latest:
        empty(
            visit.say("overview.empty"),
            visit.say("overview.empty_next"),
            visit.say("overview.create"),
            "/pipelines/new",
        )
        command(visit, "rewarm run recipe.yaml")
        await _machine(visit)
        return
    section(visit.say("overview.live"))
    await _live(visit)
    section(visit.say("overview.latest"))
    shown = table(columns(visit), latest, title=visit.say("overview.latest"))
    failed = next((run for run in latest if run.state in ("failed", "lost", "damaged") and run.reason), None)
    if failed:
        ui.label(f"{failed.id}: {failed.reason}").classes("rw-quiet")

    async def again() -> None:
        refill(shown, columns(visit), await visit.read(runs.list_runs, limit=10))

    ui.timer(3.0, again)
    command(visit, "rewarm runs ls")
    await _machine(visit)


async def _live(visit: Visit) -> None:
    """One block for each live run, made anew where others live."""
    place = ui.element("div").classes("rw-grid")
    known: list[str] = []
    blocks: dict[str, ui.label] = {}

    async def look() -> None:
        live = await visit.read(runs.list_runs, states=sorted(LIVE), limit=20)
        if [run.id for run in live] != known or not blocks:
            known[:] = [run.id for run in live]
            place.clear()
            with place:
                blocks.clear()
                blocks.update({run.id: _block(visit, run) for run in live})
                if not live:
                    blocks[""] = ui.label(visit.say("overview.none_live")).classes("rw-quiet")
        for run in live:
            blocks[run.id].text = _line(visit, run)

    await look()
    ui.timer(2.0, look)


def _block(visit: Visit, run: RunSummary) -> ui.label:
    with ui.element("div").classes("rw-paper"):
        with ui.element("div").classes("rw-row"):
            ui.link(run.id, f"/runs/{run.id}")
            state(visit, run.state)
        line = ui.label().classes("rw-quiet")
        if run.state != "queued":
            Chart(visit, "train/loss", [line_of(run.id, "train/loss")], live=True, height=140)
    return line


def _line(visit: Visit, run: RunSummary) -> str:
    if run.reason and run.state in ("queued", "paused"):
        return run.reason
    told, stage = run.progress, visit.name_of("stage", run.stage or "–")
    return f"{stage} · {progress(run)} · {speed(told)} · {visit.say('run.left')}: {left(told)}"


async def _machine(visit: Visit) -> None:
    section(visit.say("overview.machine"))
    line = ui.label().classes("rw-quiet")

    async def look() -> None:
        here = await visit.read(metrics.computer)
        now = {metric.name.removeprefix("system/"): metric.value for metric in here.now}
        parts = [f"{here.cores} × {visit.say('overview.cpu')}: {now.get('cpu_percent', 0):.0f} %"]
        if "memory_bytes" in now:
            used, whole = units.size(now["memory_bytes"]), units.size(here.memory_bytes)
            parts.append(f"{visit.say('overview.memory')}: {used} / {whole}")
        parts.append(f"{visit.say('overview.disk')}: {units.size(here.disk_bytes)}")
        line.text = " · ".join([here.system, *parts, *here.gpus])

    await look()
    ui.timer(10.0, look)
