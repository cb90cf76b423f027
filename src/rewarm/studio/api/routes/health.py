"""For whoever watches the server: is it well, and how much does it do. These two stand at the root."""

from __future__ import annotations

from collections import Counter

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from rewarm.core.errors import UserError
from rewarm.studio.api.access import TheStudio, Viewer, routes
from rewarm.studio.background.loops import late
from rewarm.studio.store.runs import known

router = routes("", "health", root="")


class Health(BaseModel):
    """Whether the server is well."""

    status: str = Field(examples=["ok"])
    database: bool = Field(description="it answers")
    late: list[str] = Field(description="loops of the server that stand still")


@router.get("/health", responses={503: {"model": Health, "description": "not well"}})
def health(request: Request, response: Response, studio: TheStudio) -> Health:
    """Whether the database answers and the server's loops go on."""
    behind = late(getattr(request.app.state, "beats", {}))
    try:
        with studio.database.read() as session:
            session.execute(text("SELECT 1"))
        answers = True
    except (UserError, OperationalError):
        answers = False
    well = answers and not behind
    response.status_code = 200 if well else 503
    return Health(status="ok" if well else "failing", database=answers, late=behind)


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
def metrics(request: Request, studio: TheStudio, user: Viewer) -> Response:
    """What the server counts, as Prometheus reads it; give Prometheus a viewer's token."""
    with studio.database.read() as session:
        states = Counter(known(session).values())
    request.app.state.meter.set_runs(states)
    return Response(generate_latest(request.app.state.meter.registry), media_type=CONTENT_TYPE_LATEST)
