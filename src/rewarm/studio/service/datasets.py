"""Datasets: what was made of texts, where every document went, and who was trained on it."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, Field

from rewarm.core.errors import NotFound
from rewarm.core.manifest import read_manifest
from rewarm.core.storage import remove_folder
from rewarm.data.catalogue import dataset_called, list_datasets, runs_by_dataset
from rewarm.hub.lineage import read_lineage
from rewarm.hub.models import list_models
from rewarm.report import words
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service.engine import ask
from rewarm.studio.service.uses import Users, is_live
from rewarm.studio.store.audit import note


class DatasetSummary(BaseModel):
    """A dataset, as lists show it."""

    dataset: str = Field(description="its hash: the same texts, steps and tokenizer give the same", examples=["1f3a9c"])
    sources: list[str] = Field(examples=[["law", "replay"]])
    documents: int | None = Field(description="to be trained on; null where the manifest is damaged")
    tokens: int | None
    bytes: int | None = Field(description="on disk")
    made: float = Field(description="seconds since 1970, UTC", examples=[1767225600.0])
    used_by: Users


class DatasetPage(BaseModel):
    datasets: list[DatasetSummary]
    after: str | None = Field(description="ask for what follows with after=...; null at the end")


class TextFigures(BaseModel):
    """Where the documents of one text went."""

    name: str = Field(examples=["law"])
    figures: dict[str, Any] = Field(description="documents in, accepted, held out, rejected and filtered; samples")
    waterfall: list[tuple[str, int]] = Field(examples=[[("documents in", 1000), ("duplicate", 20), ("accepted", 980)]])


class DatasetDetail(DatasetSummary):
    """A dataset, text by text."""

    texts: list[TextFigures]
    notes: list[str] = Field(description="what to know of it, in words; whether the tokenizer serves the language")


def listed(studio: Studio, user: User, after: str | None = None, limit: int = 100) -> DatasetPage:
    """The datasets, the newest first."""
    rows = list_datasets(studio.workspace.datasets)[::-1]
    hashes = [row["dataset"] for row in rows]
    begin = hashes.index(after) + 1 if after in hashes else 0 if after is None else len(rows)
    part, used = rows[begin : begin + limit], _used_by(studio)
    more = begin + limit < len(rows)
    return DatasetPage(
        datasets=[DatasetSummary(**row, used_by=used.get(row["dataset"], Users())) for row in part],
        after=part[-1]["dataset"] if more else None,
    )


def show(studio: Studio, user: User, hash: str) -> DatasetDetail:
    """What became of every document. Raises ``NotFound``, or ``DataError`` where the manifest is damaged."""
    folder = dataset_called(studio.workspace, hash)
    manifest = read_manifest(folder)
    row = next(row for row in list_datasets(studio.workspace.datasets) if row["dataset"] == hash)
    figures = [words.text_figures(source) for source in manifest["sources"]]
    english = manifest.get("english_bytes_per_token")
    return DatasetDetail(
        **row,
        used_by=_used_by(studio).get(hash, Users()),
        texts=[TextFigures(name=f["name"], figures=f, waterfall=words.waterfall(f)) for f in figures],
        notes=words.data_notes({"texts": figures, "replay_share": None, "english_bytes_per_token": english}),
    )


def rows(studio: Studio, user: User, hash: str, count: int = 2) -> list[list[dict[str, Any]]]:
    """The first rows that the newest run on this dataset trains on, as the model sees them."""
    dataset_called(studio.workspace, hash)
    runs = runs_by_dataset(studio.workspace).get(hash)
    if not runs:
        raise NotFound("no run uses this dataset", where=hash, remedy="rows are made when a run begins")
    found: list[list[dict[str, Any]]] = ask(studio.workspace, ["data", "show", runs[-1].id, f"--rows={count}"])["rows"]
    return found


def lineage(studio: Studio, user: User, hash: str) -> dict[str, Any]:
    """``{nodes, edges}``: the texts that it was made of, and the runs and model versions that came from it."""
    detail = show(studio, user, hash)
    here = {"id": f"dataset:{hash}", "kind": "dataset", "label": hash}
    manifest = read_manifest(dataset_called(studio.workspace, hash))
    paths = {source["name"]: ", ".join(source.get("paths", [])) for source in manifest["sources"]}
    sources = [{"id": f"text:{t.name}", "kind": "text", "label": paths[t.name] or t.name} for t in detail.texts]
    used = [("run", name) for name in detail.used_by.runs] + [("version", name) for name in detail.used_by.versions]
    after = [{"id": f"{kind}:{name}", "kind": kind, "label": name} for kind, name in used]
    edges = [{"source": node["id"], "target": here["id"], "kind": "text"} for node in sources]
    edges += [{"source": here["id"], "target": node["id"], "kind": "dataset"} for node in after]
    return {"nodes": [*sources, here, *after], "edges": edges}


def delete(studio: Studio, user: User, hash: str, used: bool = False) -> Users:
    """Delete a dataset; what was tokenized of its slices stays in the cache.

    Args:
        used: also where finished runs or versions were trained on it.

    Raises:
        Conflict: while a live run uses it; or if anything was trained on it, unless ``used``.
    """
    user.check(Role.editor)
    folder = dataset_called(studio.workspace, hash)
    found = _used_by(studio).get(hash, Users())
    live = [run.id for run in runs_by_dataset(studio.workspace).get(hash, []) if is_live(run)]
    found.refuse("dataset", live, used)
    try:
        remove_folder(folder)
    except FileNotFoundError:
        raise NotFound("there is no such dataset", where=hash) from None
    with studio.database.write() as session:
        note(session, time.time(), user.name, "delete", f"dataset/{hash}", found.model_dump())
    return found


def _used_by(studio: Studio) -> dict[str, Users]:
    """Of each dataset, the runs that were resolved on it and the versions whose lineage names it."""
    found = {hash: Users(runs=[run.id for run in runs]) for hash, runs in runs_by_dataset(studio.workspace).items()}
    for version in list_models(studio.workspace.models):
        if isinstance(hash := read_lineage(version).get("dataset"), str):
            found.setdefault(hash, Users()).versions.append(str(version))
    return found
