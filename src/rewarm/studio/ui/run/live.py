"""Tabs of a run that move while it runs: what it measures, what it says, what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from nicegui import ui

from rewarm.core.states import LIVE
from rewarm.studio.service import logs, metrics
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, empty, told
from rewarm.studio.ui.visit import Visit

SHOWN_LOG = 1 << 15
"""Bytes of the end of a log that a page holds."""


async def metrics_tab(visit: Visit, run: RunDetail) -> None:
    with ui.element("div").classes("rw-row"):
        ui.label(visit.say("chart.smoothing")).classes("rw-quiet")
        smoothing = ui.slider(min=0, max=0.99, step=0.01, value=0).props(
            f'aria-label="{visit.say("chart.smoothing")}" style="width: 160px"'
        )
        log = ui.switch(visit.say("chart.log"))
        ui.link(visit.say("metrics.download"), f"/api/v1/runs/{quote(run.id)}/metrics.csv")

    def shown() -> dict[str, Any]:
        return {"smoothing": smoothing.value, "log": log.value}

    charts = await _charts(visit, run, system=False, shown=shown)

    def change() -> None:
        for chart in charts:
            chart.change(**shown())

    smoothing.on_value_change(change)
    log.on_value_change(change)
    command(visit, f"rewarm report {run.id}")


async def _charts(
    visit: Visit, run: RunDetail, system: bool, shown: Callable[[], dict[str, Any]] = dict
) -> list[Chart]:
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
        after = await visit.read(logs.shipped, run.id) if live and not system else 0
        drawn = names
        place.clear()
        charts.clear()
        with place:
            for name in names:
                title = name.removeprefix("system/")
                line = line_of(run.id, name)
                charts.append(
                    Chart(visit, title, [line], live=live and not system, after=after, time=system, **shown())
                )
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


async def logs_tab(visit: Visit, run: RunDetail) -> None:
    with ui.element("div").classes("rw-row"):
        search = ui.input(visit.say("log.search")).props("dense outlined clearable debounce=400")
        count = ui.label().classes("rw-quiet")
        ui.link(visit.say("log.download"), f"/api/v1/runs/{quote(run.id)}/log/download")
    text = ui.label().classes("rw-log rw-code").props(f'role="log" tabindex="0" aria-label="{visit.say("tab.logs")}"')
    size = -1

    async def look() -> None:
        nonlocal size
        if search.value:
            found = await visit.read(logs.search_log, run.id, search.value, limit=500)
            text.text, size = "\n".join(line.text for line in found.lines), -1
            count.text = visit.say("log.found", count=len(found.lines))
            return
        piece = await visit.read(logs.log_piece, run.id, -SHOWN_LOG, SHOWN_LOG)
        if piece.size == size:
            return
        size, count.text = piece.size, units.size(piece.size)
        text.text = piece.text or visit.say("log.empty")
        ui.run_javascript(f"const e = getHtmlElement({text.id}); e.scrollTop = e.scrollHeight")

    search.on_value_change(look)
    await look()
    ui.timer(1.0, look)
    command(visit, f"rewarm runs logs -f {run.id}")


async def events_tab(visit: Visit, run: RunDetail) -> None:
    columns = [
        Column("time", visit.say("events.time"), lambda event: visit.date(event["time"])),
        Column("stage", visit.say("events.stage"), lambda event: event.get("stage") or "–"),
        Column("kind", visit.say("events.kind"), lambda event: event["kind"]),
        Column("text", visit.say("events.text"), lambda event: _event_text(visit, event)),
    ]
    kept: list[dict[str, Any]] = []
    shown = table(columns, kept, title=visit.say("tab.events"))
    after = 0

    async def look() -> None:
        nonlocal after
        while found := await visit.read(logs.events, run.id, after, 10_000):
            after = found[-1]["seq"]
            kept.extend(event for event in found if event["kind"] not in ("metric", "progress"))
        refill(shown, columns, kept[:-501:-1])

    await look()
    ui.timer(3.0, look)


def _event_text(visit: Visit, event: dict[str, Any]) -> str:
    """The words first, then whatever else stands in the event."""
    kind = event["kind"]
    if kind == "checkpoint" and "bytes" in event:
        took = units.duration(event.get("seconds"))
        return f"{event['path'].rpartition('/')[2]} · {units.size(event['bytes'])} · {took}"
    if kind == "state":
        said = [visit.say(f"state.{event['state']}"), event.get("reason"), event.get("remedy")]
        return " · ".join(filter(None, said))
    if kind == "result" and event.get("name") == "stage":
        stage = event["value"]
        return f"{stage['name']}: {visit.say('events.kept') if stage['skipped'] else units.duration(stage['seconds'])}"
    if kind == "result":
        return f"{event.get('name')}: {told(event.get('value'))}"[:500]
    rest = {key: value for key, value in event.items() if key not in _COMMON}
    return " · ".join(filter(None, [event.get("message"), told(rest)]))[:500]


_COMMON = ("v", "seq", "attempt", "time", "stage", "kind", "message")
