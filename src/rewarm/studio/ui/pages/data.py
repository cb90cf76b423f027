"""The Data Hub: connections, what lies behind them, uploads, and the datasets that runs made of all that."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
from nicegui import ui
from nicegui.element import Element
from pydantic import TypeAdapter, ValidationError

from rewarm.core.connections import Connection
from rewarm.core.errors import UserError
from rewarm.studio.context import Role
from rewarm.studio.service import connections, datasets, uploads
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.table import Column, refill, table
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
    """The dialog: kept only when the server answered to a test, or the user insists by saving."""
    with ui.dialog(value=True) as dialog, ui.card().classes("rw-dialog"):
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

        async def save() -> None:
            values = {f: inputs[f].value for f in FIELDS[kind.value] if inputs[f].value}
            try:
                made: Any = TypeAdapter(Connection).validate_python({"kind": kind.value, **values})
            except ValidationError as error:
                first = error.errors(include_input=False)[0]
                field = next((part for part in reversed(first["loc"]) if part in inputs), "")
                visit.tell(UserError(first["msg"], where=visit.say(f"hub.{field}") if field else None))
                return
            try:
                await visit.call(connections.add, name.value or "", made)
            except Refused:
                return
            ui.navigate.to(f"/data/connections/{quote(name.value)}")

        with ui.element("div").classes("rw-row"):
            ui.button(visit.say("hub.save"), on_click=save).props("no-caps")
            ui.button(visit.say("button.cancel"), on_click=dialog.close).props("flat no-caps")


@page("/data/connections/{name}", "hub.connections")
async def connection(visit: Visit, name: str, uri: str = "") -> None:
    known = next((c for c in await visit.read(connections.listed) if c.name == name), None)
    if known is None:
        await visit.read(connections.browse, name)  # says that there is none
        return
    heading(known.name, " · ".join(filter(None, [known.kind, known.endpoint, known.problem])))
    uri = uri or ("s3://" if known.kind == "s3" else "")
    with ui.element("div").classes("rw-row"):
        address = ui.input(visit.say("hub.address"), value=uri).props("dense outlined").classes("rw-search")
        ui.button(visit.say("hub.open"), on_click=lambda: ui.navigate.to(_place(name, address.value or ""))).props(
            "outline no-caps"
        )

        async def test() -> None:
            try:
                answered = await visit.call(connections.test, name, address.value or None)
            except Refused:
                return
            said = visit.say("hub.test_good", entries=answered.entries, seconds=f"{answered.seconds:.2f} s")
            ui.notify(said, type="positive")

        ui.button(visit.say("hub.test"), on_click=test).props("outline no-caps")
    command(visit, f"rewarm connections test {name}")
    if uri:
        await _browse(visit, name, uri)


def _place(name: str, uri: str) -> str:
    return f"/data/connections/{quote(name)}?uri={quote(uri, safe='')}"


async def _browse(visit: Visit, name: str, uri: str) -> None:
    """A folder as a table, a file as its first documents."""
    if not uri.endswith("/"):
        section(visit.say("hub.preview"))
        found = await visit.read(connections.preview, name, uri)
        _documents(found.documents)
        return
    listing = await visit.read(connections.browse, name, uri)
    entries = list(listing.entries)
    columns = [
        Column("name", visit.say("hub.entry"), lambda e: e.name + ("" if e.bytes is not None else "/"),
               link=lambda e: _place(name, e.uri if e.bytes is not None else e.uri.rstrip("/") + "/")),
        Column("size", visit.say("run.size"), lambda e: "" if e.bytes is None else units.size(e.bytes), number=True),
    ]  # fmt: skip
    if uri.count("/") > 2 and (above := uri.rstrip("/").rpartition("/")[0] + "/") != "s3://":
        ui.link(visit.say("hub.up"), _place(name, above))
    shown = table(columns, entries, title=uri)

    async def more() -> None:
        nonlocal listing
        listing = await visit.call(connections.browse, name, uri, after=listing.after)
        entries.extend(listing.entries)
        refill(shown, columns, entries)
        button.visible = listing.after is not None

    button = ui.button(visit.say("hub.more"), on_click=more).props("flat no-caps")
    button.visible = listing.after is not None


def _documents(found: list[dict[str, Any]]) -> None:
    for document in found:
        text = document.get("text")
        ui.label(text if isinstance(text, str) else str(document)).classes("rw-log rw-code rw-short")


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
    section(visit.say("hub.preview"))
    _documents((await visit.read(uploads.preview_text, text)).documents)
    if visit.may(Role.editor):

        async def delete() -> None:
            try:
                await visit.call(uploads.delete_text, text)
            except Refused:
                return
            ui.navigate.to("/data")

        ui.button(visit.say("hub.delete"), on_click=delete).props("outline no-caps color=negative")


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


@page("/data/datasets/{hash}", "hub.dataset")
async def dataset(visit: Visit, hash: str) -> None:
    found = await visit.read(datasets.show, hash)
    heading(f"{visit.say('hub.dataset')} {found.dataset[:12]}", visit.date(found.made))
    for note in found.notes:
        ui.label(note).classes("rw-quiet")
    columns = [
        Column("what", visit.say("hub.step"), lambda row: row[0]),
        Column("documents", visit.say("hub.documents"), lambda row: f"{row[1]:,}", number=True),
    ]
    for text in found.texts:
        section(f"{text.name}: {visit.say('hub.waterfall')}")
        table(columns, text.waterfall, title=text.name)
        if samples := text.figures.get("samples"):
            with ui.expansion(visit.say("hub.samples")).classes("w-full"):
                ui.label(orjson.dumps(samples, option=orjson.OPT_INDENT_2).decode()).classes("rw-log rw-code")
    used = [*found.used_by.runs, *found.used_by.versions]
    if used:
        ui.label(f"{visit.say('hub.used')}: {', '.join(used)}").classes("rw-quiet")
    command(visit, f"rewarm data show {found.dataset[:12]}")
