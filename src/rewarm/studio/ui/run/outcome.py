"""Tabs of a run: its report, and what it was started with."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote

import orjson
from nicegui import ui

from rewarm.studio.service import runs
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui.parts.results import results
from rewarm.studio.ui.parts.settings import flat
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command, empty, section, told
from rewarm.studio.ui.visit import Refused, Visit


async def report_tab(visit: Visit, run: RunDetail) -> None:
    if not run.report:
        empty(visit.say("report.none"), visit.say("report.none_next"))
        return
    address = f"/api/v1/runs/{quote(run.id)}/report"

    async def recompute() -> None:
        button.disable()
        said.text = visit.say("report.recomputing")
        try:
            again = await visit.call(runs.recompute, run.id)
            said.text = visit.say("report.recomputed", rows=again.rows, items=f"{again.items:,}")
        except Refused:
            said.text = ""
        button.enable()

    with ui.element("div").classes("rw-row rw-bar"):
        for form in ("html", "md", "json"):
            ui.link(f"{visit.say('report.download')} {form}", f"{address}.{form}?download=true")
        button = ui.button(visit.say("report.recompute"), on_click=recompute).props("outline no-caps dense")
        said = ui.label().classes("rw-state-succeeded").props('role="status"')
    path = await visit.read(runs.report_file, run.id, "json")
    results(visit, orjson.loads(path.read_bytes()))
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
