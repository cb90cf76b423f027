"""The datasets of a workspace: which there are, which one a name means, and who uses each."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.errors import DataError, NotFound, UserError
from rewarm.core.manifest import MANIFEST, read_manifest
from rewarm.core.run import Run, find_run, list_runs
from rewarm.core.workspace import Workspace


def list_datasets(datasets: Path) -> list[dict[str, Any]]:
    """``{dataset, sources, documents, tokens, bytes, made}`` of each, the oldest first; or what is wrong with it."""
    found = sorted((path.stat().st_mtime, path.parent) for path in datasets.glob(f"*/{MANIFEST}"))
    return [_row(folder, made) for made, folder in found if not folder.name.startswith(".")]


def _row(folder: Path, made: float) -> dict[str, Any]:
    row: dict[str, Any] = {"dataset": folder.name, "sources": [], "documents": None, "tokens": None}
    row |= {"bytes": None, "made": made}
    try:
        manifest = read_manifest(folder)
        sources = manifest["sources"]
        return row | {
            "sources": [source["name"] for source in sources],
            "documents": sum(source["accepted"] for source in sources),
            "tokens": sum(source["tokens"] for source in sources),
            "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        }
    except (UserError, KeyError, TypeError) as error:  # the others can be listed all the same
        return row | {"sources": [f"damaged: {error.what if isinstance(error, UserError) else 'no such manifest'}"]}


def find_dataset(workspace: Workspace, name: str) -> tuple[Path, Run | None]:
    """The dataset that a hash names, or the one of a run, or of the newest run of a recipe that has one.

    Raises:
        UserError: if none or several fit.
    """
    matches = [p for p in workspace.datasets.glob("*") if p.name.startswith(name) and (p / MANIFEST).is_file()]
    if len(matches) == 1:
        return matches[0], None
    if len(matches) > 1:
        raise UserError(f"{name!r} fits {len(matches)} datasets", remedy="give more of the hash; rewarm data ls")
    called = re.compile(rf"\d{{8}}T\d{{6}}-{re.escape(name)}-[0-9a-f]{{4}}")
    runs = [run for run in list_runs(workspace) if name == "last" or called.fullmatch(run.id)]
    try:
        runs = runs or [find_run(workspace, name)]
    except UserError:
        raise NotFound(f"there is no dataset and no run {name!r}", remedy="rewarm data ls") from None
    for run in reversed(runs):
        if (resolved := resolved_of(run)) is not None:
            return workspace.datasets / str(resolved["dataset"]), run
    raise UserError("this run has not prepared its data yet", where=name, remedy=f"rewarm runs show {name}")


def dataset_called(workspace: Workspace, hash: str) -> Path:
    """The folder of the dataset with exactly this hash. Raises ``NotFound``."""
    path = workspace.datasets / hash
    if re.fullmatch(r"[0-9a-f]{8,64}", hash) and (path / MANIFEST).is_file():
        return path
    raise NotFound(f"there is no dataset {hash[:100]!r}", remedy="rewarm data ls")


def resolved_of(run: Run) -> dict[str, Any] | None:
    """The run's ``resolved.json``; None where it is not there yet. Raises ``DataError`` where it is damaged."""
    path = run.path / "resolved.json"
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or not {"dataset", "hyperparameters"} <= set(value):
        raise DataError("this file is damaged", where=path, remedy=f"rewarm resume {run.id} writes it anew")
    return value


def runs_by_dataset(workspace: Workspace) -> dict[str, list[Run]]:
    """The runs that were resolved on each dataset, by its hash, the oldest first."""
    found: dict[str, list[Run]] = {}
    for run in list_runs(workspace):
        try:
            written = (run.path / "resolved.json").stat().st_mtime_ns
        except FileNotFoundError:
            continue
        if hash := _dataset_of(run, written):
            found.setdefault(hash, []).append(run)
    return found


@lru_cache(maxsize=100_000)
def _dataset_of(run: Run, written: int) -> str | None:
    try:
        return str((resolved_of(run) or {}).get("dataset"))
    except DataError:
        return None
