"""Errors of the user as the web knows them: a status, and what, where and the remedy as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from rewarm.core.errors import Conflict, Forbidden, NotFound, ResourceError, UserError

_STATUS: dict[type[UserError], int] = {NotFound: 404, Conflict: 409, Forbidden: 403, ResourceError: 507}


class Problem(BaseModel):
    """What is wrong, where, and what to do."""

    what: str
    where: str | None = None
    remedy: str | None = None


def status_of(error: UserError) -> int:
    """422 unless its class says something else."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: these statuses come with a ``Problem``."""
    return {status: {"model": Problem} for status in statuses}
