"""Models from elsewhere as versions of the Model Hub: checked like any base, weights in safetensors alone, no code."""

from __future__ import annotations

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rewarm.core.errors import ModelError, UserError
from rewarm.core.storage import require_space
from rewarm.core.workspace import Workspace
from rewarm.hub.models import LINEAGE, Version, publish
from rewarm.hub.transfer import is_archive, unpack
from rewarm.models.download import UNWANTED, WANTED
from rewarm.models.folder import Progress, check_folder, fetch, fingerprint, is_folder, share
from rewarm.pipeline.base import hub_token

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_PICKLED = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5)))


def import_model(source: str, name: str, workspace: Workspace, progress: Progress) -> Version:
    """Make ``source`` the next version of ``name``.

    Args:
        source: a Hugging Face folder (``./folder``, ``/folder``), a zip or tar file of one, or a hub id.

    Raises:
        ModelError: it cannot be found, or cannot be trusted: see ``rewarm.models.folder.check_folder``.
        ResourceError: the disk has too little room.
    """
    if not is_folder(source) and not HUB_ID.fullmatch(source):
        raise UserError(
            f"{source[:200]!r} is neither a folder or archive (./name) nor a hub id", remedy="write one of these"
        )
    path = Path(source).expanduser() if is_folder(source) else None
    packed = path if path and is_archive(path) else None
    folder = None if packed else fetch(source, progress, token=None if path else hub_token(workspace))
    where = f"./{path.name}" if path else source  # lineages travel: not where it lies on this computer
    imported = {"from": where} if path or folder is None else {"from": where, "revision": folder.name}
    lineage: dict[str, Any] = {"imported": imported}

    def fill(target: Path) -> None:
        if packed:
            unpack(packed, target, is_wanted)
        elif folder:
            check_folder(folder)  # before gigabytes are copied
            _copy(folder, target, progress, links=path is None)
        for file in target.iterdir():
            with file.open("rb") as content:
                if content.read(4).startswith(_PICKLED):
                    raise ModelError("is a pickle, which can run code when it is loaded", where=file.name)
        check_folder(target)
        share(target)
        lineage["model"] = fingerprint(target)  # written once this is done

    return publish(workspace.models, name, fill, lineage)


def is_wanted(name: str) -> bool:
    """Whether a model's file of this name is taken along: weights in safetensors, tokenizer, configuration, licence."""
    unwanted = (*UNWANTED, LINEAGE, ".*")
    return any(fnmatch(name, pattern) for pattern in WANTED) and not any(fnmatch(name, one) for one in unwanted)


def _copy(folder: Path, target: Path, progress: Progress, links: bool) -> None:
    """The wanted files; ``links`` may lead out of the folder only in the hub's own cache."""
    files = [file for file in sorted(folder.iterdir()) if is_wanted(file.name) and file.is_file()]
    for file in files:
        if not links and not file.resolve().is_relative_to(folder.resolve()):
            raise ModelError("is a link that leads out of the folder", where=file, remedy="copy the file itself there")
    total, done = sum(file.stat().st_size for file in files), 0
    require_space(target, total, "the import")
    for file in files:
        progress("copy", done, total, "bytes")
        shutil.copyfile(file, target / file.name)
        done += file.stat().st_size
