"""The application: routes, the door before them, and the loops that go on while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import rewarm
from rewarm.core.errors import UserError
from rewarm.core.machine import SAMPLE_SECONDS
from rewarm.studio.api.door import Door
from rewarm.studio.api.errors import documented, tell
from rewarm.studio.api.meter import Meter
from rewarm.studio.api.routes import completions, logs, metrics, session
from rewarm.studio.background import ship
from rewarm.studio.background.loops import Loop, run_loops
from rewarm.studio.context import Studio
from rewarm.studio.service.accounts import Attempts
from rewarm.studio.service.completions import sweep

ROUTERS: list[APIRouter] = [session.router, metrics.router, logs.router, completions.router]
"""One for each noun; all stand under /api/v1."""
LOOPS: list[Loop] = [
    Loop("ship", 1.0, ship.ship_live),
    Loop("look", 10.0, ship.ship_all),
    Loop("machine", SAMPLE_SECONDS, ship.SampleMachine()),
    Loop("engines", 600.0, sweep),
]


def build_app(studio: Studio) -> FastAPI:
    """The Studio's application over an open workspace."""

    @contextlib.asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        with run_loops(studio, LOOPS):
            yield

    app = FastAPI(
        title="Rewarm Studio",
        version=rewarm.__version__,
        lifespan=alive,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.studio, app.state.meter, app.state.attempts = studio, Meter(), Attempts()
    for router in ROUTERS:
        app.include_router(router, prefix="/api/v1", responses=documented(400, 401, 403, 413, 422, 503))
    app.include_router(completions.openai)
    for kind in (UserError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, tell)
    app.add_middleware(Door, studio=studio, meter=app.state.meter)  # the last one added is the first that is asked
    return app
