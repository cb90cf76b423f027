"""A run in a table and in a line: what it does, how far it is, and how long it still takes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from rewarm.studio.service.runs import RunSummary
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.table import Column
from rewarm.studio.ui.visit import Visit


def columns(visit: Visit) -> list[Column]:
    """Of a table of runs."""
    return [
        Column("id", visit.say("run.id"), lambda run: run.id, link=lambda run: f"/runs/{quote(run.id)}"),
        Column(
            "state", visit.say("run.state"), lambda run: visit.say(f"state.{run.state}"),
            style=lambda run: f"rw-state rw-state-{run.state}",
        ),
        Column("stage", visit.say("run.stage"), lambda run: visit.name_of("stage", run.stage) if run.stage else "–"),
        Column("progress", visit.say("run.progress"), progress, number=True),
        Column("gain", visit.say("run.gain"), lambda run: change(run.headline, "gain"), number=True),
        Column("forgetting", visit.say("run.forgetting"), lambda run: change(run.headline, "forgetting"), number=True),
        Column("created", visit.say("run.created"), lambda run: visit.date(run.created)),
        Column("by", visit.say("run.by"), lambda run: run.started_by or "–"),
    ]  # fmt: skip


def progress(run: RunSummary) -> str:
    """``61 %``, of what the stage does now."""
    told = run.progress
    return f"{100 * told['done'] / told['total']:.0f} %" if told and told.get("total") else "–"


def speed(told: dict[str, Any] | None) -> str:
    if not told or not told.get("speed"):
        return "–"
    return f"{units.amount(told['speed'])} {told.get('unit', '')}/s"


def left(told: dict[str, Any] | None) -> str:
    """How long the stage still takes at this speed."""
    if not told or not told.get("speed"):
        return "–"
    return units.duration((told["total"] - told["done"]) / told["speed"])


def change(headline: dict[str, Any] | None, role: str) -> str:
    """``-22.3 %`` bits per byte, where it was measured."""
    found = (headline or {}).get(role)
    percent = found.get("percent") if isinstance(found, dict) else None
    return f"{percent:+.1f} %".replace("-", "−") if isinstance(percent, int | float) else "–"
