"""Who asks (by cookie or token), and whether they may. A route names the role it needs in its signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from rewarm.studio.context import Role, Studio, User


def the_studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def _asker(role: Role) -> Callable[[Request], User]:
    def asker(request: Request) -> User:
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
