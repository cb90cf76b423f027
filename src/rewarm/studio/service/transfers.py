"""Models on their way in and out, which takes minutes: a process of the engine for each, in ``transfers/ID``."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from rewarm.core.errors import Forbidden, NotFound, UserError
from rewarm.core.manifest import to_json
from rewarm.core.storage import write_file
from rewarm.hub.models import check_name, find
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service import process
from rewarm.studio.service.engine import command
from rewarm.studio.service.settings import Folders, read_setting
from rewarm.studio.store.audit import note

_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_MOST_LOG = 1 << 16


class Transfer(BaseModel):
    """An import, push or export: running, done, or failed with the reason."""

    id: str = Field(examples=["20260901T101500-0f4c2a9b"])
    kind: Literal["import", "push", "gguf"]
    what: str = Field(examples=["HuggingFaceTB/SmolLM2-135M"])
    to: str = Field(examples=["smollm2"])
    by: str
    started: float
    state: Literal["running", "done", "failed"]
    progress: dict[str, Any] | None = Field(None, examples=[{"what": "copy", "done": 1, "total": 2, "unit": "bytes"}])
    result: dict[str, Any] | None = Field(None, examples=[{"model": "smollm2@1"}])
    error: str | None = None
    remedy: str | None = None


def import_model(studio: Studio, user: User, source: str, name: str) -> Transfer:
    """Make a hub id, or a folder or archive, the next version of ``name``.

    A folder or archive lies among the uploads (``uploads/NAME``) or in a folder that an administrator has opened.

    Raises:
        Forbidden: ``source`` is a path elsewhere. NotFound: there is no such file. UserError: a name is none.
    """
    user.check(Role.editor)
    check_name(name)
    if source.startswith(("uploads/", "/")):
        source = str(_opened(studio, source))
    elif not _HUB_ID.fullmatch(source):
        raise Forbidden(
            "a model comes from a hub id or an upload", where=source[:200], remedy="write org/name or uploads/NAME"
        )
    return _start(studio, user, "import", source, name, ["models", "import", "--name", name, "--", source])


def _opened(studio: Studio, source: str) -> Path:
    refusal = Forbidden("this path is not open to imports", where=source[:200], remedy="write uploads/NAME")
    if "\0" in source:
        raise refusal
    path, uploads = (studio.workspace.root / source).resolve(), (studio.workspace.root / "uploads").resolve()
    opened = [Path(folder).resolve() for folder in read_setting(studio, Folders).readable]
    if path == uploads or not any(path.is_relative_to(folder) for folder in (uploads, *opened)):
        raise refusal
    with contextlib.suppress(OSError):  # a name that no file can have
        if path.exists():
            return path
    raise NotFound("there is no such file", where=source[:200])


def push(
    studio: Studio, user: User, reference: str, hub_id: str, connection: str | None, public: bool = False
) -> Transfer:
    """Put a version on a hub. Raises ``NotFound``, or ``UserError`` where ``hub_id`` is none."""
    user.check(Role.editor)
    version = str(find(studio.workspace.models, reference))
    if not _HUB_ID.fullmatch(hub_id):
        raise UserError("not a hub id", where=hub_id[:200], remedy="write organisation/name")
    options = ["--public"] * public + ([f"--connection={connection}"] if connection else [])
    return _start(studio, user, "push", version, hub_id, ["models", "push", *options, "--", version, hub_id])


def export_gguf(
    studio: Studio, user: User, reference: str, kind: Literal["f32", "f16", "bf16", "q8_0"] = "f16"
) -> Transfer:
    """Convert a version to GGUF; the file can be fetched when it is done. Raises ``NotFound``."""
    user.check(Role.editor)
    version = find(studio.workspace.models, reference)
    file = f"{version.name}-{version.number}-{kind}.gguf"
    arguments = ["models", "gguf", "--type", kind, "--", str(version), file]
    return _start(studio, user, "gguf", str(version), file, arguments)


def list_transfers(studio: Studio, user: User, limit: int = 100) -> list[Transfer]:
    """The newest first."""
    user.check(Role.viewer)
    paths = sorted((studio.workspace.root / "transfers").glob("*/request.json"), reverse=True)
    return [_view(path.parent) for path in paths[:limit]]


def show(studio: Studio, user: User, id: str) -> Transfer:
    """Raises ``NotFound``."""
    user.check(Role.viewer)
    return _view(_folder(studio, id))


def file_of(studio: Studio, user: User, id: str) -> Path:
    """The file that an export made. Raises ``NotFound`` where there is none yet."""
    found = show(studio, user, id)
    path = _folder(studio, id) / found.to
    if found.kind != "gguf" or found.state != "done" or not path.is_file():
        raise NotFound("there is no file", where=id)
    return path


def _folder(studio: Studio, id: str) -> Path:
    folder = studio.workspace.root / "transfers" / id
    if not _ID.fullmatch(id) or not (folder / "request.json").is_file():
        raise NotFound("there is no such transfer", where=id[:100])
    return folder


def _start(
    studio: Studio, user: User, kind: Literal["import", "push", "gguf"], what: str, to: str, arguments: list[str]
) -> Transfer:
    now = time.time()
    id = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    folder = studio.workspace.root / "transfers" / id
    folder.mkdir(parents=True, mode=0o700)
    shown = what if not what.startswith("/") else f"./{Path(what).name}"
    request = {"id": id, "kind": kind, "what": shown, "to": to, "by": user.name, "started": now}
    write_file(folder / "request.json", to_json(request))
    process.start(studio.workspace, folder, command(arguments), cwd=folder, REWARM_PROGRESS="json")
    with studio.database.write() as session:
        note(session, now, user.name, kind, f"model/{shown}", {"to": to, "transfer": id})
    return _view(folder)


def _view(folder: Path) -> Transfer:
    alive = process.lives(folder)  # asked first: one that ends meanwhile has written its answer
    request = orjson.loads((folder / "request.json").read_bytes())
    lines = _tail(folder / "log.txt").splitlines()
    progress = next(filter(None, map(_progress, reversed(lines))), None)
    if alive:
        return Transfer(**request, state="running", progress=progress)
    with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):
        return Transfer(**request, state="done", result=orjson.loads((folder / "output").read_bytes()))
    told = "\n".join(line for line in lines if not line.startswith('{"progress"')).strip()
    what, _, remedy = told.removeprefix("rewarm: ").partition("\n  what to do: ")
    return Transfer(**request, state="failed", error=what[-2000:] or "ended without a word", remedy=remedy or None)


def _progress(line: str) -> dict[str, Any] | None:
    """What a line reports; None of another, and of one that a full disk cut off."""
    if line.startswith('{"progress"'):
        with contextlib.suppress(orjson.JSONDecodeError):
            found: dict[str, Any] = orjson.loads(line)["progress"]
            return found
    return None


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST_LOG))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
