"""A dataset: where every document of every text went, what was kept and dropped, and how the tokenizer served it."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from nicegui import ui

from rewarm.report import words
from rewarm.studio.service import datasets
from rewarm.studio.service.datasets import DatasetDetail, TextFigures
from rewarm.studio.ui.parts.dialog import busy
from rewarm.studio.ui.parts.lineage import Lineage
from rewarm.studio.ui.parts.plot import waterfall
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command, heading, section
from rewarm.studio.ui.run.made import segments
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/data/datasets/{hash}", "hub.dataset")
async def dataset(visit: Visit, hash: str) -> None:
    found = await visit.read(datasets.show, hash)
    heading(f"{visit.say('hub.dataset')} {found.dataset[:12]}", visit.date(found.made))
    section(visit.say("hub.sources"))
    heads, rows = words.data_rows([text.figures for text in found.texts])
    columns = [Column(f"c{at}", head, itemgetter(at), number=at > 1) for at, head in enumerate(heads)]
    table(columns, rows, title=visit.say("hub.sources"))
    for note in found.notes:
        ui.label(note).classes("rw-help")
    section(visit.say("hub.waterfall"))
    with ui.element("div").classes("rw-grid"):
        for text in found.texts:
            with ui.element("div"):
                ui.label(text.name).classes("rw-strong")
                waterfall(f"{text.name}: {visit.say('hub.waterfall')}", text.waterfall)
    _dropped(visit, found.texts)
    _kept(visit, found)
    section(visit.say("model.lineage"))
    graph = await visit.read(datasets.lineage, hash)
    Lineage(visit, visit.say("model.lineage"), graph["nodes"], graph["edges"], f"dataset:{found.dataset}")
    command(visit, f"rewarm data show {found.dataset[:12]}")


def _dropped(visit: Visit, texts: list[TextFigures]) -> None:
    """A few documents of each rule that dropped some."""
    samples = [
        (text.name, rule, f"{one.get('file', '')}:{one.get('line', '')}", str(one.get("text", "")))
        for text in texts
        for rule, some in text.figures.get("samples", {}).items()
        for one in some
    ]
    if samples:
        section(visit.say("hub.dropped"))
        titles = (visit.say("hub.text"), visit.say("hub.rule"), visit.say("hub.begins"), visit.say("hub.where"))
        columns = [Column(f"c{at}", title, itemgetter(at)) for at, title in zip((0, 1, 3, 2), titles, strict=True)]
        table(columns, samples, title=visit.say("hub.dropped"))


def _kept(visit: Visit, found: DatasetDetail) -> None:
    section(visit.say("hub.rows"))
    place = ui.element("div")

    async def show() -> None:
        with busy(button):
            rows: list[list[dict[str, Any]]] = await visit.call(datasets.rows, found.dataset, 2)
        button.visible = False
        with place:
            for row in rows:
                segments(row)

    button = ui.button(visit.say("hub.show_rows"), on_click=show).props("outline no-caps dense")
    command(visit, f"rewarm data show {found.dataset[:12]} --rows 2")
