"""What lies behind a connection: its folders as a tree, and the first documents of a file."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from rewarm.core.errors import UserError
from rewarm.studio.context import Role
from rewarm.studio.service import connections
from rewarm.studio.service.connections import Page
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.dialog import asking
from rewarm.studio.ui.parts.documents import documents
from rewarm.studio.ui.parts.text import command, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit

MORE = "\0more:"
"""Begins the id of what asks for the rest of a folder; no address has such a character."""


@page("/data/connections/{name}", "hub.connections")
async def connection(visit: Visit, name: str, uri: str = "") -> None:
    known = next((c for c in await visit.read(connections.listed) if c.name == name), None)
    if known is None:
        await visit.read(connections.browse, name)  # says that there is none
        return
    heading(known.name, " · ".join(filter(None, [known.kind, known.endpoint, known.problem])))
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
        if visit.may(Role.editor):
            ui.button(visit.say("hub.delete"), on_click=lambda: _delete(visit, name)).props(
                "outline no-caps color=negative"
            )
    command(visit, f"rewarm connections test {name}")
    if uri:
        await _browse(visit, name, uri)


def _delete(visit: Visit, name: str) -> None:
    async def delete() -> None:
        await visit.call(connections.delete, name)
        ui.navigate.to("/data")

    with asking(visit, visit.say("hub.delete"), visit.say("hub.delete"), delete, danger=True):
        ui.label(visit.say("hub.delete_connection"))
        command(visit, f"rewarm connections rm {name}")


def _place(name: str, uri: str) -> str:
    return f"/data/connections/{quote(name)}?uri={quote(uri, safe='')}"


async def _browse(visit: Visit, name: str, uri: str) -> None:
    """Folders open where they stand; a file shows how its documents begin."""
    folder = uri if uri.endswith("/") else uri.rpartition("/")[0] + "/"
    with ui.element("div").classes("rw-split"):
        with ui.element("div").classes("rw-paper"):
            nodes = _nodes(visit, folder, await visit.read(connections.browse, name, folder))
            if not nodes:
                ui.label(visit.say("hub.nothing")).classes("rw-quiet")
            tree = ui.tree(nodes).props(f'aria-label="{visit.say("hub.entry")}" no-transition')
        shown = ui.element("div").classes("rw-preview").props('role="status"')
    line = command(visit, f"rewarm connections browse {name} {shlex.quote(folder)}")

    async def expand(event: ValueChangeEventArguments) -> None:
        for id in event.value:
            node = _find(nodes, id)
            if node and node["children"] and node["children"][0]["id"] == MORE + id:
                await fill(node["children"], id, None)

    async def fill(children: list[dict[str, Any]], uri: str, after: str | None) -> None:
        """Put what lies there in the place of the line that stood for it."""
        found = await visit.call(connections.browse, name, uri, after=after)
        children[-1:] = _nodes(visit, uri, found) or [{"id": f"{MORE}none:{uri}", "label": visit.say("hub.nothing")}]
        tree.props["nodes"] = nodes
        tree.update()

    async def select(event: ValueChangeEventArguments) -> None:
        id = str(event.value or "")
        if id.startswith(MORE):
            around, after = _around(nodes, id)
            await fill(around, id.removeprefix(MORE).rpartition("\0")[0], after)
        elif id and not id.endswith("/"):
            line.text = f"rewarm connections preview {name} {shlex.quote(id)}"
            await _preview(visit, shown, name, id)

    tree.on_expand(expand)
    tree.on_select(select)
    if not uri.endswith("/"):
        await _preview(visit, shown, name, uri)
    else:
        with shown:
            ui.label(visit.say("hub.choose_file")).classes("rw-quiet")


def _nodes(visit: Visit, uri: str, found: Page) -> list[dict[str, Any]]:
    """Entries as a tree has them; a folder holds a line that is replaced when it is opened."""
    made: list[dict[str, Any]] = []
    for entry in found.entries:
        if entry.bytes is None:
            id = entry.uri.rstrip("/") + "/"
            waiting = {"id": MORE + id, "label": visit.say("hub.loading"), "selectable": False}
            made.append(
                {"id": id, "label": f"{entry.name}/", "icon": "folder", "children": [waiting], "selectable": False}
            )
        else:
            made.append(
                {"id": entry.uri, "label": f"{entry.name}  ·  {units.size(entry.bytes)}", "icon": "description"}
            )
    if found.after is not None:
        made.append({"id": f"{MORE}{uri}\0{found.after}", "label": visit.say("hub.more"), "after": found.after})
    return made


def _find(nodes: list[dict[str, Any]], id: str) -> dict[str, Any] | None:
    for node in nodes:
        if node["id"] == id:
            return node
        if (found := _find(node.get("children", []), id)) is not None:
            return found
    return None


def _around(nodes: list[dict[str, Any]], id: str) -> tuple[list[dict[str, Any]], str | None]:
    """The list that ends in the node ``id``, and what follows the last entry in it."""
    if nodes and nodes[-1]["id"] == id:
        return nodes, nodes[-1].get("after")
    return next((found for node in nodes if (found := _around(node.get("children", []), id))[0]), ([], None))


async def _preview(visit: Visit, place: ui.element, name: str, uri: str) -> None:
    place.clear()
    with place:
        section(uri.rpartition("/")[2])
        waiting = ui.spinner(size="1.6em")
        try:
            documents(visit, (await visit.read(connections.preview, name, uri)).documents)
        except UserError as error:
            ui.label(str(error)).classes("rw-state-failed")
        waiting.delete()
