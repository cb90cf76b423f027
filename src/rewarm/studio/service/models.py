"""The Model Hub's verbs: versions, their files and lineage, aliases, tags."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, Field

from rewarm.core.errors import Conflict, DataError, NotFound, UserError
from rewarm.core.manifest import MANIFEST
from rewarm.core.run import Run, read_launch
from rewarm.hub import aliases, lineage
from rewarm.hub.aliases import Alias, Demands
from rewarm.hub.models import Version, find, list_models, remove
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.store.audit import note
from rewarm.studio.store.models import live_runs, saved_recipes

MOST_CARD = 1 << 20


class VersionView(BaseModel):
    """A version as lists show it."""

    model: str = Field(examples=["legal-vi@3"])
    name: str = Field(examples=["legal-vi"])
    number: int = Field(examples=[3])
    base: str | None = Field(None, examples=["HuggingFaceTB/SmolLM2-135M"])
    imported: str | None = Field(None, description="where it was imported from")
    run: str | None = None
    bytes: int | None = None
    created: float
    aliases: list[str] = Field(examples=[["production"]])
    tags: dict[str, str] = Field(examples=[{"language": "vi"}])
    headline: dict[str, Any] | None = Field(None, description="gain and forgetting, as in the report")
    damaged: str | None = Field(None, description="why it cannot be read")


class FileView(BaseModel):
    name: str = Field(examples=["model.safetensors"])
    bytes: int
    sha256: str


class VersionDetail(VersionView):
    """A version with all that is known of it."""

    card: str = Field(description="Markdown")
    files: list[FileView]
    lineage: dict[str, Any]
    used_by: list[str] = Field(description="what keeps it from being deleted", examples=[["alias production"]])


class Graph(BaseModel):
    """Where a version comes from and what came from it; an edge leads from what was used."""

    nodes: list[dict[str, str]] = Field(examples=[[{"id": "version:a@1", "kind": "version", "label": "a@1"}]])
    edges: list[dict[str, str]] = Field(examples=[[{"source": "run:r", "target": "version:a@1", "kind": "run"}]])


def list_versions(
    studio: Studio, user: User, *, text: str = "", after: str | None = None, limit: int = 100
) -> list[VersionView]:
    """The newest first, those behind the version ``after``; ``text`` is a part of name, base, alias or tag."""
    user.check(Role.viewer)
    marks = functools.cache(_marks)  # read once for all versions of a model
    versions = list_models(studio.workspace.models)
    views = sorted((_view(version, marks) for version in versions), key=lambda v: (-v.created, v.model))
    if after is not None:
        place = next((number for number, view in enumerate(views) if view.model == after), -1)
        views = views[place + 1 :]
    wanted = text.lower()
    found = [view for view in views if wanted in _words(view)] if wanted else views
    return found[:limit]


def _words(view: VersionView) -> str:
    tags = [word for pair in view.tags.items() for word in pair]
    return " ".join([view.model, view.base or "", view.imported or "", *view.aliases, *tags]).lower()


def show(studio: Studio, user: User, reference: str) -> VersionDetail:
    """Raises ``NotFound`` where there is no such version."""
    user.check(Role.viewer)
    version = find(studio.workspace.models, reference)
    card = version.path / "README.md"
    files = [FileView(name=name, **_entry(entry)) for name, entry in version.manifest["files"].items()]
    return VersionDetail(
        **_view(version).model_dump(),
        card=card.read_text("utf-8", "replace")[:MOST_CARD] if card.is_file() else "",
        files=files,
        lineage=version.lineage,
        used_by=users(studio, version),
    )


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {"bytes": entry["bytes"], "sha256": entry["sha256"]}


def _view(version: Version, marks: Callable[[Path], _Marks] | None = None) -> VersionView:
    created = (version.path / MANIFEST).stat().st_mtime_ns
    facts, damaged = _facts(version, created)
    named, tags, unread = (marks or _marks)(version.path.parent)
    return VersionView(
        model=str(version), name=version.name, number=version.number, created=created / 1e9,
        aliases=sorted(name for name, alias in named.items() if alias.version == version.number),
        tags=tags.get(version.number, {}), damaged=unread or damaged, **facts,
    )  # fmt: skip


_Marks = tuple[dict[str, Alias], dict[int, dict[str, str]], str | None]


def _marks(home: Path) -> _Marks:
    """Aliases and tags of a model's versions, and why they cannot be read where that is so."""
    try:
        return aliases.read_aliases(home), aliases.read_tags(home), None
    except UserError as error:
        return {}, {}, str(error)


@functools.lru_cache(maxsize=4096)
def _facts(version: Version, _written: int) -> tuple[dict[str, Any], str | None]:
    """What never changes of a version, and why it cannot be read where that is so."""
    try:
        known = version.lineage
        report = version.path / aliases.REPORT
        imported = known.get("imported")
        return {
            "base": lineage.base_of(version),
            "imported": str(imported["from"]) if isinstance(imported, dict) else None,
            "run": str(known["run"]) if "run" in known else None,
            "bytes": version.size,
            "headline": orjson.loads(report.read_bytes()).get("headline") if report.is_file() else None,
        }, None
    except (UserError, orjson.JSONDecodeError, KeyError, AttributeError) as error:
        return {}, f"damaged: {error}"


