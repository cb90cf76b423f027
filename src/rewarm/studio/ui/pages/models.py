"""The Model Hub: versions, and of each its scores, origin, files, aliases and card."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
from nicegui import ui

from rewarm.core.errors import NotFound
from rewarm.studio.context import Role
from rewarm.studio.service import models, runs
from rewarm.studio.service.models import VersionDetail
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.runs import change
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, empty, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Refused, Visit


@page("/models", "nav.models", wide=True)
async def hub(visit: Visit) -> None:
    heading(visit.say("nav.models"))
    if not await visit.read(models.list_versions, limit=1):
        empty(visit.say("models.none"), visit.say("models.none_next"), visit.say("overview.create"), "/pipelines/new")
        command(visit, "rewarm models import FOLDER-OR-HUB-ID")
        return
    columns = [
        Column("model", visit.say("models.version"), lambda v: v.model, link=lambda v: f"/models/{quote(v.model)}"),
        Column("aliases", visit.say("models.aliases"), lambda v: ", ".join(v.aliases) or "–"),
        Column("base", visit.say("models.base"), lambda v: v.base or v.imported or "–"),
        Column("gain", visit.say("run.gain"), lambda v: change(v.headline, "gain"), number=True),
        Column("forgetting", visit.say("run.forgetting"), lambda v: change(v.headline, "forgetting"), number=True),
        Column("size", visit.say("run.size"), lambda v: units.size(v.bytes) if v.bytes else "–", number=True),
        Column("tags", visit.say("models.tags"), lambda v: ", ".join(f"{k}={t}" for k, t in v.tags.items()) or "–"),
        Column("created", visit.say("models.created"), lambda v: visit.date(v.created)),
    ]
    search = ui.input(visit.say("models.search")).props("dense outlined clearable debounce=300").classes("rw-search")
    shown = table(columns, [], title=visit.say("nav.models"))

    async def look() -> None:
        refill(shown, columns, await visit.read(models.list_versions, text=search.value or "", limit=200))

    search.on_value_change(look)
    await look()
    command(visit, "rewarm models ls")


@page("/models/{reference}", "models.version")
async def version(visit: Visit, reference: str) -> None:
    found = await visit.read(models.show, reference)
    aliases = " · ".join(filter(None, [found.base or found.imported, visit.date(found.created), *found.aliases]))
    heading(found.model, aliases)
    if found.damaged:
        ui.label(f"{visit.say('model.damaged')}: {found.damaged}").classes("rw-state-failed")
    _actions(visit, found)
    await _results(visit, found)
    await _lineage(visit, found)
    _files(visit, found)
    if found.card:
        section(visit.say("model.card"))
        ui.label(found.card).classes("rw-log rw-code")


def _actions(visit: Visit, found: VersionDetail) -> None:
    with ui.element("div").classes("rw-row"):
        ui.link(visit.say("model.try"), f"/playground?model={quote(found.model)}").classes("rw-button")
        if not visit.may(Role.editor):
            return
        ui.link(visit.say("model.use"), f"/pipelines/new?base_model={quote(found.model)}").classes("rw-button")
        ui.button(visit.say("model.alias"), on_click=lambda: _alias(visit, found)).props("outline no-caps dense")
        ui.button(visit.say("model.delete"), on_click=lambda: _delete(visit, found)).props(
            "outline no-caps dense color=negative"
        )
    if found.used_by:
        ui.label(f"{visit.say('model.used')}: {', '.join(found.used_by)}").classes("rw-quiet")


def _alias(visit: Visit, found: VersionDetail) -> None:
    with ui.dialog(value=True) as dialog, ui.card():
        name = ui.input(visit.say("model.alias_name")).classes("w-full")
        command(visit, f"rewarm models alias {found.model} production")

        async def point() -> None:
            try:
                await visit.call(models.point, found.name, name.value or "", found.number)
            except Refused:
                return
            ui.navigate.reload()

        with ui.element("div").classes("rw-row"):
            ui.button(visit.say("model.set"), on_click=point).props("no-caps")
            ui.button(visit.say("button.cancel"), on_click=dialog.close).props("flat no-caps")


def _delete(visit: Visit, found: VersionDetail) -> None:
    with ui.dialog(value=True) as dialog, ui.card():
        ui.label(visit.say("model.delete_text"))
        typed = ui.input(found.model).classes("w-full")

        async def delete() -> None:
            try:
                await visit.call(models.delete, found.model, typed.value or "")
            except Refused:
                return
            ui.navigate.to("/models")

        with ui.element("div").classes("rw-row"):
            ui.button(visit.say("model.delete"), on_click=delete, color="negative").props("no-caps")
            ui.button(visit.say("button.cancel"), on_click=dialog.close).props("flat no-caps")


async def _results(visit: Visit, found: VersionDetail) -> None:
    """The rows of the report of the run that made it."""
    try:
        path = await visit.read(runs.report_file, found.run or "", "json")
    except NotFound:
        return
    rows = orjson.loads(path.read_bytes())["rows"]
    section(visit.say("model.results"))
    columns = [
        Column("task", visit.say("model.task"), lambda r: f"{r['task']} · {r['metric']}"),
        Column("role", visit.say("model.role"), lambda r: r["role"]),
        Column("base", visit.say("model.before"), lambda r: _figure(r["base"]), number=True),
        Column("result", visit.say("model.after"), lambda r: _figure(r["result"]), number=True),
        Column("change", visit.say("model.change"), lambda r: _figure(r["difference"], sign=True), number=True),
        Column("interval", visit.say("model.interval"), _interval, number=True),
        Column("n", visit.say("model.items"), lambda r: units.amount(r["n"]), number=True),
    ]
    table(columns, rows, title=visit.say("model.results"))
    if found.run:
        ui.link(visit.say("tab.report"), f"/runs/{quote(found.run)}?tab=report")


def _figure(value: float | None, sign: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if sign else ''}.4g}".replace("-", "−")


def _interval(row: dict[str, Any]) -> str:
    low, high = row.get("low"), row.get("high")
    return "–" if low is None or high is None else f"{_figure(low, True)} … {_figure(high, True)}"


async def _lineage(visit: Visit, found: VersionDetail) -> None:
    graph = await visit.read(models.graph, found.model)
    if not graph.nodes:
        return
    section(visit.say("model.lineage"))
    columns = [
        Column("label", visit.say("model.what"), lambda n: n["label"], link=_address),
        Column("kind", visit.say("model.kind"), lambda n: n["kind"]),
    ]
    table(columns, graph.nodes, title=visit.say("model.lineage"))
    command(visit, f"rewarm models lineage {found.model}")


def _address(node: dict[str, str]) -> str:
    places = {"version": "/models/", "run": "/runs/", "dataset": "/data/datasets/"}
    place = places.get(node["kind"])
    return place + quote(node["id"].partition(":")[2]) if place else ""


def _files(visit: Visit, found: VersionDetail) -> None:
    section(visit.say("model.files"))
    address = f"/api/v1/models/{quote(found.model)}"
    columns = [
        Column("name", visit.say("model.file"), lambda f: f.name, link=lambda f: f"{address}/files/{quote(f.name)}"),
        Column("size", visit.say("run.size"), lambda f: units.size(f.bytes), number=True),
        Column("sha256", "SHA-256", lambda f: f.sha256[:16]),
    ]
    table(columns, found.files, title=visit.say("model.files"))
    ui.link(visit.say("model.zip"), f"{address}/archive")
    command(visit, f"rewarm models download {found.model} FOLDER")
