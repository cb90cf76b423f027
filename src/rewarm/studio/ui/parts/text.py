"""Headings, the command line that does the same, and what an empty place says."""

from __future__ import annotations

from nicegui import ui

from rewarm.studio.ui.visit import Visit


def heading(text: str, under: str = "") -> None:
    """The page's title, and one quiet line under it. Both are text, whatever stands in them."""
    with ui.element("div").classes("rw-head"):
        with ui.element("h1").classes("rw-h1"):
            ui.label(text)
        if under:
            ui.label(under).classes("rw-quiet")


def section(text: str) -> None:
    with ui.element("h2").classes("rw-h2"):
        ui.label(text)


def command(visit: Visit, line: str) -> ui.label:
    """The same action in the terminal, to copy: the text that is copied is the label's."""
    with ui.element("div").classes("rw-command").props(f'role="group" aria-label="{visit.say("command.title")}"'):
        ui.label("$").classes("rw-quiet")
        shown = ui.label(line).classes("rw-code")
        ui.button(icon="content_copy", on_click=lambda: _copy(visit, shown.text)).props(
            f'flat round dense size=sm aria-label="{visit.say("command.copy")}"'
        )
    return shown


def _copy(visit: Visit, line: str) -> None:
    ui.clipboard.write(line)
    ui.notify(visit.say("command.copied"), timeout=1000)


def empty(what: str, next_step: str, action: str = "", target: str = "") -> None:
    """An empty place: what would stand here, and what to do next."""
    with ui.element("div").classes("rw-empty"):
        ui.label(what).classes("rw-h2")
        ui.label(next_step).classes("rw-quiet")
        if action:
            ui.link(action, target).classes("rw-button")


def told(value: object) -> str:
    """What a record says, in a line: ``state: failed · exit_code: 4``."""
    if isinstance(value, dict):
        pairs = ((key, told(one)) for key, one in value.items())
        return " · ".join(f"{key}: {said}" for key, said in pairs if said)
    if isinstance(value, list | tuple):
        return ", ".join(told(one) for one in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def state(visit: Visit, name: str) -> ui.label:
    """A run's state as a word with its colour."""
    return ui.label(visit.say(f"state.{name}")).classes(f"rw-state rw-state-{name}")
