"""Dialogs: a question with its fields, the command that does the same, and two buttons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from rewarm.studio.ui.parts.text import command, section
from rewarm.studio.ui.visit import Visit


@contextmanager
def busy(button: ui.button) -> Iterator[None]:
    """While what a button began goes on, it says so and cannot be pressed again."""
    button.props("loading").disable()
    try:
        yield
    finally:
        button.props(remove="loading").enable()


@contextmanager
def asking(
    visit: Visit, title: str, word: str, act: Callable[[], Awaitable[Any]], *, danger: bool = False
) -> Iterator[None]:
    """An open dialog whose fields are made inside; ``word`` stands on the button that does ``act``.

    It closes once that is done; where a verb refused, it stays with what was typed.
    """
    with ui.dialog(value=True) as dialog, ui.card().classes("rw-dialog"):
        dialog.props(f'aria-label="{title}"').on("hide", lambda: closed())
        section(title)
        yield
        alert = visit.alert = ui.label().classes("rw-state-failed").props('role="alert"')

        def closed() -> None:
            if visit.alert is alert:  # no other dialog was opened meanwhile
                visit.alert = None
            dialog.delete()

        async def go() -> None:
            alert.text = ""
            with busy(button):
                await act()
                dialog.close()

        with ui.element("div").classes("rw-row rw-act"):
            button = ui.button(word, on_click=go, color="negative" if danger else "primary").props("no-caps")
            ui.button(visit.say("button.cancel"), on_click=dialog.close).props("flat no-caps")


def confirm(
    visit: Visit,
    text: str,
    name: str,
    verb: Callable[..., object],
    line: str,
    target: str,
    word: str = "hub.delete",
    *,
    typed: bool = True,
) -> None:
    """Ask before ``verb(studio, user, name)`` deletes it; then go to ``target``. ``line`` is the equal command, if any.

    With ``typed`` the name is asked for, and given to the verb as well.
    """

    async def act() -> None:
        await visit.call(verb, name, *([field.value or ""] if typed else []))
        ui.navigate.to(target)

    with asking(visit, visit.say(word), visit.say(word), act, danger=True):
        ui.label(text)
        if typed:
            field = ui.input(name).classes("w-full")
        if line:
            command(visit, line)
