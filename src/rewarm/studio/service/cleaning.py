"""What of a workspace may go by rule, and its deletion. It needs the folders alone, so the terminal has it too.

Nothing goes that something uses: a run that is live or could go on, an alias, a version that another one was trained
from, a dataset that any run or version speaks of. What cannot be read counts as used.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, Field

from rewarm.core.config import Frozen
from rewarm.core.control import sole_process
from rewarm.core.errors import UserError
from rewarm.core.run import Run, list_runs
from rewarm.core.states import LIVE
from rewarm.core.storage import TEMPORARY, bytes_of, remove_folder, sweep
from rewarm.core.workspace import Workspace
from rewarm.hub.aliases import aliases_of
from rewarm.hub.lineage import base_of
from rewarm.hub.models import Version, list_models, remove

_DAY = 86_400.0


class Rules(Frozen):
    """What may go. ``null`` keeps all of a kind."""

    checkpoints_of_last: int | None = Field(
        3, ge=0, description="runs of each name that keep their checkpoints, of those that succeeded; others all do"
    )
    versions_of_last: int | None = Field(None, ge=1, description="versions of each model that are kept")
    datasets: bool = Field(False, description="whether datasets go that no run and no version speaks of")
    caches: bool = Field(True, description="whether blocks of remote files go, and what killed processes left")
    older_than_days: float = Field(7.0, ge=0, le=36_500, description="nothing goes that was changed since")


class Item(BaseModel):
    """Something that goes, or went."""

    kind: str = Field(examples=["checkpoints"])
    name: str = Field(examples=["20261103T101500-legal-vi-3f2a"])
    bytes: int
    reason: str


@dataclass
class _Uses:
    """What is spoken of."""

    datasets: set[str] = field(default_factory=set)
    bases: set[str] = field(default_factory=set)
    unknown: bool = False
    """Whether some run cannot be read, or has not said yet what it works on."""


def plan(workspace: Workspace, rules: Rules, now: float) -> list[Item]:
    """What would go now, and how much that is."""
    return [item for item, _ in _candidates(workspace, rules, now)]


def clean(workspace: Workspace, rules: Rules, now: float) -> list[Item]:
    """Delete what may go; returns what went. What came into use meanwhile, or cannot be deleted, stays."""
    gone = []
    for item, path in _candidates(workspace, rules, now):
        with contextlib.suppress(UserError, OSError):
            if _remove(workspace, rules, item, path):
                gone.append(item)
    return gone


def _candidates(workspace: Workspace, rules: Rules, now: float) -> Iterator[tuple[Item, Path]]:
    before = now - _DAY * rules.older_than_days
    if rules.checkpoints_of_last is not None:
        yield from _checkpoints(workspace, rules.checkpoints_of_last, before)
    if rules.versions_of_last is not None:
        yield from _versions(workspace, rules.versions_of_last, before)
    if rules.datasets:
        yield from _datasets(workspace, before)
    if rules.caches:
        yield from _caches(workspace, min(before, now - _DAY))


def _checkpoints(workspace: Workspace, keep: int, before: float) -> Iterator[tuple[Item, Path]]:
    done: dict[str, list[Run]] = defaultdict(list)
    for run in list_runs(workspace):
        if run.stage_record("publish").exists() and _state(run) == "succeeded":
            done[run.recipe_name].append(run)
    for name, runs in done.items():
        for run in runs[: len(runs) - keep]:
            if _filled(run.checkpoints) and run.events.stat().st_mtime < before:
                reason = f"it succeeded, and so did {keep} later runs of {name}; it could not go on from here any more"
                yield _item("checkpoints", run.id, run.checkpoints, reason), run.checkpoints


def _state(run: Run) -> str | None:
    try:
        return run.status().state
    except (UserError, OSError):
        return None


def _filled(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is not None


def _versions(workspace: Workspace, keep: int, before: float) -> Iterator[tuple[Item, Path]]:
    of_name: dict[str, list[Version]] = defaultdict(list)
    for version in list_models(workspace.models):
        of_name[version.name].append(version)
    uses = _uses(workspace)
    for versions in of_name.values():
        for version in versions[:-keep]:
            old = (version.path / "manifest.json").stat().st_mtime < before
            if old and not _in_use(version, uses):
                reason = f"there are {keep} later versions, and neither an alias nor a model nor a run uses it"
                yield _item("version", str(version), version.path, reason), version.path


def _in_use(version: Version, uses: _Uses) -> bool:
    try:
        return bool(aliases_of(version.path.parent, version.number)) or str(version) in uses.bases or uses.unknown
    except UserError:
        return True


def _datasets(workspace: Workspace, before: float) -> Iterator[tuple[Item, Path]]:
    if not workspace.datasets.is_dir() or (uses := _uses(workspace)).unknown:
        return
    for folder in sorted(workspace.datasets.iterdir()):
        manifest = folder / "manifest.json"
        if folder.name not in uses.datasets and manifest.is_file() and manifest.stat().st_mtime < before:
            yield _item("dataset", folder.name, folder, "no run and no model version speaks of it"), folder


def _uses(workspace: Workspace) -> _Uses:
    """What versions were made of, and what runs work on, whether they live, could go on, or are only remembered."""
    uses = _Uses()
    for version in list_models(workspace.models):
        try:
            uses.datasets.add(str(version.lineage.get("dataset")))
        except UserError:
            uses.unknown = True
        uses.bases.add(base_of(version) or "")
    for run in list_runs(workspace):
        try:
            prepared = run.stage("prepare")
            if prepared is not None:
                uses.datasets.add(str(prepared["facts"].get("dataset")))
                uses.bases.add(str(prepared["facts"].get("base", {}).get("reference")))
            elif run.status().state in LIVE:
                uses.unknown = True
        except (UserError, OSError, AttributeError):
            uses.unknown = True
    return uses


def _caches(workspace: Workspace, before: float) -> Iterator[tuple[Item, Path]]:
    if _filled(workspace.cache):
        reason = "blocks of remote files, which are fetched again where they are needed"
        yield _item("cache", "cache", workspace.cache, reason), workspace.cache
    homes = (workspace.runs, workspace.datasets, workspace.evaluations, workspace.root, workspace.root / "backups")
    for home in homes:
        left = [path for path in (home.glob(f"{TEMPORARY}*") if home.is_dir() else ()) if path.stat().st_mtime < before]
        if left:
            total = sum(bytes_of(path) if path.is_dir() else path.stat().st_size for path in left)
            name = home.relative_to(workspace.root).as_posix()
            yield Item(kind="leftovers", name=name, bytes=total, reason="killed processes left it half-written"), home


def _item(kind: str, name: str, path: Path, reason: str) -> Item:
    return Item(kind=kind, name=name, bytes=bytes_of(path, sole=True), reason=reason)


def _remove(workspace: Workspace, rules: Rules, item: Item, path: Path) -> bool:
    """Delete one thing, unless it is in use by now."""
    if item.kind == "leftovers":
        sweep(path, older_than=max(_DAY, _DAY * rules.older_than_days))
        return True
    if item.kind == "checkpoints":
        run = Run(path.parent)
        with sole_process(run):  # nobody resumes it meanwhile
            if run.status().state != "succeeded":
                return False
            remove_folder(path)
        return True
    if item.kind == "version":
        version = Version(path, path.parent.name, int(path.name))
        if used := _in_use(version, _uses(workspace)):
            return not used
        remove(version)
        return True
    uses = _uses(workspace)
    if item.kind == "dataset" and (uses.unknown or path.name in uses.datasets):
        return False
    remove_folder(path)
    return True
