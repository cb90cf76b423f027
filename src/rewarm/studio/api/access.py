"""What every route has: the Studio, who asks, and the role it needs, which its signature names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from rewarm.studio.api.errors import documented
from rewarm.studio.context import Role, Studio, User

ALWAYS = (400, 401, 403, 408, 413, 422, 503, 507)
"""What any route may answer: the door, a wrong value, a disk that is full."""


class _Verb(APIRoute):
    """A route whose function works in a thread, and nothing else of it does: each way there and back costs a third of
    what a small answer does."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint if inspect.iscoroutinefunction(endpoint) else _elsewhere(endpoint), **options)


def _elsewhere(verb: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(verb)
    async def call(**values: Any) -> Any:
        return await run_in_threadpool(verb, **values)

    return call


def routes(prefix: str, tag: str, root: str = "/api/v1", responses: Any = None) -> APIRouter:
    """The routes of one noun."""
    known = documented(*ALWAYS) if responses is None else responses
    return APIRouter(prefix=root + prefix, tags=[tag], route_class=_Verb, responses=known)


async def the_studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def _asker(role: Role) -> Callable[[Request], Awaitable[User]]:
    async def asker(request: Request) -> User:
        user: User = request.state.user  # put there by the door; without one the request never came so far
        user.check(role)
        return user

    return asker


TheStudio = Annotated[Studio, Depends(the_studio)]
Viewer = Annotated[User, Depends(_asker(Role.viewer))]
Editor = Annotated[User, Depends(_asker(Role.editor))]
Administrator = Annotated[User, Depends(_asker(Role.administrator))]
Id = Annotated[int, Path(ge=1, lt=2**63)]
"""A row's number in a path; a larger one would be an error of the database."""
Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many")]
