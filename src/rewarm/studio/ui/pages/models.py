"""The Model Hub: all versions, a way in for models from elsewhere, and what is on its way."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote

from nicegui import ui

from rewarm.studio.context import Role
from rewarm.studio.service import models, transfers
from rewarm.studio.service.models import VersionView
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.dialog import asking
from rewarm.studio.ui.parts.runs import change
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, empty, heading
from rewarm.studio.ui.parts.transfers import transfers_of
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/models", "nav.models", wide=True)
async def hub(visit: Visit) -> None:
    heading(visit.say("nav.models"))
    known = await visit.read(models.list_versions, limit=200)
    if visit.may(Role.editor):
        ui.button(visit.say("models.import"), icon="add", on_click=lambda: _import(visit)).props(
            "outline no-caps dense"
        )
    await transfers_of(visit)
    if not known:
        empty(visit.say("models.none"), visit.say("models.none_next"), visit.say("overview.create"), "/pipelines/new")
        command(visit, "rewarm models import FOLDER-OR-HUB-ID --name NAME")
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
    search = (
        ui.input(visit.say("models.search")).props("dense outlined clearable debounce=300").classes("rw-search rw-bar")
    )
    shown = table(columns, known, title=visit.say("nav.models"))

    async def look() -> None:
        found: list[VersionView] = await visit.read(models.list_versions, text=search.value or "", limit=200)
        refill(shown, columns, found)

    search.on_value_change(look)
    ui.timer(5.0, look, immediate=False)
    command(visit, "rewarm models ls")


def _import(visit: Visit) -> None:
    async def begin() -> None:
        await visit.call(transfers.import_model, (source.value or "").strip(), (name.value or "").strip())
        ui.navigate.to("/models")

    def line(_: Any = None) -> str:
        where, called = source.value or "SOURCE", name.value or "NAME"
        return f"rewarm models import {shlex.quote(where)} --name {shlex.quote(called)}"

    with asking(visit, visit.say("models.import"), visit.say("models.import"), begin):
        ui.label(visit.say("models.import_text")).classes("rw-help")
        source = ui.input(visit.say("models.source"), placeholder="HuggingFaceTB/SmolLM2-135M").classes("w-full")
        name = ui.input(visit.say("hub.name"), placeholder="smollm2").classes("w-full")
        shown = command(visit, line())
        for field in (source, name):
            shown.bind_text_from(field, "value", line)