def file_of(studio: Studio, user: User, reference: str, name: str) -> tuple[Path, str]:
    """The path of a version's file and its SHA-256. Raises ``NotFound`` where the manifest does not list it."""
    user.check(Role.viewer)
    version = find(studio.workspace.models, reference)
    entry, path = version.manifest["files"].get(name), version.path / name
    if entry is None or not path.resolve().is_relative_to(version.path.resolve()) or not path.is_file():
        raise NotFound("this version has no such file", where=str(version), remedy="its files are listed with it")
    return path, entry["sha256"]


def report(studio: Studio, user: User, reference: str) -> dict[str, Any]:
    """The report that a version was published with. Raises ``NotFound`` without one, ``DataError`` if it is damaged."""
    path, _ = file_of(studio, user, reference, aliases.REPORT)
    try:
        told: dict[str, Any] = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        raise DataError("this report is damaged", where=reference) from None
    return told


def version_of(studio: Studio, user: User, reference: str) -> Version:
    """The version that ``reference`` means. Raises ``NotFound`` where there is none."""
    user.check(Role.viewer)
    return find(studio.workspace.models, reference)


def graph(studio: Studio, user: User, reference: str) -> Graph:
    """See ``rewarm.hub.lineage.lineage_graph``."""
    version = version_of(studio, user, reference)
    return Graph(**lineage.lineage_graph(studio.workspace.models, version))


def users(studio: Studio, version: Version) -> list[str]:
    """What uses a version: aliases, versions trained from it, live runs, pipelines."""
    named = aliases.aliases_of(version.path.parent, version.number)
    names = "|".join(map(re.escape, [str(version.number), *named]))
    mention = re.compile(rf"(?<![\w-]){re.escape(version.name)}@({names})(?![\w-])")
    with studio.database.read() as session:
        runs = [Run(studio.workspace.runs / id) for id in live_runs(session)]
        recipes = saved_recipes(session)
    found = [f"alias {name}" for name in named]
    found += [f"version {child}" for child in lineage.children(studio.workspace.models, version)]
    found += [f"run {run.id}" for run in runs if mention.search(_recipe(run))]
    return found + [f"pipeline {name}" for name, recipe in recipes.items() if mention.search(recipe)]


def _recipe(run: Run) -> str:
    try:
        return "\n".join([run.recipe.read_text("utf-8", "replace"), *read_launch(run)["overrides"]])
    except (OSError, UserError):
        return ""


def delete(studio: Studio, user: User, reference: str, confirm: str) -> None:
    """Delete a version; ``confirm`` is ``name@n`` once more.

    Raises:
        Conflict: something uses it. UserError: ``confirm`` is something else.
    """
    user.check(Role.editor)
    version = find(studio.workspace.models, reference)
    if confirm != str(version):
        raise UserError("confirm with the version's name", where=str(version))
    if used := users(studio, version):
        raise Conflict(f"it is used: {', '.join(used)}", where=str(version), remedy="remove these first")
    remove(version)
    _note(studio, user, "delete", version)


def point(studio: Studio, user: User, name: str, alias: str, number: int) -> Alias:
    """Let ``name@alias`` mean version ``number``. Raises as ``hub.aliases.point`` does."""
    user.check(Role.editor)
    version = find(studio.workspace.models, f"{name}@{number}")
    found = aliases.point(version.path.parent, alias, number, user.name)
    _note(studio, user, "alias", version, alias=alias)
    return found


def unpoint(studio: Studio, user: User, name: str, alias: str) -> None:
    """Let ``name@alias`` mean nothing. Raises ``NotFound``."""
    user.check(Role.editor)
    version = find(studio.workspace.models, name)
    aliases.unpoint(version.path.parent, alias)
    _note(studio, user, "unalias", version.name, alias=alias)


def demand(studio: Studio, user: User, name: str, alias: str, demands: Demands) -> Alias:
    """Set what ``name@alias`` demands of a version's report; whoever moves the alias cannot change it."""
    user.check(Role.administrator)
    version = find(studio.workspace.models, name)
    found = aliases.demand(version.path.parent, alias, demands)
    _note(studio, user, "gate", version.name, alias=alias, **demands.model_dump())
    return found


def list_aliases(studio: Studio, user: User, name: str) -> dict[str, Alias]:
    """The aliases of a model, with what they demand. Raises ``NotFound``."""
    user.check(Role.viewer)
    return aliases.read_aliases(find(studio.workspace.models, name).path.parent)


def tag(studio: Studio, user: User, reference: str, tags: dict[str, str]) -> dict[str, str]:
    """Give a version these tags instead of those that it has."""
    user.check(Role.editor)
    version = find(studio.workspace.models, reference)
    aliases.tag(version.path.parent, version.number, tags)
    _note(studio, user, "tag", version, tags=tags)
    return tags


def _note(studio: Studio, user: User, action: str, version: Version | str, **detail: Any) -> None:
    with studio.database.write() as session:
        note(session, time.time(), user.name, action, f"model/{version}", detail)
