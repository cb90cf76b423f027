"""What lies behind a connection: its folders as a tree, and the first documents of a file."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from rewarm.core.errors import NotFound, UserError
from rewarm.studio.context import Role
from rewarm.studio.service import connections
from rewarm.studio.service.connections import EntryInfo
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.dialog import confirm
from rewarm.studio.ui.parts.documents import documents
from rewarm.studio.ui.parts.text import command, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit

MORE = "\0"
"""Begins the id of the line that stands for the rest of a folder; no address has such a character."""
Node = dict[str, Any]


@page("/data/connections/{name}", "hub.connections")
async def connection(visit: Visit, name: str, uri: str = "") -> None:
    known = next((c for c in await visit.read(connections.listed) if c.name == name), None)
    if known is None:
        raise NotFound(f"there is no connection {name[:100]!r}")
    heading(known.name, " · ".join(filter(None, [known.kind, known.endpoint, known.problem])))
    if not visit.may(Role.editor):  # what lies there is for those who may use it
        return
    uri = uri or ("s3://" if known.kind == "s3" else "")
    with ui.element("div").classes("rw-row rw-bar"):
        address = ui.input(visit.say("hub.address"), value=uri).props("dense outlined").classes("rw-search")
        ui.button(visit.say("hub.open"), on_click=lambda: ui.navigate.to(_place(name, address.value or ""))).props(
            "outline no-caps"
        )

        async def test() -> None:
            answered = await visit.call(connections.test, name, address.value or None)
            said = visit.say("hub.test_good", entries=answered.entries, seconds=f"{answered.seconds:.2f} s")
            ui.notify(said, type="positive")

        ui.button(visit.say("hub.test"), on_click=test).props("outline no-caps")
        ui.button(visit.say("hub.delete"), on_click=lambda: _delete(visit, name)).props(
            "outline no-caps color=negative"
        )
    command(visit, f"rewarm connections test {name}")
    if uri:
        await _browse(visit, name, uri)


def _delete(visit: Visit, name: str) -> None:
    line = f"rewarm connections rm {name}"
    confirm(visit, visit.say("hub.delete_connection"), name, connections.delete, line, "/data", typed=False)


def _place(name: str, uri: str) -> str:
    return f"/data/connections/{quote(name)}?uri={quote(uri, safe='')}"


async def _browse(visit: Visit, name: str, uri: str) -> None:
    """Folders open where they stand; a file shows how its documents begin."""
    root = uri if uri.endswith("/") else uri.rpartition("/")[0] + "/"
    folders: dict[str, list[Node]] = {root: [_line(MORE + root, visit.say("hub.loading"))]}
    following: dict[str, str | None] = {}
    """Of a folder that was opened, what its next page begins behind."""
    asked: set[str] = set()

    async def fill(uri: str) -> None:
        """Put what lies there, or more of it, in the place of the line that stood for it."""
        if uri in asked:  # already, by another click
            return
        asked.add(uri)
        try:
            found = await visit.call(connections.browse, name, uri, after=following.get(uri))
        finally:
            asked.discard(uri)
        following[uri] = found.after
        lines = [node(entry) for entry in found.entries]
        if found.after is not None or not lines:
            lines.append(_line(MORE + uri, visit.say("hub.more" if lines else "hub.nothing")))
        folders[uri][-1:] = lines

    def node(entry: EntryInfo) -> Node:
        if entry.bytes is not None:
            return _line(entry.uri, f"{entry.name} · {units.size(entry.bytes)}", "description")
        id = entry.uri.rstrip("/") + "/"
        folders[id] = [_line(MORE + id, visit.say("hub.loading"))]
        return {**_line(id, f"{entry.name}/", "folder"), "children": folders[id], "selectable": False}

    async def expand(event: ValueChangeEventArguments[list[str]]) -> None:
        for id in event.value:
            if id in folders and id not in following:
                await fill(id)
        tree.props["nodes"] = folders[root]  # of which it holds a copy

    async def select(event: ValueChangeEventArguments[str | None]) -> None:
        id = str(event.value or "")
        if id.startswith(MORE):
            await fill(id.removeprefix(MORE))
            tree.props["nodes"] = folders[root]
        elif id:
            line.text = f"rewarm connections preview {name} {shlex.quote(id)}"
            await _preview(visit, shown, name, id)

    await fill(root)
    with ui.element("div").classes("rw-split"):
        with ui.element("div").classes("rw-paper"):
            tree = ui.tree(folders[root], on_select=select, on_expand=expand)
            tree.props(f'aria-label="{visit.say("hub.entry")}" no-transition')
        with ui.element("div").classes("rw-preview").props('role="status"') as shown:
            ui.label(visit.say("hub.choose_file")).classes("rw-quiet")
    line = command(visit, f"rewarm connections browse {name} {shlex.quote(root)}")
    if not uri.endswith("/"):
        await _preview(visit, shown, name, uri)


def _line(id: str, label: str, icon: str = "") -> Node:
    return {"id": id, "label": label, **({"icon": icon} if icon else {})}


async def _preview(visit: Visit, place: ui.element, name: str, uri: str) -> None:
    place.clear()
    with place, ui.element("div") as shown:
        section(uri.rpartition("/")[2])
        waiting = ui.spinner(size="1.6em")
        problem, found = "", None
        try:
            found = await visit.read(connections.preview, name, uri)
        except UserError as error:
            problem = str(error)
        if shown.is_deleted:  # another file was chosen meanwhile
            return
        waiting.delete()
        if found is None:
            ui.label(problem).classes("rw-state-failed")
        else:
            documents(visit, found.documents)
