"""Models on their way in and out: how far each is, how fast, what is left, and where it ended."""

from __future__ import annotations

import time
from urllib.parse import quote

from nicegui import ui

from rewarm.studio.service import transfers
from rewarm.studio.service.transfers import Transfer
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.text import section
from rewarm.studio.ui.visit import Visit


async def transfers_of(visit: Visit, what: str | None = None, most: int = 8) -> None:
    """The newest transfers, of one version or of all; drawn anew while they change."""
    place = ui.element("div").props('role="status"')
    drawn: list[Transfer] | None = None

    async def look() -> None:
        nonlocal drawn
        found = [one for one in await visit.read(transfers.list_transfers) if what in (None, one.what)][:most]
        clock.interval = 1.0 if any(one.state == "running" for one in found) else 5.0
        if found == drawn:
            return
        drawn = found
        place.clear()
        if found:
            with place:
                section(visit.say("transfer.title"))
                for one in found:
                    _line(visit, one)

    clock = ui.timer(5.0, look, immediate=False)
    await look()


def _line(visit: Visit, one: Transfer) -> None:
    with ui.element("div").classes("rw-transfer"):
        with ui.element("div").classes("rw-row"):
            ui.label(visit.say(f"transfer.{one.kind}")).classes("rw-strong")
            ui.label(f"{one.what} → {one.to}").classes("rw-code")
            ui.label(visit.say(f"transfer.{one.state}")).classes(f"rw-state rw-state-{_STATES[one.state]}")
            result = one.result or {}
            if model := result.get("model"):
                ui.link(str(model), f"/models/{quote(str(model))}")
            if one.kind == "gguf" and one.state == "done":
                ui.link(visit.say("report.download"), f"/api/v1/transfers/{quote(one.id)}/file")
        told = one.progress or {}
        if one.state == "running":
            share = told["done"] / told["total"] if told.get("total") else None
            bar = ui.linear_progress(share or 0, show_value=False, size="4px")
            bar.props(f'aria-label="{visit.say("run.progress")}"' + (" indeterminate" if share is None else ""))
            ui.label(_speed(visit, one)).classes("rw-help")
        elif one.error:
            ui.label(". ".join(filter(None, [one.error, one.remedy]))).classes("rw-help")
        else:
            ui.label(f"{visit.date(one.started)} · {one.by}").classes("rw-help")


_STATES = {"running": "running", "done": "succeeded", "failed": "failed"}


def _speed(visit: Visit, one: Transfer) -> str:
    told, ago = one.progress or {}, time.time() - one.started
    if not told.get("total") or not told["done"] or ago <= 0:
        return units.duration(ago)
    said = units.size if told.get("unit") == "bytes" else units.amount
    speed = told["done"] / ago
    left = units.duration((told["total"] - told["done"]) / speed)
    return f"{said(told['done'])} / {said(told['total'])} · {said(speed)}/s · {visit.say('run.left')}: {left}"
