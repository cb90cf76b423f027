"""One version of a model: its scores, its origin, its files, and all that may be done with it."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

from nicegui import ui

from rewarm.core.errors import NotFound
from rewarm.studio.context import Role
from rewarm.studio.service import models, runs
from rewarm.studio.service.models import VersionDetail
from rewarm.studio.ui import units
from rewarm.studio.ui.model import actions
from rewarm.studio.ui.parts.lineage import Lineage
from rewarm.studio.ui.parts.results import results
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command, heading, section
from rewarm.studio.ui.parts.transfers import transfers_of
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/models/{reference}", "models.version")
async def version(visit: Visit, reference: str) -> None:
    found = await visit.read(models.show, reference)
    heading(found.model, " · ".join(filter(None, [found.base or found.imported, visit.date(found.created)])))
    if found.damaged:
        ui.label(f"{visit.say('model.damaged')}: {found.damaged}").classes("rw-state-failed")
    for name in [*found.aliases, *(f"{key}: {value}" for key, value in found.tags.items())]:
        ui.label(name).classes("rw-chip")
    _offers(visit, found)
    await transfers_of(visit, found.model)
    await _results(visit, found)
    graph = await visit.read(models.graph, found.model)
    section(visit.say("model.lineage"))
    Lineage(visit, visit.say("model.lineage"), graph.nodes, graph.edges, f"version:{found.model}")
    command(visit, f"rewarm models lineage {found.model}")
    _files(visit, found)
    if found.card:
        section(visit.say("model.card"))
        ui.label(found.card).classes("rw-log rw-code")


def _offers(visit: Visit, found: VersionDetail) -> None:
    with ui.element("div").classes("rw-row rw-act"):
        ui.link(visit.say("model.try"), f"/playground?model={quote(found.model)}").classes("rw-button")
        if visit.may(Role.editor):
            ui.link(visit.say("model.use"), f"/pipelines/new?base_model={quote(found.model)}").classes("rw-button")
            for word, ask in actions.ALL.items():
                danger = " color=negative" if word == "delete" else ""
                ui.button(visit.say(f"model.{word}"), on_click=lambda ask=ask: ask(visit, found)).props(
                    "outline no-caps dense" + danger
                )
    if found.used_by:
        ui.label(f"{visit.say('model.used')}: {', '.join(found.used_by)}").classes("rw-quiet")


async def _results(visit: Visit, found: VersionDetail) -> None:
    """What its report says, which stays when its run is deleted, or trained again for another version."""
    with contextlib.suppress(NotFound):
        report = await visit.read(models.report, found.model)
        section(visit.say("model.results"))
        results(visit, report)
        if (await visit.read(runs.show, found.run or "")).version == found.model:
            ui.link(visit.say("tab.report"), f"/runs/{quote(found.run or '')}?tab=report")


def _files(visit: Visit, found: VersionDetail) -> None:
    section(visit.say("model.files"))
    address = f"/api/v1/models/{quote(found.model)}"
    columns = [
        Column("name", visit.say("model.file"), lambda f: f.name, link=lambda f: f"{address}/files/{quote(f.name)}"),
        Column("size", visit.say("run.size"), lambda f: units.size(f.bytes), number=True),
        Column("sha256", "SHA-256", lambda f: f.sha256[:16]),
    ]
    table(columns, found.files, title=visit.say("model.files"))
    ui.link(f"{visit.say('model.zip')} ({units.size(found.bytes or 0)})", f"{address}/archive").classes("rw-button")
    command(visit, f"rewarm models download {found.model}")
