"""The first page: what runs, what waits, what failed and why, the machine, and what to do next."""

from __future__ import annotations

from urllib.parse import quote

from nicegui import ui

from rewarm.core.errors import NotFound
from rewarm.core.states import LIVE
from rewarm.studio.service import logs, metrics, runs
from rewarm.studio.service.metrics import Computer
from rewarm.studio.service.runs import RunSummary
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.runs import columns, left, progress, speed
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, empty, heading, section, state
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit

MOST_STREAMS = 3
"""Charts that move by themselves: each holds one of the six connections that a browser opens to a server by HTTP/1."""


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
    await _failed(visit)
    section(visit.say("overview.latest"))
    shown = table(columns(visit), latest, title=visit.say("overview.latest"))

    async def again() -> None:
        refill(shown, columns(visit), await visit.read(runs.list_runs, limit=10))

    ui.timer(3.0, again, immediate=False)
    command(visit, "rewarm runs ls")
    await _machine(visit)


async def _live(visit: Visit) -> None:
    """One block for each live run, made anew where others live, or are in another state."""
    place = ui.element("div").classes("rw-grid")
    known: list[tuple[str, str]] | None = None
    blocks: dict[str, tuple[ui.label, ui.linear_progress]] = {}

    async def look() -> None:
        nonlocal known
        live = await visit.read(runs.list_runs, states=sorted(LIVE), limit=20)
        if (now := [(run.id, run.state) for run in live]) != known:
            moving = [id for id, state in now if state != "queued"][:MOST_STREAMS]
            after = {id: await _shipped(visit, id) for id in moving}
            known = now
            place.clear()
            with place:
                blocks.clear()
                blocks.update({run.id: _block(visit, run, after.get(run.id)) for run in live})
                if not live:
                    ui.label(visit.say("overview.none_live")).classes("rw-quiet")
        for run in live:
            line, bar = blocks[run.id]
            line.text, told = _line(visit, run), run.progress or {}
            bar.value = told["done"] / told["total"] if told.get("total") else 0

    await look()
    ui.timer(2.0, look)


async def _failed(visit: Visit) -> None:
    """The newest that came to no good end, why, and what to do: the place is empty where there is none."""
    columns = [
        Column("id", visit.say("run.id"), lambda run: run.id, link=lambda run: f"/runs/{quote(run.id)}?tab=logs"),
        Column("state", visit.say("run.state"), lambda run: visit.say(f"state.{run.state}"),
               style=lambda run: f"rw-state rw-state-{run.state}"),
        Column("reason", visit.say("overview.why"), lambda run: run.reason or "–", style=lambda run: "rw-wrap"),
        Column("changed", visit.say("overview.when"), lambda run: visit.date(run.changed)),
    ]  # fmt: skip
    with ui.element("div") as place:
        section(visit.say("overview.failed"))
        shown = table(columns, [], title=visit.say("overview.failed"))
        ui.label(visit.say("overview.failed_next")).classes("rw-help")

    async def look() -> None:
        found = await visit.read(runs.list_runs, states=["failed", "lost", "damaged"], limit=5)
        refill(shown, columns, found)
        place.visible = bool(found)

    await look()
    ui.timer(5.0, look, immediate=False)


async def _shipped(visit: Visit, run: str) -> int:
    try:
        return await visit.read(logs.shipped, run)
    except NotFound:  # it was deleted a moment ago
        return 0


def _block(visit: Visit, run: RunSummary, after: int | None) -> tuple[ui.label, ui.linear_progress]:
    with ui.element("div").classes("rw-paper"):
        with ui.element("div").classes("rw-row"):
            ui.link(run.id, f"/runs/{run.id}")
            state(visit, run.state)
        line = ui.label().classes("rw-quiet")
        bar = ui.linear_progress(0, show_value=False, size="4px").props(f'aria-label="{visit.say("run.progress")}"')
        if run.state != "queued":
            loss = [line_of(run.id, "train/loss")]
            Chart(visit, "train/loss", loss, live=after is not None, after=after or 0, height=140)
    return line, bar


def _line(visit: Visit, run: RunSummary) -> str:
    if run.reason and run.state in ("queued", "paused"):
        return run.reason
    told, stage = run.progress, visit.name_of("stage", run.stage or "–")
    return f"{stage} · {progress(run)} · {speed(told)} · {visit.say('run.left')}: {left(told)}"


async def _machine(visit: Visit) -> None:
    section(visit.say("overview.machine"))
    columns = [
        Column("what", visit.say("overview.part"), lambda row: row[0]),
        Column("used", visit.say("overview.used"), lambda row: row[1], number=True),
        Column("share", visit.say("overview.share"), lambda row: row[2], number=True),
    ]
    shown = table(columns, [], title=visit.say("overview.machine"))
    about = ui.label().classes("rw-help")

    async def look() -> None:
        here = await visit.read(metrics.computer)
        about.text = here.system
        refill(shown, columns, _parts(visit, here))

    await look()
    ui.timer(10.0, look, immediate=False)


def _parts(visit: Visit, here: Computer) -> list[tuple[str, str, str]]:
    """What the computer has, how much of it is in use, and as a share."""
    now = {metric.name.removeprefix("system/"): metric.value for metric in here.now}

    def share(part: float | None, whole: float) -> str:
        return "–" if part is None or not whole else units.percent(part / whole)

    def of(part: float | None, whole: float) -> str:
        return f"{'–' if part is None else units.size(part)} / {units.size(whole)}"

    memory, disk = now.get("memory_bytes"), now.get("disk_bytes")
    rows = [
        (visit.say("overview.cpu"), visit.say("overview.cores", cores=here.cores), share(now.get("cpu_percent"), 100)),
        (visit.say("overview.memory"), of(memory, here.memory_bytes), share(memory, here.memory_bytes)),
        (visit.say("overview.disk"), of(disk, here.disk_bytes), share(disk, here.disk_bytes)),
    ]
    for number, (name, whole) in enumerate(zip(here.gpus, here.gpu_memory_bytes, strict=True)):
        used, busy = now.get(f"gpu-{number}/memory_bytes"), now.get(f"gpu-{number}/percent")
        rows.append((name, of(used, whole), share(busy, 100)))
    return rows
