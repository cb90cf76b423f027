"""Completions: a model is loaded by an engine process of its own when somebody asks for it, and writes for all.

An engine is a folder ``engines/KEY`` (see ``rewarm.pipeline.serve``). It outlives the server, which finds it again,
and ends by itself when nobody asked for a while, or when its request is deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, Field

from rewarm.core.config import Frozen
from rewarm.core.errors import ModelError, NotFound, ResourceError, UserError
from rewarm.core.manifest import to_json
from rewarm.core.run import Run
from rewarm.core.storage import sha256_bytes, write_file
from rewarm.hub.aliases import read_aliases
from rewarm.hub.lineage import base_of, read_lineage
from rewarm.hub.models import find, list_models
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service import process
from rewarm.studio.service.accounts import TooMany
from rewarm.studio.service.settings import read_setting, setting
from rewarm.studio.store.audit import note

BASE = ":base"
"""Behind a version: the model that it was trained from."""
LOADING_SECONDS = 900.0
_LINE = 1 << 24


@setting("completions")
class CompletionSettings(Frozen):
    """How long and how large engines may be."""

    idle_seconds: float = Field(600.0, ge=1, le=86_400, description="an engine that nobody asks ends after so long")
    memory_gb: float | None = Field(None, gt=0, description="memory of all engines together; what is free when unset")


class EngineView(BaseModel):
    """A model that is loaded, or being loaded."""

    id: str = Field(examples=["0f4c2a9b11d3e5f7"])
    model: str = Field(examples=["legal-vi@3"])
    state: str = Field(examples=["ready"], description="loading or ready")
    device: str | None = Field(None, examples=["cuda"])
    bytes: int | None = Field(None, description="an estimate of its memory")
    started: float


def list_names(studio: Studio, user: User) -> list[tuple[str, float]]:
    """What can be asked for, and since when it is there: versions, aliases, and what the versions came from."""
    user.check(Role.viewer)
    found: list[tuple[str, float]] = []
    for version in list_models(studio.workspace.models):
        names = [str(version), f"{version}{BASE}" if base_of(version) else ""]
        with contextlib.suppress(UserError):
            known = read_aliases(version.path.parent)
            names += [f"{version.name}@{name}" for name, alias in known.items() if alias.version == version.number]
        found += [(name, version.path.stat().st_mtime) for name in names if name]
    return found


def resolve(studio: Studio, model: str) -> str:
    """The version, hub id or folder that ``model`` means now. Raises ``NotFound`` where it means none."""
    name = model.removesuffix(BASE)
    if "@" not in name:
        raise NotFound(f"there is no model {model[:200]!r}", remedy="name a version: name@1, name@alias, name@1:base")
    version = find(studio.workspace.models, name)
    if name == model:
        return str(version)
    reference, run = base_of(version), str(read_lineage(version).get("run"))
    if reference and "@" in reference:
        return str(find(studio.workspace.models, reference))
    if reference and not reference.startswith((".", "/", "~")):
        return reference
    with contextlib.suppress(UserError, KeyError, TypeError):  # the run that made it knows the folder
        record = Run(studio.workspace.runs / Path(run).name).stage("prepare")
        if record and Path(folder := str(record["facts"]["base"]["folder"])).is_dir():
            return folder
    raise NotFound(f"the base of {version} is not here any more", remedy="import it")


def start(studio: Studio, user: User, reference: str) -> Path:
    """The folder of the engine for ``reference``, which is started unless it lives."""
    folder = _folder(studio, reference)
    if process.lives(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = read_setting(studio, CompletionSettings)
    request = {
        "model": reference,
        "started": time.time(),
        "idle_seconds": settings.idle_seconds,
        "memory_bytes": settings.memory_gb and int(settings.memory_gb * 1e9),
    }
    for name in ("engine.json", "error.json"):
        (folder / name).unlink(missing_ok=True)
    write_file(folder / "request.json", to_json(request))
    command = [sys.executable, "-m", "rewarm.pipeline.serve", reference, str(folder)]
    # A base that was never trained from is not fetched for a mere look at it.
    if process.start(studio.workspace, folder, command, HF_HUB_OFFLINE="1"):
        with studio.database.write() as session:
            note(session, time.time(), user.name, "load", f"model/{reference}")
    return folder


def list_engines(studio: Studio, user: User) -> list[EngineView]:
    """The engines that live, the oldest first."""
    user.check(Role.viewer)
    found = []
    for path in (studio.workspace.root / "engines").glob("*/request.json"):
        request, about = _read(path), _read(path.with_name("engine.json")) or {}
        if request and process.lives(path.parent) and not path.with_name("error.json").exists():
            view = EngineView(
                id=path.parent.name,
                model=request["model"],
                state="ready" if about else "loading",
                device=about.get("device"),
                bytes=about.get("bytes"),
                started=request["started"],
            )
            found.append(view)
    return sorted(found, key=lambda view: view.started)


def end_engine(studio: Studio, user: User, id: str) -> None:
    """Let an engine end, whatever it writes just now. Raises ``NotFound`` where there is none."""
    user.check(Role.editor)
    found = next((view for view in list_engines(studio, user) if view.id == id), None)
    if found is None:
        raise NotFound("there is no such engine", where=id)
    folder = studio.workspace.root / "engines" / found.id
    (folder / "request.json").unlink(missing_ok=True)  # it looks twice a second
    until = time.monotonic() + 10
    while process.lives(folder) and time.monotonic() < until:
        time.sleep(0.05)
    with studio.database.write() as session:
        note(session, time.time(), user.name, "unload", f"model/{found.model}")


def sweep(studio: Studio) -> None:
    """Delete the folders of engines that ended an hour ago or longer."""
    for folder in (studio.workspace.root / "engines").glob("*/"):
        if time.time() - folder.stat().st_mtime > 3600 and not process.lives(folder):
            shutil.rmtree(folder, ignore_errors=True)


async def write(
    studio: Studio, user: User, model: str, settings: dict[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """What the model writes: ``{"text"}`` piece by piece, at last ``{"finish", "prompt_tokens", "completion_tokens"}``.

    Args:
        settings: prompt, max_tokens, temperature, top_p, seed, stop: see ``rewarm.models.generate.complete``.

    Raises:
        NotFound: there is no such model. ResourceError: too little memory. TooMany: too many wait already.
        UserError: what the engine refuses.
    """
    user.check(Role.viewer)
    reference = await asyncio.to_thread(resolve, studio, model)
    for last in (False, True):  # one that ends just now for want of work is started again
        about = await _ready(studio, user, reference)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", about["port"], limit=_LINE)
        except OSError:
            if last:
                raise ResourceError("the model's engine does not answer", where=model, remedy="try again") from None
            continue
        break
    try:
        writer.write(orjson.dumps({**settings, "token": about["token"]}) + b"\n")
        await writer.drain()
        ended = False
        async for line in reader:
            answer = orjson.loads(line)
            if "error" in answer:
                raise _refusal(answer["error"], model)
            ended = "finish" in answer
            yield answer
        if not ended:
            raise ResourceError("the model's engine has ended", where=model, remedy="try again")
    except ConnectionError:
        raise ResourceError("the model's engine has ended", where=model, remedy="try again") from None
    finally:
        writer.close()


async def _ready(studio: Studio, user: User, reference: str) -> dict[str, Any]:
    """What the engine for ``reference`` says of itself once its model is loaded."""
    until, tries = time.monotonic() + LOADING_SECONDS, 0
    while time.monotonic() < until:
        folder = await asyncio.to_thread(start, studio, user, reference) if tries == 0 else _folder(studio, reference)
        tries = max(tries, 1)
        alive = process.lives(folder)  # asked first: one that ends meanwhile has said why
        if alive and (about := _read(folder / "engine.json")):
            return about
        if error := _read(folder / "error.json"):
            kind = ResourceError if error["kind"] == "memory" else ModelError
            raise kind(error["what"], where=reference, remedy=error["remedy"])
        if not alive:
            if tries > 2:
                raise ResourceError("its engine ended without a word", where=reference, remedy=f"see {folder}/log.txt")
            tries += 1
            await asyncio.to_thread(start, studio, user, reference)
        await asyncio.sleep(0.05)
    raise ResourceError("is still being loaded", where=reference, remedy="try again later")


def _refusal(error: dict[str, Any], model: str) -> UserError:
    kind = TooMany if error["status"] == 429 else UserError
    return kind(error["what"], where=model, remedy=error.get("remedy") or "try again later")


def _folder(studio: Studio, reference: str) -> Path:
    return studio.workspace.root / "engines" / sha256_bytes(reference.encode())[:16]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = orjson.loads(path.read_bytes())
        return value
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
