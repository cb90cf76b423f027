"""One run: how far it is, what it measures, says and writes, and what may be done with it.

Tabs stand in the address; only the open one is built, so that a page costs what it shows.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import orjson
from nicegui import ui

from rewarm.core.states import LIVE
from rewarm.studio.context import Role
from rewarm.studio.service import logs, metrics, runs
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.runs import left, progress, speed
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, empty, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Refused, Visit

SHOWN_LOG = 1 << 15
"""Bytes of the end of a log that a page holds."""


@page("/runs/{run}", "run.id", wide=True)
async def one_run(visit: Visit, run: str, tab: str = "metrics") -> None:
    found = await visit.read(runs.show, run)
    heading(
        found.id, " · ".join(filter(None, [found.name, found.pipeline, found.started_by, visit.date(found.created)]))
    )
    live = await _head(visit, found)
    tab = tab if tab in TABS else "metrics"
    with ui.element("nav").classes("rw-tabs").props(f'aria-label="{visit.say("run.id")}"'):
        for name in TABS:
            link = ui.link(visit.say(f"tab.{name}"), f"/runs/{quote(run)}?tab={name}").classes("rw-tab")
            if name == tab:
                link.props('aria-current="page"')
    await TABS[tab](visit, live)


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
            _actions(visit, found)

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


def _actions(visit: Visit, run: RunDetail) -> None:
    if not visit.may(Role.editor):
        return
    if run.state in LIVE:
        ui.button(visit.say("run.stop"), on_click=lambda: _stop(visit, run)).props("outline no-caps dense")
    else:
        ui.button(visit.say("run.resume"), on_click=lambda: _again(visit, run, runs.resume)).props(
            "outline no-caps dense"
        )
        ui.button(visit.say("run.delete"), on_click=lambda: _delete(visit, run)).props(
            "outline no-caps dense color=negative"
        )
    ui.button(visit.say("run.clone"), on_click=lambda: _again(visit, run, runs.clone)).props("outline no-caps dense")


async def _again(visit: Visit, run: RunDetail, verb: Callable[..., RunDetail]) -> None:
    try:
        made = await visit.call(verb, run.id)
    except Refused:
        return
    ui.navigate.to(f"/runs/{quote(made.id)}")


def _stop(visit: Visit, run: RunDetail) -> None:
    with ui.dialog(value=True) as dialog, ui.card():
        ui.label(visit.say("run.stop_text"))
        why = ui.input(visit.say("run.stop_why")).classes("w-full")
        command(visit, f"rewarm stop {run.id}")

        async def stop() -> None:
            dialog.close()
            try:
                await visit.call(runs.stop, run.id, why.value or "")
            except Refused:
                return
            ui.notify(visit.say("run.done_stop"))

        with ui.element("div").classes("rw-row"):
            ui.button(visit.say("run.stop"), on_click=stop).props("no-caps")
            ui.button(visit.say("button.cancel"), on_click=dialog.close).props("flat no-caps")


def _delete(visit: Visit, run: RunDetail) -> None:
    with ui.dialog(value=True) as dialog, ui.card():
        ui.label(visit.say("run.delete_text"))
        typed = ui.input(run.id).classes("w-full")
        command(visit, f"rewarm runs rm {run.id}")

        async def delete() -> None:
            try:
                await visit.call(runs.delete, run.id, typed.value or "")
            except Refused:
                return
            ui.navigate.to("/runs")

        with ui.element("div").classes("rw-row"):
            ui.button(visit.say("run.delete"), on_click=delete, color="negative").props("no-caps")
            ui.button(visit.say("button.cancel"), on_click=dialog.close).props("flat no-caps")


# --- tabs -------------------------------------------------------------------------------------------------------------


async def _metrics(visit: Visit, run: RunDetail) -> None:
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


async def _system(visit: Visit, run: RunDetail) -> None:
    await _charts(visit, run, system=True)


async def _logs(visit: Visit, run: RunDetail) -> None:
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


async def _events(visit: Visit, run: RunDetail) -> None:
    columns = [
        Column("time", visit.say("events.time"), lambda event: visit.date(event["time"])),
        Column("stage", visit.say("events.stage"), lambda event: event.get("stage") or "–"),
        Column("kind", visit.say("events.kind"), lambda event: event["kind"]),
        Column("text", visit.say("events.text"), _event_text),
    ]
    kept: list[dict[str, object]] = []
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


def _event_text(event: dict[str, object]) -> str:
    told = {key: value for key, value in event.items() if key not in ("v", "seq", "attempt", "time", "stage", "kind")}
    text = told.pop("message", None) or told.pop("state", None)
    rest = ", ".join(f"{key}: {value}" for key, value in told.items())
    return " · ".join(str(part) for part in (text, rest) if part)[:500]


async def _checkpoints(visit: Visit, run: RunDetail) -> None:
    found = await visit.read(runs.checkpoints, run.id)
    if not found:
        empty(visit.say("checkpoints.none"), visit.say("checkpoints.none_next"))
        return
    columns = [
        Column("name", visit.say("checkpoints.name"), lambda row: row.name),
        Column("step", visit.say("checkpoints.step"), lambda row: units.amount(row.step), number=True),
        Column("size", visit.say("run.size"), lambda row: units.size(row.bytes), number=True),
    ]
    table(columns, found, title=visit.say("tab.checkpoints"))
    if not visit.may(Role.editor):
        return
    with ui.element("div").classes("rw-row"):
        chosen = ui.select([row.name for row in found], value=found[-1].name, label=visit.say("checkpoints.name"))

        async def export() -> None:
            ui.notify(visit.say("checkpoints.exporting"))
            try:
                path = await visit.call(runs.export, run.id, chosen.value)
            except Refused:
                return
            ui.notify(visit.say("checkpoints.exported", path=path), timeout=0, close_button=visit.say("button.close"))

        ui.button(visit.say("checkpoints.export"), on_click=export).props("outline no-caps")
    command(visit, f"rewarm models export {run.id} FOLDER --checkpoint {found[-1].name}")


async def _data(visit: Visit, run: RunDetail) -> None:
    section(visit.say("data.first"))
    found = await visit.read(runs.documents, run.id, 1)
    ui.label(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()).classes("rw-log rw-code")
    command(visit, f"rewarm runs data {run.id} --step 1")


async def _report(visit: Visit, run: RunDetail) -> None:
    if not run.report:
        empty(visit.say("report.none"), visit.say("report.none_next"))
        return
    address = f"/api/v1/runs/{quote(run.id)}/report"
    with ui.element("div").classes("rw-row"):
        for form in ("html", "md", "json"):
            ui.link(f"{visit.say('report.download')} {form}", f"{address}.{form}?download=true")
    frame = ui.element("iframe").classes("rw-report")
    frame.props(f'src="{address}.html" sandbox="allow-scripts" title="{visit.say("tab.report")}"')
    command(visit, f"rewarm report {run.id}")


async def _configuration(visit: Visit, run: RunDetail) -> None:
    frozen = await visit.read(runs.frozen, run.id)
    section(visit.say("configuration.recipe"))
    ui.label(frozen.recipe).classes("rw-log rw-code")
    if frozen.overrides:
        section(visit.say("configuration.overrides"))
        ui.label("\n".join(frozen.overrides)).classes("rw-log rw-code")
    if frozen.resolved:
        section(visit.say("configuration.resolved"))
        shown = orjson.dumps(frozen.resolved, option=orjson.OPT_INDENT_2).decode()
        ui.label(shown).classes("rw-log rw-code")
    command(visit, " ".join(["rewarm", "run", "recipe.yaml", *map(shlex.quote, frozen.overrides)]))


TABS: dict[str, Callable[[Visit, RunDetail], Awaitable[None]]] = {
    "metrics": _metrics,
    "system": _system,
    "logs": _logs,
    "events": _events,
    "checkpoints": _checkpoints,
    "data": _data,
    "report": _report,
    "configuration": _configuration,
}
