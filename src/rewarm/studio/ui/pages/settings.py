"""Settings: one's own account; for administrators users, notices, storage, rules and the record of who did what."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from pydantic import ValidationError

import rewarm
from rewarm.core.errors import UserError
from rewarm.studio.context import Role
from rewarm.studio.service import audit, connections, housekeeping, notifications, settings
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.form import form
from rewarm.studio.ui.parts.table import Column, refill, table
from rewarm.studio.ui.parts.text import command, heading, section, told
from rewarm.studio.ui.settings import people
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


@page("/settings", "nav.settings")
async def all_settings(visit: Visit, tab: str = "account") -> None:
    heading(visit.say("nav.settings"))
    shown = TABS if visit.may(Role.administrator) else {name: TABS[name] for name in ("account", "storage", "about")}
    tab = tab if tab in shown else "account"
    with ui.element("nav").classes("rw-tabs").props(f'aria-label="{visit.say("nav.settings")}"'):
        for name in shown:
            link = ui.link(visit.say(f"settings.{name}"), f"/settings?tab={name}").classes("rw-tab")
            if name == tab:
                link.props('aria-current="page"')
    await shown[tab](visit)


async def _mail(visit: Visit) -> None:
    kept = await visit.read(notifications.mail_settings)
    value: dict[str, Any] = kept.model_dump(exclude={"has_password"}, exclude_none=True) if kept else {}
    form(notifications.Mail.model_json_schema()["properties"], value, lambda: None)
    password = ui.input(visit.say("settings.password"), password=True).props("dense outlined")

    async def save() -> None:
        await _keep(visit, notifications.NewMail, {**value, "password": password.value or None}, notifications.set_mail)

    ui.button(visit.say("settings.save"), on_click=save).props("no-caps").classes("rw-act")
    with ui.element("div").classes("rw-row rw-act"):
        address = ui.input(visit.say("settings.test_to")).props("dense outlined")

        async def test() -> None:
            await visit.call(notifications.test_mail, address.value or "")
            ui.notify(visit.say("settings.tested"), type="positive")

        ui.button(visit.say("settings.test"), on_click=test).props("outline no-caps")


async def _keep(visit: Visit, model: Any, value: dict[str, Any], verb: Callable[..., Any]) -> Any:
    """Save what a form holds; None where it was refused, which the user has been told."""
    try:
        made = model.model_validate({key: one for key, one in value.items() if one is not None})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        visit.tell(UserError(first["msg"], where=".".join(map(str, first["loc"]))))
        return None
    kept = await visit.call(verb, made)
    ui.notify(visit.say("settings.saved"), type="positive")
    return kept


async def _webhooks(visit: Visit) -> None:
    columns = [
        Column("name", visit.say("hub.name"), lambda w: w.name),
        Column("url", "URL", lambda w: w.url),
        Column("events", visit.say("tab.events"), lambda w: ", ".join(w.events)),
    ]
    found = await visit.read(notifications.list_webhooks)
    shown = table(columns, found, title=visit.say("settings.webhooks"))
    once = ui.label().classes("rw-code")
    value: dict[str, Any] = {}
    form(notifications.Webhook.model_json_schema()["properties"], value, lambda: None)

    async def save() -> None:
        kept = await _keep(visit, notifications.NewWebhook, value, notifications.save_webhook)
        once.text = f"{visit.say('settings.secret')} {kept.secret}" if kept and kept.secret else ""
        await again()

    ui.button(visit.say("settings.save"), on_click=save).props("no-caps").classes("rw-act")
    with ui.element("div").classes("rw-row rw-act"):
        which = ui.select([], label=visit.say("settings.webhooks")).props("dense outlined").style("min-width: 160px")

        async def test() -> None:
            await visit.call(notifications.test_webhook, which.value or "")
            ui.notify(visit.say("settings.tested"), type="positive")

        async def remove() -> None:
            await visit.call(notifications.remove_webhook, which.value or "")
            await again()

        ui.button(visit.say("settings.test"), on_click=test).props("outline no-caps dense")
        ui.button(visit.say("settings.remove"), on_click=remove).props("outline no-caps dense color=negative")

    async def again() -> None:
        found = await visit.read(notifications.list_webhooks)
        refill(shown, columns, found)
        which.set_options([hook.name for hook in found], value=None)

    await again()


async def _storage(visit: Visit) -> None:
    found = await visit.read(housekeeping.overview)
    free, whole, used = (units.size(n) for n in (found.free_bytes, found.disk_bytes, found.workspace_bytes))
    ui.label(visit.say("settings.free", free=free, whole=whole, used=used))
    for warning in found.warnings:
        ui.label(warning).classes("rw-state-failed")
    columns = [
        Column("kind", visit.say("settings.what"), lambda k: k.kind),
        Column("count", visit.say("settings.count"), lambda k: units.amount(k.count), number=True),
        Column("bytes", visit.say("run.size"), lambda k: units.size(k.bytes), number=True),
    ]
    table(columns, found.kinds, title=visit.say("settings.storage"))
    command(visit, "rewarm clean")


async def _rules(visit: Visit) -> None:
    """Whatever is registered as a setting, each with its limits checked."""
    network = await visit.read(connections.network_rules)
    section(visit.say("settings.network"))
    hosts = ui.textarea(value="\n".join(network.allow)).props(
        f'outlined autogrow aria-label="{visit.say("settings.network")}"'
    )
    hosts.classes("w-full")

    async def allow() -> None:
        rules = {"allow": (hosts.value or "").split()}
        await _keep(visit, connections.NetworkRules, rules, connections.set_network_rules)

    ui.button(visit.say("settings.save"), on_click=allow).props("outline no-caps dense")
    for name, value in (await visit.read(settings.list_settings)).items():
        section(name)
        _rule(visit, name, settings.schema(name), value)


def _rule(visit: Visit, name: str, schema: dict[str, Any], value: dict[str, Any]) -> None:
    """A form of the setting's own fields, and of those that one of them holds."""
    form(schema["properties"], value, lambda: None)
    for field, kind in schema["properties"].items():
        if "$ref" in kind:
            ui.label(field).classes("rw-strong")
            form(
                schema["$defs"][kind["$ref"].rpartition("/")[2]]["properties"],
                value.setdefault(field, {}),
                lambda: None,
            )

    async def save() -> None:
        await visit.call(settings.put_setting, name, value)
        ui.notify(visit.say("settings.saved"), type="positive")

    ui.button(visit.say("settings.save"), on_click=save).props("outline no-caps dense")


