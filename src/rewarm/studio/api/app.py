"""The application: routes, the door before them, and the loops that go on while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import rewarm
from rewarm.core.errors import UserError
from rewarm.core.machine import SAMPLE_SECONDS
from rewarm.core.network import guarded
from rewarm.studio.api.door import Door
from rewarm.studio.api.errors import tell
from rewarm.studio.api.idempotency import Idempotency
from rewarm.studio.api.meter import Meter
from rewarm.studio.api.routes import (
    accounts,
    audit,
    completions,
    connections,
    datasets,
    health,
    housekeeping,
    logs,
    metrics,
    models,
    notifications,
    pipelines,
    recipe,
    runs,
    session,
    settings,
    templates,
    tokens,
    uploads,
)
from rewarm.studio.background import clean, notify, schedule, ship
from rewarm.studio.background.loops import Loop, run_loops
from rewarm.studio.context import Studio
from rewarm.studio.service.accounts import Attempts
from rewarm.studio.service.completions import sweep
from rewarm.studio.service.uploads import sweep as sweep_uploads

ROUTERS: list[APIRouter] = [
    runs.router,
    metrics.router,
    logs.router,
    models.router,
    health.router,
    session.router,
    accounts.router,
    tokens.router,
    settings.router,
    audit.router,
    completions.router,
    completions.openai,
    templates.router,
    recipe.router,
    pipelines.router,
    notifications.router,
    housekeeping.router,
    connections.router,
    connections.network,
    uploads.router,
    uploads.texts,
    datasets.router,
]
"""One for each noun. They are asked in turn, so that what pages ask for most comes first."""
LOOPS: list[Loop] = [
    Loop("schedule", 1.0, schedule.tick),
    Loop("ship", 1.0, ship.ship_live),
    Loop("look", 10.0, ship.ship_all),
    Loop("machine", SAMPLE_SECONDS, ship.SampleMachine()),
    Loop("engines", 600.0, sweep),
    Loop("uploads", 3600.0, sweep_uploads),
    Loop("notify", 2.0, notify.tick),
    Loop("measure", 300.0, clean.measure),
    Loop("copy", 600.0, clean.copy_database),
    Loop("clean", 600.0, clean.CleanDaily()),
]

THREADS = 40
"""In which pages may wait at once; the framework has as many again for routes."""


def build_app(studio: Studio) -> FastAPI:
    """The Studio's application over an open workspace."""

    @contextlib.asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        # Pages wait in threads; as few as there are by default on two cores, a few long questions would hold them all.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        with guarded(studio.workspace), run_loops(studio, LOOPS) as app.state.beats:
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
        app.router.routes.extend(router.routes)  # included, each would be looked for twice at every request
    for kind in (UserError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, tell)
    app.add_middleware(Idempotency, studio=studio)
    app.add_middleware(Door, studio=studio, meter=app.state.meter)  # the last one added is the first that is asked
    return app
