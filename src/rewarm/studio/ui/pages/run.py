"""One run: how far it is, what it measures, says and writes, and what may be done with it.

Tabs stand in the address; only the open one is built, so that a page costs what it shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from rewarm.core.states import LIVE
from rewarm.studio.service import runs
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.runs import left, progress, speed
from rewarm.studio.ui.parts.text import heading
from rewarm.studio.ui.run import live, made
from rewarm.studio.ui.run.actions import actions
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit

TABS: dict[str, Callable[[Visit, RunDetail], Awaitable[None]]] = {
    "metrics": live.metrics_tab,
    "system": live.system_tab,
    "logs": live.logs_tab,
    "events": live.events_tab,
    "checkpoints": made.checkpoints_tab,
    "data": made.data_tab,
    "report": made.report_tab,
    "configuration": made.configuration_tab,
}


@page("/runs/{run}", "run.id", wide=True)
async def one_run(visit: Visit, run: str, tab: str = "metrics") -> None:
    found = await visit.read(runs.show, run)
    heading(
        found.id, " · ".join(filter(None, [found.name, found.pipeline, found.started_by, visit.date(found.created)]))
    )
    now = await _head(visit, found)
    tab = tab if tab in TABS else "metrics"
    with ui.element("nav").classes("rw-tabs").props(f'aria-label="{visit.say("run.id")}"'):
        for name in TABS:
            link = ui.link(visit.say(f"tab.{name}"), f"/runs/{quote(run)}?tab={name}").classes("rw-tab")
            if name == tab:
                link.props('aria-current="page"')
    await TABS[tab](visit, now)


async def _head(visit: Visit, found: RunDetail) -> RunDetail:
    """State, stages, progress and the buttons, kept up to date."""
    with ui.element("div").classes("rw-row"):
        word = ui.label()
        line = ui.label().classes("rw-quiet")
    bar = ui.linear_progress(0, show_value=False, size="4px").props(f'aria-label="{visit.say("run.progress")}"')
    stages = ui.element("ol").classes("rw-stages")
    buttons = ui.element("div").classes("rw-row")
    drawn: tuple[str, ...] = ()

    async def look() -> None:
        nonlocal found, drawn
        found = await visit.read(runs.show, found.id)
        word.text = visit.say(f"state.{found.state}")
        word.classes(replace=f"rw-state rw-state-{found.state}")
        line.text = _line(visit, found)
        told = found.progress or {}
        bar.value = told["done"] / told["total"] if found.state in LIVE and told.get("total") else 0
        bar.visible = found.state in LIVE
        now = (found.state, found.stage, *(stage.name for stage in found.stages if stage.done))
        if now == drawn:
            return
        drawn = now
        stages.clear()
        with stages:
            _stages(visit, found)
        buttons.clear()
        with buttons:
            actions(visit, found)

    await look()
    ui.timer(2.0, look)
    return found


def _line(visit: Visit, run: RunDetail) -> str:
    if run.state in ("running", "stopping"):
        return f"{progress(run)} · {speed(run.progress)} · {visit.say('run.left')}: {left(run.progress)}"
    return " · ".join(filter(None, [run.reason, run.version]))


def _stages(visit: Visit, run: RunDetail) -> None:
    for stage in run.stages:
        here = stage.name == run.stage and run.state in LIVE
        with ui.element("li").classes("rw-stage-done" if stage.done else "rw-stage-here" if here else ""):
            ui.label(visit.name_of("stage", stage.name))
            if stage.seconds is not None:
                ui.label(units.duration(stage.seconds)).classes("rw-quiet")
