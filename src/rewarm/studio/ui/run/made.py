"""Tabs of a run: what it read and made. Its checkpoints, its data, its report, its configuration."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote

from nicegui import ui

from rewarm.core.errors import UserError
from rewarm.core.states import LIVE
from rewarm.report import words
from rewarm.studio.context import Role
from rewarm.studio.service import runs
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.dialog import asking, busy
from rewarm.studio.ui.parts.results import results
from rewarm.studio.ui.parts.settings import flat
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command, empty, section, told
from rewarm.studio.ui.run.actions import resume
from rewarm.studio.ui.visit import Visit


async def checkpoints_tab(visit: Visit, run: RunDetail) -> None:
    found = (await visit.read(runs.checkpoints, run.id))[::-1]
    if not found:
        empty(visit.say("checkpoints.none"), visit.say("checkpoints.none_next"))
        return
    columns = [
        Column("name", visit.say("checkpoints.name"), lambda row: row.name),
        Column("step", visit.say("checkpoints.step"), lambda row: units.amount(row.step), number=True),
        Column("size", visit.say("run.size"), lambda row: units.size(row.bytes), number=True),
    ]
    if visit.may(Role.editor):
        with ui.element("div").classes("rw-row rw-bar"):
            names = [row.name for row in found]
            chosen = ui.select(names, value=names[0], label=visit.say("checkpoints.name")).props("outlined dense")
            ui.button(visit.say("checkpoints.export"), on_click=lambda: _export(visit, run, str(chosen.value))).props(
                "outline no-caps"
            )
            if run.state not in LIVE:
                go_on = ui.button(visit.say("checkpoints.resume")).props("outline no-caps")
                go_on.on_click(lambda: resume(visit, run, str(chosen.value)))
    table(columns, found, title=visit.say("tab.checkpoints"))
    command(visit, f"rewarm runs show {run.id}")


def _export(visit: Visit, run: RunDetail, checkpoint: str) -> None:
    async def export() -> None:
        ui.notify(visit.say("checkpoints.exporting"))
        path = await visit.call(runs.export, run.id, checkpoint)
        shown = path.relative_to(visit.studio.workspace.root)
        ui.notify(visit.say("checkpoints.exported", path=shown), timeout=0, close_button=visit.say("button.close"))

    with asking(visit, visit.say("checkpoints.export"), visit.say("checkpoints.export"), export):
        ui.label(visit.say("checkpoints.export_text"))
        command(visit, f"rewarm models export {run.id} FOLDER --checkpoint {checkpoint}")


async def data_tab(visit: Visit, run: RunDetail) -> None:
    """What an update reads, as the model sees it: a block for each part of a document, which sees no other."""
    with ui.element("div").classes("rw-row rw-bar"):
        step = ui.number(visit.say("data.step"), value=1, min=1, precision=0).props("outlined dense").classes("rw-step")
        button = ui.button(visit.say("hub.open"), on_click=lambda: look()).props("outline no-caps")
    place = ui.element("div")
    command(visit, "").bind_text_from(step, "value", lambda n: f"rewarm runs data {run.id} --step {int(n or 1)}")

    async def look() -> None:
        place.clear()
        with busy(button), place:
            try:
                _update(visit, await visit.read(runs.documents, run.id, int(step.value or 1)))
            except UserError as error:
                empty(error.what, error.remedy or "")

    ui.timer(0, look, once=True)


def _update(visit: Visit, found: dict[str, Any]) -> None:
    tokens = sum(part["end"] - part["begin"] for part in found["documents"])
    section(visit.say("data.update", step=found["step"], tokens=units.amount(tokens)))
    if not found["kept"]:
        ui.label(visit.say("data.not_kept")).classes("rw-state-paused")
    segments(found["documents"])


def segments(parts: list[dict[str, Any]]) -> None:
    """Parts of documents, each with where it comes from."""
    for part in parts:
        with ui.element("div").classes("rw-segment"):
            ui.label(words.segment_title(part)).classes("rw-help")
            ui.label(part["text"]).classes("rw-code")


async def report_tab(visit: Visit, run: RunDetail) -> None:
    if not run.report:
        empty(visit.say("report.none"), visit.say("report.none_next"))
        return
    address = f"/api/v1/runs/{quote(run.id)}/report"

    async def recompute() -> None:
        said.text = ""
        with busy(button):
            again = await visit.call(runs.recompute, run.id)
            said.text = visit.say("report.recomputed", rows=again.rows, items=f"{again.items:,}")

    with ui.element("div").classes("rw-row rw-bar"):
        for form in ("html", "md", "json"):
            ui.link(f"{visit.say('report.download')} {form}", f"{address}.{form}?download=true")
        button = ui.button(visit.say("report.recompute"), on_click=recompute).props("outline no-caps dense")
        said = ui.label().classes("rw-state-succeeded").props('role="status"')
    results(visit, await visit.read(runs.report, run.id))
    command(visit, f"rewarm report {run.id} --recompute")
    section(visit.say("report.whole"))
    frame = ui.element("iframe").classes("rw-report")
    frame.props(f'src="{address}.html" sandbox="allow-scripts" title="{visit.say("tab.report")}"')


async def configuration_tab(visit: Visit, run: RunDetail) -> None:
    frozen = await visit.read(runs.frozen, run.id)
    section(visit.say("configuration.recipe"))
    ui.label(frozen.recipe).classes("rw-log rw-code")
    if frozen.overrides:
        section(visit.say("configuration.overrides"))
        ui.label("\n".join(frozen.overrides)).classes("rw-log rw-code")
    if frozen.resolved:
        _resolved(visit, frozen.resolved)
    command(visit, " ".join(["rewarm", "run", "recipe.yaml", *map(shlex.quote, frozen.overrides)]))


def _resolved(visit: Visit, resolved: dict[str, Any]) -> None:
    """Every hyperparameter with its value and why; then what else was settled: base, data, code, machine."""
    values = resolved.get("hyperparameters", {})
    columns = [
        Column("name", visit.say("compare.setting"), lambda row: row[0]),
        Column("value", visit.say("configuration.value"), lambda row: told(row[1]["value"]) or "–"),
        Column("reason", visit.say("configuration.reason"), lambda row: row[1].get("reason", "")),
    ]
    section(visit.say("configuration.resolved"))
    table(columns, list(values.items()), title=visit.say("configuration.resolved"))
    rest = flat({key: value for key, value in resolved.items() if key != "hyperparameters"})
    facts = [Column("name", visit.say("compare.setting"), lambda row: row[0])]
    facts.append(Column("value", visit.say("configuration.value"), lambda row: told(row[1]) or "–"))
    section(visit.say("configuration.facts"))
    table(facts, list(rest.items()), title=visit.say("configuration.facts"))
