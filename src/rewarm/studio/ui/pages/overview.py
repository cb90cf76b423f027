"""The first page: what runs, what waits, what failed and why, the machine, and what to do next."""

from __future__ import annotations

from rewarm.studio.service import runs
from rewarm.studio.ui.parts.chart import Chart, line_of
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command, empty, heading
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/", "nav.overview")
async def overview(visit: Visit) -> None:
    heading(visit.say("nav.overview"))
    found = await visit.read(runs.list_runs)
    if not found:
        empty("No runs yet.", "Make a pipeline.", "Create a pipeline", "/pipelines/new")
        command(visit, "rewarm run recipe.yaml")
        return
    columns = [
        Column("id", "Run", lambda row: row.id, link=lambda row: f"/runs/{row.id}"),
        Column("state", "State", lambda row: visit.say(f"state.{row.state}")),
    ]
    table(columns, found, title="Runs")
    Chart(visit, "train/loss", [line_of(found[0].id, "train/loss")], live=True)
