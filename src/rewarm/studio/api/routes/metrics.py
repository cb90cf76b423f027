"""Metrics of runs and of the computer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse

from rewarm.studio.api.access import TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import metrics as verbs
from rewarm.studio.service.metrics import Computer, Metric, Series

router = routes("", "metrics")

_ROWS = "name,step,tokens,value\r\ntrain/loss,10,2097152,2.64\r\n"
_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"example": _ROWS}}}}

Begin = Annotated[int | None, Query(description="the first step; of system/ the first second since 1970")]
End = Annotated[int | None, Query(description="the last step")]
Buckets = Annotated[int, Query(ge=1, le=5000, description="points at most; more are put together")]
Runs = Annotated[list[str], Query(alias="run", min_length=1)]


@router.get("/runs/{run}/metrics", responses=documented(404))
def metrics(run: str, studio: TheStudio, user: Viewer) -> list[Metric]:
    """The metrics of a run, each with its last value."""
    return verbs.metrics(studio, user, run)


@router.get(
    "/runs/{run}/metrics.csv",
    responses=_CSV | documented(404),
    response_class=StreamingResponse,
)
def metrics_csv(run: str, studio: TheStudio, user: Viewer) -> StreamingResponse:
    """All points of a run."""
    name = {"Content-Disposition": f'attachment; filename="{run}.csv"'}
    return StreamingResponse(verbs.as_csv(studio, user, run), media_type="text/csv", headers=name)


@router.get("/runs/{run}/metrics/{name:path}", responses=documented(404))
def series(
    run: str, name: str, studio: TheStudio, user: Viewer, begin: Begin = None, end: End = None, buckets: Buckets = 500
) -> Series:
    """One metric of a run between two steps: every point, or smallest, mean and largest value of each bucket."""
    return verbs.series(studio, user, [run], name, begin, end, buckets)[0]


@router.get("/metrics/{name:path}", responses=documented(404))
def compare(
    name: str, runs: Runs, studio: TheStudio, user: Viewer, begin: Begin = None, end: End = None, buckets: Buckets = 500
) -> list[Series]:
    """One metric of several runs; those that do not have it are left out."""
    return verbs.series(studio, user, runs, name, begin, end, buckets)


@router.get("/machine")
def computer(studio: TheStudio, user: Viewer) -> Computer:
    """The computer of the Studio, and how busy it is."""
    return verbs.computer(studio, user)


@router.get("/machine/metrics/{name:path}", responses=documented(404))
def computer_series(
    name: str, studio: TheStudio, user: Viewer, begin: Begin = None, end: End = None, buckets: Buckets = 500
) -> Series:
    """How busy the computer was between two times, in seconds since 1970."""
    return verbs.computer_series(studio, user, name, begin, end, buckets)
