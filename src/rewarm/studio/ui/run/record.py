"""Tabs of a run: what it says, and what happened."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui

from rewarm.studio.service import logs
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, told
from rewarm.studio.ui.visit import Visit

SHOWN_LOG = 1 << 15
"""Bytes of the end of a log that a page holds."""


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
    if kind == "checkpoint":
        took = units.duration(event["seconds"])
        return f"{event['path'].rpartition('/')[2]} · {units.size(event['bytes'])} · {took}"
    if kind == "state":
        return " · ".join(filter(None, [visit.say(f"state.{event['state']}"), event.get("reason")]))
    if kind == "result" and event.get("name") == "stage":
        stage = event["value"]
        return f"{stage['name']}: {visit.say('events.kept') if stage['skipped'] else units.duration(stage['seconds'])}"
    if kind == "result":
        return f"{event.get('name')}: {told(event.get('value'))}"[:500]
    rest = {key: value for key, value in event.items() if key not in _COMMON}
    return " · ".join(filter(None, [event.get("message"), told(rest)]))[:500]


_COMMON = ("v", "seq", "attempt", "time", "stage", "kind", "message")