async def _audit(visit: Visit) -> None:
    columns = [
        Column("time", visit.say("events.time"), lambda e: visit.date(e.time)),
        Column("user", visit.say("settings.user"), lambda e: e.user),
        Column("action", visit.say("settings.action"), lambda e: e.action),
        Column("object", visit.say("settings.object"), lambda e: e.object),
        Column("detail", visit.say("settings.detail"), lambda e: told(e.detail)[:300]),
    ]
    with ui.element("div").classes("rw-row"):
        by = ui.input(visit.say("settings.user")).props("dense outlined clearable debounce=300")
        action = ui.input(visit.say("settings.action")).props("dense outlined clearable debounce=300")
        object = ui.input(visit.say("settings.object")).props("dense outlined clearable debounce=300")
    entries: list[audit.Entry] = []
    shown = table(columns, entries, title=visit.say("settings.audit"))

    async def more() -> None:
        after = entries[-1].id if entries else None
        asked = {"by": by.value or None, "action": action.value or None, "object": object.value or None}
        found = await visit.read(audit.list_audit, **asked, after=after, limit=100)
        entries.extend(found)
        refill(shown, columns, entries)
        button.visible = len(found) == 100

    async def again() -> None:
        entries.clear()
        await more()

    for field in (by, action, object):
        field.on_value_change(again)
    button = ui.button(visit.say("settings.more"), on_click=more).props("flat no-caps")
    await more()


async def _about(visit: Visit) -> None:
    root = visit.studio.workspace.root if visit.may(Role.administrator) else "–"
    ui.label(visit.say("settings.version", version=rewarm.__version__, python=platform.python_version(), root=root))


TABS: dict[str, Callable[[Visit], Awaitable[None]]] = {
    "account": people.account,
    "users": people.users,
    "mail": _mail,
    "webhooks": _webhooks,
    "storage": _storage,
    "rules": _rules,
    "audit": _audit,
    "about": _about,
}
