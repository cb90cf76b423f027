"""Versions on their way out: on a hub, or as GGUF."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from rewarm.core.connections import hub_connection
from rewarm.core.errors import ModelError, UserError
from rewarm.core.network import check_address, is_guarded
from rewarm.core.storage import TEMPORARY
from rewarm.core.workspace import Workspace
from rewarm.hub.models import Version

PRIVATE = ("recipe.yaml", "resolved.json", "lineage.json", "manifest.json")
"""Files of a version that are not pushed: they name folders and the machine, or list the others."""


def push(
    version: Version, hub_id: str, workspace: Workspace, connection: str | None = None, private: bool = True
) -> str:
    """Put a version's model, card and report on a hub, as ``organisation/name``; returns its address.

    Args:
        connection: of kind hf, its token may write; unset, that called ``huggingface``.

    Raises:
        UserError: there is no such connection. ModelError: the hub refuses, or cannot be reached.
    """
    found = hub_connection(workspace, connection)
    if found is None:
        raise UserError("there is no connection to a hub", remedy="rewarm connections add hf, with a token that writes")
    endpoint = found.endpoint or constants.ENDPOINT
    if is_guarded():
        parts = urlsplit(endpoint)
        check_address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    version.verify()
    api = HfApi(endpoint=endpoint, token=found.token.get_secret_value())
    try:
        _make_repository(api, hub_id, private)
        api.upload_folder(
            repo_id=hub_id, folder_path=version.path, ignore_patterns=list(PRIVATE), commit_message=str(version)
        )
    except HFValidationError as error:
        raise UserError(f"not a hub id: {error}", where=hub_id, remedy="write organisation/name") from None
    except (HfHubHTTPError, HTTPError, OSError) as error:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        what = f"the hub refuses ({status})" if status else f"{endpoint} does not answer ({type(error).__name__})"
        raise ModelError(what, where=hub_id, remedy="see that the connection's token may write there") from None
    return f"{endpoint}/{hub_id}"


def _make_repository(api: HfApi, hub_id: str, private: bool) -> None:
    try:
        api.create_repo(hub_id, private=private, exist_ok=True)
    except HFValidationError:
        raise
    except ValueError:  # it is there, and not the token's to make; the client stumbles over the address of other hubs
        return


def to_gguf(version: Version, target: Path, kind: Literal["f32", "f16", "bf16", "q8_0"] = "f16") -> Path:
    """Write a version as the GGUF file ``target``, by llama.cpp's converter.

    It is ``convert_hf_to_gguf.py``, found by REWARM_GGUF_CONVERTER or on PATH.

    Raises:
        UserError: there is no converter, or ``target`` exists. ModelError: it cannot convert this model.
    """
    converter = os.environ.get("REWARM_GGUF_CONVERTER") or shutil.which("convert_hf_to_gguf.py")
    if not converter or not Path(converter).is_file():
        raise UserError(
            "llama.cpp's converter is not installed",
            remedy="install llama.cpp, then put convert_hf_to_gguf.py on PATH or name it by REWARM_GGUF_CONVERTER",
        )
    if target.exists():
        raise UserError("exists already", where=target, remedy="name a file that does not exist")
    version.verify()
    beside = target.parent / f"{TEMPORARY}{uuid.uuid4().hex[:8]}.gguf"
    command = [sys.executable, converter, str(version.path), "--outfile", str(beside), "--outtype", kind]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        if done.returncode or not beside.is_file():
            last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            raise ModelError(f"the converter failed: {last[:500]}", where=str(version), remedy="see what it supports")
        beside.rename(target)
    finally:
        beside.unlink(missing_ok=True)
    return target
