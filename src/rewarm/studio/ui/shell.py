"""The frame around every page: navigation, language, theme, and what a page does while its text is read.

A page is ``@page("/runs/{run}", "runs.title")`` over an async function that gets its ``Visit`` (and what stands in the
address) and fills the page. What a verb refuses meanwhile is shown in the page's place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui
from starlette.requests import Request

from rewarm.core.errors import NotFound, UserError
from rewarm.studio.ui.parts.text import heading
from rewarm.studio.ui.visit import Refused, Visit
from rewarm.studio.ui.words import COOKIE as LANGUAGE
from rewarm.studio.ui.words import LANGUAGES

NAVIGATION = [
    ("nav.overview", "/"),
    ("nav.data", "/data"),
    ("nav.pipelines", "/pipelines"),
    ("nav.runs", "/runs"),
    ("nav.compare", "/compare"),
    ("nav.models", "/models"),
    ("nav.playground", "/playground"),
    ("nav.settings", "/settings"),
]
Body = Callable[..., Awaitable[None]]
for field in (ui.input, ui.select, ui.number):
    field.default_props("outlined dense")
ui.textarea.default_props("outlined")
ui.button.default_props("no-caps unelevated")


def page(path: str, title: str, wide: bool = False) -> Callable[[Body], Body]:
    """Serve ``body(visit, ...)`` at ``path``; ``title`` is a key of the words."""

    def decorate(body: Body) -> Body:
        parameters = list(inspect.signature(body, eval_str=True).parameters.values())[1:]

        @functools.wraps(body)
        async def serve(request: Request, **values: Any) -> None:
            visit = Visit(request)
            ui.page_title(f"{visit.say(title)} · Rewarm")
            with _frame(visit, path, wide):
                try:
                    await body(visit, **values)
                except Refused:
                    pass
                except UserError as error:
                    _refusal(visit, error)

        asked = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        serve.__signature__ = inspect.Signature([*parameters, asked])  # type: ignore[attr-defined]
        serve.__annotations__ = {p.name: p.annotation for p in [*parameters, asked]}
        del serve.__wrapped__
        ui.page(path, response_timeout=30)(serve)
        return body

    return decorate


@contextmanager
def _frame(visit: Visit, path: str, wide: bool) -> Iterator[None]:
    ui.add_head_html('<link rel="stylesheet" href="/static/rewarm.css"><script src="/static/page.js"></script>')
    ui.add_head_html(f"<script>document.documentElement.lang = '{visit.language}'</script>")  # one of our languages
    ui.dark_mode(visit.dark)
    drawer = ui.left_drawer(value=None, bordered=True).props("width=200 breakpoint=900 no-swipe-open")
    with drawer.classes("rw-nav"), ui.element("nav").props(f'aria-label="{visit.say("nav.menu")}"'):
        for key, target in NAVIGATION:
            here = target == "/" == path or (target != "/" and path.startswith(target))
            link = ui.link(visit.say(key), target).classes("rw-nav-link")
            if here:
                link.props('aria-current="page"')
    with ui.header(bordered=True).classes("rw-header"):
        ui.button(icon="menu", on_click=drawer.toggle).props(
            f'flat round dense aria-label="{visit.say("nav.menu")}"'
        ).classes("rw-menu")
        with ui.link(target="/").classes("rw-brand"):
            ui.element("img").props('src="/static/icon.svg" alt="" width="22" height="22"')
            ui.label("Rewarm")
        ui.space()
        _language(visit)
        theme = ui.button(icon="contrast").props(f'flat round dense aria-label="{visit.say("nav.theme")}"')
        theme.on("click", js_handler="() => turnTheme()")
        with ui.button(visit.user.name, icon="person").props("flat dense no-caps"), ui.menu():
            ui.menu_item(visit.say("nav.sign_out"), on_click=_sign_out)
    with ui.element("div").classes("rw-page rw-wide" if wide else "rw-page"):
        yield


def _language(visit: Visit) -> None:
    def choose(language: str) -> None:
        ui.run_javascript(f"document.cookie='{LANGUAGE}={language}; path=/; max-age=31536000; samesite=lax'")
        ui.navigate.reload()

    with ui.button(visit.language.upper()).props(f'flat dense aria-label="{visit.say("nav.language")}"'), ui.menu():
        for key, (name, _) in LANGUAGES.items():
            ui.menu_item(name, on_click=functools.partial(choose, key))


def _sign_out() -> None:
    ui.run_javascript(
        "fetch('/api/v1/session', {method: 'DELETE', headers: {'Content-Type': 'application/json'}})"
        ".finally(() => location.assign('/sign-in'))"
    )


def _refusal(visit: Visit, error: UserError) -> None:
    """In the place of a page that cannot be shown."""
    heading(visit.say("error.not_found" if isinstance(error, NotFound) else "error.title"), str(error))
