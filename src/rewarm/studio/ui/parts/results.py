"""Before and after: the two numbers at the head of a report, and its table."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from nicegui import ui

from rewarm.report import words
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import section
from rewarm.studio.ui.visit import Visit

HEADS = ("task", "role", "metric", "before", "after", "change", "interval", "percent", "items")


def results(visit: Visit, report: Mapping[str, Any]) -> None:
    """Of a report, or of what ``compare`` answers: gain and forgetting, every row, and the tables of tasks."""
    with ui.element("div").classes("rw-figures"):
        for line in words.headlines(report):
            with ui.element("div").classes("rw-paper"):
                ui.label(visit.say(f"run.{line.role}")).classes("rw-quiet")
                bad = line.role == "forgetting" and not line.calm
                ui.label(line.figure).classes("rw-figure" + (" rw-state-failed" if bad else ""))
                ui.label(line.interval).classes("rw-help")
                ui.label(line.text).classes("rw-help")
    columns = [Column(name, visit.say(f"model.{name}"), itemgetter(at), number=at > 2) for at, name in enumerate(HEADS)]
    table(columns, [words.result_cells(row) for row in report["rows"]], title=visit.say("model.results"))
    for title, heads, cells in words.task_tables(report["rows"]):
        section(title)
        named = [Column(f"c{at}", head, itemgetter(at), number=at > 0) for at, head in enumerate(heads)]
        table(named, cells, title=title)
