"""Datasets: what texts were made into."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from rewarm.studio.api.access import Editor, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import datasets as verbs
from rewarm.studio.service.datasets import DatasetDetail, DatasetPage
from rewarm.studio.service.uses import Users

router = routes("/datasets", "datasets")


@router.get("")
def list_datasets(
    studio: TheStudio,
    user: Viewer,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DatasetPage:
    """The datasets, the newest first, and who uses each."""
    return verbs.listed(studio, user, after, limit)


@router.get("/{dataset}", responses=documented(404))
def show(dataset: str, studio: TheStudio, user: Viewer) -> DatasetDetail:
    """Where every document went, with samples of what each rule dropped; whether the tokenizer serves the language."""
    return verbs.show(studio, user, dataset)


@router.get("/{dataset}/rows", responses=documented(404))
def rows(
    dataset: str, studio: TheStudio, user: Viewer, count: Annotated[int, Query(ge=1, le=20)] = 2
) -> list[list[dict[str, Any]]]:
    """The first rows of the newest run on it, as the model sees them."""
    return verbs.rows(studio, user, dataset, count)


@router.get("/{dataset}/lineage", responses=documented(404))
def lineage(dataset: str, studio: TheStudio, user: Viewer) -> dict[str, Any]:
    """The texts that it was made of, and the runs and model versions that came from it, as nodes and edges."""
    return verbs.lineage(studio, user, dataset)


@router.delete("/{dataset}", responses=documented(404, 409))
def delete(
    dataset: str,
    studio: TheStudio,
    user: Editor,
    used: Annotated[bool, Query(description="also where runs or versions that are done were trained on it")] = False,
) -> Users:
    """Delete a dataset, never while a live run uses it; the answer is who used it."""
    return verbs.delete(studio, user, dataset, used)
