"""Tabs of a run: what it measures, and how busy the computer is."""

from __future__ import annotations

from urllib.parse import quote

from nicegui import ui

from rewarm.core.states import LIVE
from rewarm.studio.service import metrics
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.text import command, empty
from rewarm.studio.ui.visit import Visit


async def metrics_tab(visit: Visit, run: RunDetail) -> None:
    with ui.element("div").classes("rw-row"):
        ui.label(visit.say("chart.smoothing")).classes("rw-quiet")
        smoothing = ui.slider(min=0, max=0.99, step=0.01, value=0).props(
            f'aria-label="{visit.say("chart.smoothing")}" style="width: 160px"'
        )
        log = ui.switch(visit.say("chart.log"))
        ui.link(visit.say("metrics.download"), f"/api/v1/runs/{quote(run.id)}/metrics.csv")
    charts = await _charts(visit, run, system=False)

    def change() -> None:
        for chart in charts:
            chart.change(smoothing=smoothing.value, log=log.value)

    smoothing.on_value_change(change)
    log.on_value_change(change)
    command(visit, f"rewarm report {run.id}")


async def _charts(visit: Visit, run: RunDetail, system: bool) -> list[Chart]:
    """A chart for each metric, those of the machine or the others; a metric that comes later gets one then."""
    place = ui.element("div").classes("rw-grid")
    charts: list[Chart] = []
    drawn: list[str] | None = None
    live = run.state in LIVE

    async def look() -> None:
        nonlocal drawn
        found = await visit.read(metrics.metrics, run.id)
        names = sorted((m.name for m in found if m.name.startswith("system/") == system), key=_order)
        if names == drawn:
            return
        drawn = names
        place.clear()
        charts.clear()
        with place:
            for name in names:
                title = name.removeprefix("system/")
                line = line_of(run.id, name)
                charts.append(Chart(visit, title, [line], live=live and not system, time=system))
            if not names:
                empty(visit.say("metrics.none"), visit.say("metrics.none_next"))

    await look()
    if live:
        ui.timer(2.0, look)
    return charts


def _order(name: str) -> tuple[int, str]:
    """The loss first, then what was held out, then the rest of training, then speed."""
    first = ("train/loss", "eval/", "train/", "perf/")
    return next((place for place, prefix in enumerate(first) if name.startswith(prefix)), len(first)), name


async def system_tab(visit: Visit, run: RunDetail) -> None:
    await _charts(visit, run, system=True)
