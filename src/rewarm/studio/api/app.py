"""The application: routes, the door before them, and the loops that go on while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

import rewarm
from rewarm.core.errors import UserError
from rewarm.studio.api.errors import Problem, status_of
from rewarm.studio.background.loops import Loop, run_loops
from rewarm.studio.context import Studio

ROUTERS: list[APIRouter] = []
"""One for each noun; all stand under /api/v1."""
LOOPS: list[Loop] = []


def build_app(studio: Studio) -> FastAPI:
    """The Studio's application over an open workspace."""

    @contextlib.asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        with run_loops(studio, LOOPS):
            yield

    app = FastAPI(title="Rewarm Studio", version=rewarm.__version__, lifespan=alive)
    app.state.studio = studio
    for router in ROUTERS:
        app.include_router(router, prefix="/api/v1")
    app.add_exception_handler(UserError, _tell)
    return app


def _tell(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)
    problem = Problem(what=error.what, where=error.where, remedy=error.remedy)
    return JSONResponse(problem.model_dump(), status_of(error))
