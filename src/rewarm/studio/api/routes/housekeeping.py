"""Sizes, clean-up by rule, quotas, and what runs took of devices, energy and money."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from rewarm.studio.api.access import Administrator, Editor, Limit, TheStudio, Viewer, routes
from rewarm.studio.service import housekeeping as verbs
from rewarm.studio.service.cleaning import Item, Rules

router = routes("/housekeeping", "housekeeping")


@router.get("")
def overview(studio: TheStudio, user: Viewer) -> verbs.Overview:
    """The disk, what takes it, and what there is to warn of."""
    return verbs.overview(studio, user)


@router.get("/sizes")
def sizes(
    studio: TheStudio,
    user: Viewer,
    kind: Literal["run", "checkpoint", "dataset", "version", "cache", "other"],
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> list[verbs.Size]:
    """The sizes of all of a kind, the largest first, as they were measured last."""
    return verbs.sizes(studio, user, kind, limit, offset)


@router.post("/preview")
def preview(studio: TheStudio, user: Editor, rules: Rules | None = None) -> list[Item]:
    """What would go by these rules, or by those that are set; nothing is deleted."""
    return verbs.preview(studio, user, rules)


@router.post("/clean")
def clean(studio: TheStudio, user: Administrator, rules: Rules | None = None) -> list[Item]:
    """Delete what may go by these rules, or by those that are set; the answer is what went."""
    return verbs.clean(studio, user, rules)


@router.get("/usage")
def usage(
    studio: TheStudio,
    user: Viewer,
    by: Literal["run", "pipeline", "user", "month"] = "month",
    month: Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}$", description="of this month only: 2026-11")] = None,
) -> list[verbs.Usage]:
    """Device-hours, joules and money of each run, pipeline, user or month; deleted runs count too."""
    return verbs.usage(studio, user, by, month)
