"""Who may come in: one's own password and tokens, and, for administrators, all users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from rewarm.studio.context import Role
from rewarm.studio.service import accounts
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, section
from rewarm.studio.ui.visit import Visit


async def account(visit: Visit) -> None:
    section(visit.say("settings.password"))
    with ui.element("div").classes("rw-row"):
        old = ui.input(visit.say("settings.old"), password=True).props("dense outlined")
        new = ui.input(visit.say("settings.new"), password=True).props("dense outlined")

        async def set_password() -> None:
            await visit.call(accounts.set_password, new.value or "", old.value or None, visit.session or "")
            old.value = new.value = ""
            ui.notify(visit.say("settings.saved"), type="positive")

        ui.button(visit.say("settings.set"), on_click=set_password).props("no-caps")
    command(visit, f"rewarm studio password {visit.user.name}")
    section(visit.say("settings.tokens"))
    await _tokens(visit)


async def _tokens(visit: Visit) -> None:
    columns = [
        Column("name", visit.say("settings.token_name"), lambda t: t.name),
        Column("role", visit.say("settings.role"), lambda t: t.role),
        Column("expires", visit.say("settings.expires"), lambda t: visit.date(t.expires) if t.expires else "–"),
        Column("used", visit.say("settings.used"), lambda t: visit.date(t.used) if t.used else "–"),
    ]
    found = await visit.read(accounts.list_tokens)
    shown = table(columns, found, title=visit.say("settings.tokens"))
    once = ui.label().classes("rw-code")
    with ui.element("div").classes("rw-row rw-act"):
        name = ui.input(visit.say("settings.token_name"), value="program").props("dense outlined")
        roles = [role for role in Role if visit.may(role)]
        role = ui.select({r: r.value for r in roles}, value=roles[0], label=visit.say("settings.role"))
        days = ui.number(visit.say("settings.days"), min=0.01).props("dense outlined")

        async def make() -> None:
            made = await visit.call(accounts.add_token, name.value or "", role.value, days.value)
            once.text = f"{visit.say('settings.once')} {made.token}"
            await again()

        ui.button(visit.say("settings.make"), on_click=make).props("no-caps")
    with ui.element("div").classes("rw-row") as removing:
        gone = ui.select({}, label=visit.say("settings.tokens")).props("dense outlined").style("min-width: 160px")

        async def remove() -> None:
            if gone.value is None:
                return
            await visit.call(accounts.remove_token, gone.value)
            await again()

        ui.button(visit.say("settings.remove"), on_click=remove).props("outline no-caps color=negative")

    async def again() -> None:
        found = await visit.read(accounts.list_tokens)
        refill(shown, columns, found)
        gone.set_options({token.id: token.name for token in found}, value=None)
        removing.visible = bool(found)

    await again()
    command(visit, f"rewarm studio token {visit.user.name}")


async def users(visit: Visit) -> None:
    columns = [
        Column("name", visit.say("settings.user"), lambda u: u.name),
        Column("role", visit.say("settings.role"), lambda u: u.role),
        Column("email", visit.say("settings.email"), lambda u: u.email or "–"),
        Column("state", visit.say("run.state"), lambda u: visit.say("settings.disabled") if u.disabled else ""),
        Column("created", visit.say("models.created"), lambda u: visit.date(u.created)),
    ]
    shown = table(columns, [], title=visit.say("settings.users"))
    once = ui.label().classes("rw-code")
    roles = {role: role.value for role in Role}
    with ui.element("div").classes("rw-row rw-act"):
        name = ui.input(visit.say("settings.user")).props("dense outlined")
        email = ui.input(visit.say("settings.email")).props("dense outlined")
        role = ui.select(roles, value=Role.editor, label=visit.say("settings.role")).props("dense outlined")

        async def add() -> None:
            await act(accounts.add_user, name.value or "", role.value, email.value or None)

        ui.button(visit.say("settings.add_user"), on_click=add).props("no-caps")
    with ui.element("div").classes("rw-row"):
        who = ui.select([], label=visit.say("settings.user")).props("dense outlined").style("min-width: 160px")
        other = ui.select(roles, label=visit.say("settings.role")).props("dense outlined").style("min-width: 140px")
        for word, verb in (
            ("set", lambda: act(accounts.change_user, who.value, other.value)),
            ("link", lambda: act(accounts.new_link, who.value)),
            ("disable", lambda: act(accounts.change_user, who.value, None, True)),
            ("enable", lambda: act(accounts.change_user, who.value, None, False)),
        ):
            ui.button(visit.say(f"settings.{word}"), on_click=verb).props("outline no-caps dense")

    async def act(verb: Callable[..., Any], *arguments: Any) -> None:
        if arguments[0] is None:
            return
        made = await visit.call(verb, *arguments)
        once.text = f"{visit.say('settings.once')} {made.url}" if isinstance(made, accounts.Link) else ""
        await again()

    async def again() -> None:
        found = await visit.read(accounts.list_users)
        refill(shown, columns, found)
        who.set_options([user.name for user in found], value=who.value)

    await again()
    command(visit, "rewarm studio link USER")
