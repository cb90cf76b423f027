"""Errors as the web knows them: a status, and what, where and the remedy as JSON; never what somebody gave us."""

from __future__ import annotations

import http
import logging
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from rewarm.core.config import SHOWN
from rewarm.core.errors import Conflict, Forbidden, Invalid, NotFound, ResourceError, UserError
from rewarm.core.storage import as_user_error
from rewarm.studio.service.accounts import NotSignedIn, TooMany
from rewarm.studio.service.engine import Busy

_STATUS: dict[type[UserError], int] = {
    NotSignedIn: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooMany: 429,
    Busy: 503,
    ResourceError: 507,
}
log = logging.getLogger("rewarm.studio")


class Problem(BaseModel):
    """What is wrong, where, and what to do."""

    what: str = Field(examples=["a user's name has 1 to 64 letters, digits and . _ @ -"])
    where: str | None = Field(None, description="the thing, or a JSON pointer into body, query, path or header")
    remedy: str | None = None


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: these statuses come with a ``Problem``."""
    return {status: {"model": Problem, "description": http.HTTPStatus(status).phrase} for status in statuses}


def problem_of(error: Exception) -> tuple[int, Problem]:
    """The status and what is told; of a bug of ours only that there was one."""
    if isinstance(error, RequestValidationError):
        return 422, _invalid(error)
    if isinstance(error, HTTPException):
        return error.status_code, Problem(what=str(error.detail).lower())
    known = as_user_error(error) if isinstance(error, OSError) else error
    if isinstance(known, UserError):
        status = next((status for kind, status in _STATUS.items() if isinstance(known, kind)), 422)
        where = _pointer(known.mistakes[0][0]) if isinstance(known, Invalid) else known.where
        return status, Problem(what=known.what, where=where, remedy=known.remedy)
    log.error("a request ended with an error", exc_info=error)
    if isinstance(error, OperationalError):
        return 503, Problem(what="the database does not answer", remedy="try again")
    return 500, Problem(what="an error of ours; the server's log has it", remedy="report it")


def tell(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that ended with this error."""
    status, problem = problem_of(error)
    headers = getattr(error, "headers", None) or {}
    if status == 401:
        headers = {**headers, "WWW-Authenticate": "Bearer"}
    if request.scope["path"].startswith("/v1/"):
        status, shown = in_openais_words(status, problem)
        return JSONResponse(shown.model_dump(), status, headers)
    return JSONResponse(problem.model_dump(), status, headers)


class OpenAIError(BaseModel):
    """An error as programs for OpenAI's API expect it."""

    class Detail(BaseModel):
        message: str
        type: str
        param: str | None = None
        code: str | None = None

    error: Detail


def in_openais_words(status: int, problem: Problem) -> tuple[int, OpenAIError]:
    """Status and error, as OpenAI's API would answer; a wrong value is 400 there."""
    status = 400 if status == 422 else status
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(status)
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    message = f"{problem.what}; {problem.remedy}" if problem.remedy else problem.what
    code = "model_not_found" if status == 404 else None
    return status, OpenAIError(error=OpenAIError.Detail(message=message, type=kind, code=code))


def openai_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``documented``, in OpenAI's shape."""
    return {status: {"model": OpenAIError, "description": "in OpenAI's shape"} for status in statuses}


def _invalid(error: RequestValidationError) -> Problem:
    lines, errors = [], error.errors()
    for item in errors[:SHOWN]:
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "union_tag_invalid":  # which repeats what was given
            message = f"{item['ctx']['discriminator']} is none of {item['ctx']['expected_tags']}"
        lines.append(f"{'.'.join(map(str, item['loc'][1:])) or 'body'}: {message[:1].lower()}{message[1:]}")
    return Problem(what="\n".join(dict.fromkeys(lines)), where=_pointer(errors[0]["loc"]))


def _pointer(path: tuple[str | int, ...]) -> str:
    """RFC 6901."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
