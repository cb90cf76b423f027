"""The dialogs of a version: its aliases and their gates, its tags, and the ways out."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from nicegui import ui

from rewarm.core.errors import UserError
from rewarm.hub.aliases import Alias, Demands
from rewarm.studio.context import Role
from rewarm.studio.service import connections, models, transfers
from rewarm.studio.service.models import VersionDetail
from rewarm.studio.ui.parts.dialog import asking, confirm
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command
from rewarm.studio.ui.visit import Refused, Visit

Ask = Callable[[Visit, VersionDetail], Any]


async def alias(visit: Visit, found: VersionDetail) -> None:
    """Move an alias here, take one away, and, for an administrator, set what it demands."""
    known = await visit.call(models.list_aliases, found.name)

    async def point() -> None:
        await visit.call(models.point, found.name, name.value or "", found.number)
        ui.navigate.reload()

    async def unpoint(gone: str) -> None:
        await visit.call(models.unpoint, found.name, gone)
        ui.navigate.reload()

    def line(value: Any) -> str:
        return f"rewarm models alias {found.model} {shlex.quote(value or 'production')}"

    with asking(visit, visit.say("model.alias"), visit.say("model.set"), point):
        if known:
            columns = [
                Column("alias", visit.say("models.aliases"), lambda row: row[0]),
                Column("version", visit.say("models.version"), lambda row: str(row[1].version or "–"), number=True),
                Column("gate", visit.say("model.gate"), lambda row: _demanded(visit, row[1].demands)),
            ]
            table(columns, sorted(known.items()), title=visit.say("models.aliases"))
        for one in found.aliases:
            ui.button(visit.say("model.unalias", alias=one), on_click=lambda one=one: unpoint(one)).props(
                "flat dense no-caps color=negative"
            )
        name = ui.input(visit.say("model.alias_name"), autocomplete=sorted(known)).classes("w-full")
        command(visit, line("")).bind_text_from(name, "value", line)
        if visit.may(Role.administrator):
            _gate(visit, found, name, known)


def _demanded(visit: Visit, demands: Demands) -> str:
    gain, forgetting = demands.least_gain, demands.most_forgetting
    parts = [f"{visit.say('run.gain')} > {gain:g} %" if gain is not None else ""]
    parts.append(f"{visit.say('run.forgetting')} ≤ {forgetting:g} %" if forgetting is not None else "")
    return " · ".join(filter(None, parts)) or "–"


def _gate(visit: Visit, found: VersionDetail, name: ui.input, known: dict[str, Alias]) -> None:
    with ui.expansion(visit.say("model.gate")).classes("w-full"):
        ui.label(visit.say("model.gate_text")).classes("rw-help")
        gain = ui.number(visit.say("model.least_gain"), suffix="%").classes("w-full")
        forgetting = ui.number(visit.say("model.most_forgetting"), suffix="%").classes("w-full")

        def fill() -> None:
            demands = known.get(name.value or "", Alias()).demands
            gain.value, forgetting.value = demands.least_gain, demands.most_forgetting

        async def demand() -> None:
            demands = Demands(least_gain=gain.value, most_forgetting=forgetting.value)
            await visit.call(models.demand, found.name, name.value or "", demands)
            ui.notify(visit.say("settings.saved"), type="positive")

        name.on_value_change(fill)
        ui.button(visit.say("model.set_gate"), on_click=demand).props("outline no-caps dense")
        command(visit, f"rewarm models gate {found.name} ALIAS --gain 5 --forgetting 1")


def tags(visit: Visit, found: VersionDetail) -> None:
    async def keep() -> None:
        lines = [line.partition("=") for line in (text.value or "").splitlines() if line.strip()]
        if wrong := next((key for key, equals, _ in lines if not equals), None):
            visit.tell(UserError("write a tag as name=value", where=wrong))
            raise Refused
        await visit.call(models.tag, found.model, {key.strip(): value.strip() for key, _, value in lines})
        ui.navigate.reload()

    with asking(visit, visit.say("model.tags"), visit.say("hub.save"), keep):
        shown = "\n".join(f"{key}={value}" for key, value in found.tags.items())
        text = ui.textarea(visit.say("model.tags_text"), value=shown, placeholder="language=vi").classes("w-full")
        command(
            visit, f'curl -sX PUT "$URL/api/v1/models/{found.model}/tags" -H "$AUTH" --json \'{{"language": "vi"}}\''
        )


async def push(visit: Visit, found: VersionDetail) -> None:
    hubs = [known.name for known in await visit.call(connections.listed) if known.kind == "hf"]

    async def begin() -> None:
        await visit.call(transfers.push, found.model, target.value or "", connection.value, bool(public.value))
        ui.notify(visit.say("transfer.running"))

    def line(_: Any = None) -> str:
        options = f" --connection {connection.value}" if connection.value else ""
        options += " --public" if public.value else ""
        return f"rewarm models push {found.model} {shlex.quote(target.value or 'team/name')}{options}"

    with asking(visit, visit.say("model.push"), visit.say("model.push"), begin):
        if not hubs:
            ui.label(visit.say("model.push_none")).classes("rw-state-paused")
        target = ui.input(visit.say("model.hub_id"), placeholder=f"team/{found.name}").classes("w-full")
        connection = ui.select(hubs, value=next(iter(hubs), None), label=visit.say("wizard.connection")).classes(
            "w-full"
        )
        public = ui.checkbox(visit.say("model.public"))
        shown = command(visit, line())
        for field in (target, connection, public):
            shown.bind_text_from(field, "value", line)


def gguf(visit: Visit, found: VersionDetail) -> None:
    async def begin() -> None:
        await visit.call(transfers.export_gguf, found.model, kind.value)
        ui.notify(visit.say("transfer.running"))

    with asking(visit, visit.say("model.gguf"), visit.say("model.gguf"), begin):
        ui.label(visit.say("model.gguf_text")).classes("rw-help")
        kinds = {"q8_0": "q8_0 · 8 bit", "f16": "f16 · 16 bit", "bf16": "bf16 · 16 bit", "f32": "f32 · 32 bit"}
        kind = ui.select(kinds, value="f16", label=visit.say("model.kind")).classes("w-full")
        command(visit, "").bind_text_from(
            kind, "value", lambda k: f"rewarm models gguf {found.model} {found.name}-{found.number}-{k}.gguf --type {k}"
        )


def delete(visit: Visit, found: VersionDetail) -> None:
    if found.used_by:
        visit.tell(UserError(f"{visit.say('model.used')}: {', '.join(found.used_by)}", where=found.model))
        return
    line = f'curl -sX DELETE "$URL/api/v1/models/{found.model}?confirm={found.model}" -H "$AUTH"'
    confirm(visit, visit.say("model.delete_text"), found.model, models.delete, line, "/models")


ALL: dict[str, Ask] = {"alias": alias, "tags": tags, "push": push, "gguf": gguf, "delete": delete}
"""By the word of their button."""
