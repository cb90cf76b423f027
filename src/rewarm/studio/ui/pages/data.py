"""The Data Hub: connections, what lies behind them, uploads, and the datasets that runs made of all that."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.element import Element
from pydantic import TypeAdapter, ValidationError

from rewarm.core.connections import Connection
from rewarm.core.errors import UserError
from rewarm.studio.context import Role
from rewarm.studio.service import connections, datasets, uploads
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.dialog import asking, confirm
from rewarm.studio.ui.parts.documents import documents
from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import command, empty, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Refused, Visit

UPLOAD_WORDS = ("upload", "upload_done", "upload_failed", "upload_checking")
FIELDS = {
    "s3": ("endpoint", "region", "access_key", "secret_key"),
    "hf": ("endpoint", "token"),
    "http": ("endpoint", "token"),
}
SECRETS = {"secret_key", "token"}


class Uploading(Element, component="../parts/uploading.js"):
    """A button that sends files into the text ``text``."""

    def __init__(self, visit: Visit, text: str) -> None:
        super().__init__()
        self._props.update(text=text, words={word: visit.say(f"hub.{word}") for word in UPLOAD_WORDS})

    def change(self, text: str) -> None:
        self._props["text"] = text
        self.update()


@page("/data", "nav.data")
async def hub(visit: Visit) -> None:
    heading(visit.say("nav.data"))
    await _connections(visit)
    await _uploads(visit)
    await _datasets(visit)


async def _connections(visit: Visit) -> None:
    section(visit.say("hub.connections"))
    found = await visit.read(connections.listed)
    columns = [
        Column("name", visit.say("hub.name"), lambda c: c.name, link=lambda c: f"/data/connections/{quote(c.name)}"),
        Column("kind", visit.say("hub.kind"), lambda c: c.kind or "–"),
        Column("endpoint", visit.say("hub.endpoint"), lambda c: c.endpoint or "–"),
        Column("problem", visit.say("hub.problem"), lambda c: c.problem or ""),
    ]
    if found:
        table(columns, found, title=visit.say("hub.connections"))
    else:
        empty(visit.say("hub.no_connections"), visit.say("hub.no_connections_next"))
    if visit.may(Role.editor):
        ui.button(visit.say("hub.connect"), on_click=lambda: _connect(visit)).props("no-caps").classes("rw-act")
        command(visit, "rewarm connections add s3 lake --endpoint https://s3.example.com")


def _connect(visit: Visit) -> None:
    """The dialog; a wrong field is named."""

    async def save() -> None:
        values = {f: inputs[f].value for f in FIELDS[kind.value] if inputs[f].value}
        try:
            made: Any = TypeAdapter(Connection).validate_python({"kind": kind.value, **values})
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = next((part for part in reversed(first["loc"]) if part in inputs), "")
            visit.tell(UserError(first["msg"], where=visit.say(f"hub.{field}") if field else None))
            raise Refused from error
        await visit.call(connections.add, name.value or "", made)
        ui.navigate.to(f"/data/connections/{quote(name.value)}")

    with asking(visit, visit.say("hub.connect"), visit.say("hub.save"), save):
        name = ui.input(visit.say("hub.name")).classes("w-full")
        kind = ui.select({"s3": "S3", "hf": "Hugging Face", "http": "HTTP"}, value="s3", label=visit.say("hub.kind"))
        kind.classes("w-full")
        inputs: dict[str, ui.input] = {}
        for field in ("endpoint", "region", "access_key", "secret_key", "token"):
            given = ui.input(visit.say(f"hub.{field}"), password=field in SECRETS).classes("w-full")
            kinds = [key for key, fields in FIELDS.items() if field in fields]
            given.props('autocomplete="off"').bind_visibility_from(kind, "value", kinds.__contains__)
            inputs[field] = given
        ui.label(visit.say("hub.endpoint_help")).classes("rw-quiet")


async def _uploads(visit: Visit) -> None:
    section(visit.say("hub.uploads"))
    columns = [
        Column("text", visit.say("hub.text"), lambda t: t.text, link=lambda t: f"/data/texts/{quote(t.text)}"),
        Column("path", visit.say("hub.path"), lambda t: t.path),
        Column("files", visit.say("hub.files"), lambda t: units.amount(len(t.files)), number=True),
        Column("size", visit.say("run.size"), lambda t: units.size(t.bytes), number=True),
    ]
    found = await visit.read(uploads.texts)
    if found:
        table(columns, found, title=visit.say("hub.uploads"))
    else:
        empty(visit.say("hub.no_uploads"), visit.say("hub.no_uploads_next"))
    if visit.may(Role.editor):
        with ui.element("div").classes("rw-row rw-act"):
            name = ui.input(visit.say("hub.upload_name"), value="text").props("dense outlined")
            sending = Uploading(visit, "text").on("ended", lambda: ui.navigate.reload())
            name.on_value_change(lambda: sending.change(name.value or "text"))
        command(visit, "rewarm data upload FILES... --text NAME")


@page("/data/texts/{text}", "hub.text")
async def uploaded(visit: Visit, text: str) -> None:
    found = await visit.read(uploads.show_text, text)
    heading(found.text, found.path)
    columns = [
        Column("name", visit.say("model.file"), lambda f: f.name),
        Column("size", visit.say("run.size"), lambda f: units.size(f.bytes), number=True),
        Column("by", visit.say("run.by"), lambda f: f.by),
        Column("time", visit.say("hub.made"), lambda f: visit.date(f.time)),
    ]
    table(columns, found.files, title=visit.say("hub.files"))
    if visit.may(Role.editor):
        ui.button(visit.say("hub.delete"), on_click=lambda: _delete(visit, text)).props(
            "outline no-caps color=negative"
        )
    section(visit.say("hub.preview"))
    documents(visit, (await visit.read(uploads.preview_text, text)).documents)  # which a damaged file refuses


def _delete(visit: Visit, text: str) -> None:
    confirm(visit, visit.say("hub.delete_text"), text, uploads.delete_text, "", "/data", typed=False)


async def _datasets(visit: Visit) -> None:
    section(visit.say("hub.datasets"))
    found = (await visit.read(datasets.listed)).datasets
    if not found:
        empty(visit.say("hub.no_datasets"), visit.say("hub.no_datasets_next"))
        return
    columns = [
        Column(
            "dataset",
            visit.say("hub.dataset"),
            lambda d: d.dataset[:12],
            link=lambda d: f"/data/datasets/{quote(d.dataset)}",
        ),
        Column("sources", visit.say("hub.sources"), lambda d: ", ".join(d.sources)),
        Column("documents", visit.say("hub.documents"), lambda d: _count(d.documents), number=True),
        Column("tokens", visit.say("hub.tokens"), lambda d: _count(d.tokens), number=True),
        Column("size", visit.say("run.size"), lambda d: units.size(d.bytes) if d.bytes else "–", number=True),
        Column("made", visit.say("hub.made"), lambda d: visit.date(d.made)),
    ]
    table(columns, found, title=visit.say("hub.datasets"))
    command(visit, "rewarm data ls")


def _count(value: int | None) -> str:
    return "–" if value is None else units.amount(value)
