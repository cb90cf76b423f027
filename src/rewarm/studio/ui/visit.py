"""Who looks at a page: asked anew at each action, since a socket outlives a session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nicegui import ui
from starlette.requests import Request

from rewarm.core.errors import UserError
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service.accounts import NotSignedIn, by_session
from rewarm.studio.ui.words import choose_language, name_of, say

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818  (what happened, not a mistake of ours)
    """A verb said no, and the user has been told: what was to follow does not, and nobody has to catch it."""


logging.getLogger("nicegui").addFilter(lambda record: not isinstance(record.msg, Refused))


class Visit:
    """One opened page: its Studio, its user, the language and the zone of the browser."""

    def __init__(self, request: Request) -> None:
        self.studio: Studio = request.state.studio
        self.user: User = request.state.user
        """Who opened the page; ``call`` asks again who it is."""
        self.language = choose_language(request)
        self.zone = _zone(unquote(request.cookies.get("rewarm_zone", "UTC")))
        self.dark = {"dark": True, "light": False}.get(request.cookies.get("rewarm_theme", ""))
        self.session: str | None = request.state.session
        self.alert: ui.label | None = None
        """Where an open dialog says what was refused; elsewhere it is a notice."""

    def say(self, key: str, **values: Any) -> str:
        return say(self.language, key, **values)

    def name_of(self, group: str, name: str, english: str = "") -> str:
        return name_of(self.language, group, name, english)

    def may(self, role: Role) -> bool:
        """Whether to offer what needs this role; the verb itself refuses too."""
        return self.user.role.includes(role)

    async def read(self, verb: Callable[Concatenate[Studio, User, P], T], *args: P.args, **options: P.kwargs) -> T:
        """What a verb of the service answers, outside the event loop. Raises its errors."""

        def asked() -> T:
            self.user = self._who()
            return verb(self.studio, self.user, *args, **options)

        return await asyncio.to_thread(asked)

    async def call(self, verb: Callable[Concatenate[Studio, User, P], T], *args: P.args, **options: P.kwargs) -> T:
        """As ``read``, for actions: an error is shown to the user, and then ``Refused`` is raised."""
        try:
            return await self.read(verb, *args, **options)
        except Exception as error:
            self.tell(error)
            raise Refused from error

    def tell(self, error: Exception) -> None:
        """Show an error: what, where and the remedy of a user's mistake, and nothing else of ours."""
        if isinstance(error, NotSignedIn):
            ui.notify(self.say("error.signed_out"), type="warning", timeout=0, close_button=self.say("button.close"))
            return
        if isinstance(error, UserError):
            said = str(error)
        else:
            logger.error("a page failed", exc_info=error)
            said = self.say("error.inside")
        if self.alert is not None:
            self.alert.text = said
            return
        ui.notify(said, type="negative", timeout=0, close_button=self.say("button.close"), multi_line=True)

    def date(self, seconds: float) -> str:
        """A time in the user's zone."""
        return f"{datetime.fromtimestamp(seconds, UTC).astimezone(self.zone):%Y-%m-%d %H:%M}"

    def _who(self) -> User:
        found = by_session(self.studio, self.session) if self.session else None
        if found is None:
            raise NotSignedIn("the session has ended", remedy="sign in again")
        return found


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
