"""Checksummed manifests: a folder whose every file can be proven to be what was written.

safetensors, torch.save and raw token files all load a flipped byte without a word, so the
SHA-256 of each file stands in ``manifest.json``, and a folder exists when its manifest exists.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.errors import DataError, UserError
from rewarm.core.storage import remove_folder, sha256_file, write_file

MANIFEST = "manifest.json"
logger = logging.getLogger(__name__)


def to_json(value: Any) -> bytes:
    """``value`` as indented JSON with sorted keys and a final newline."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def canonical(value: Any) -> bytes:
    """``value`` as the JSON that hashes are taken of: sorted keys, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def write_manifest(
    folder: Path, facts: dict[str, Any], known: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Write ``manifest.json``: the ``facts``, and size and SHA-256 of every file in ``folder``.

    Args:
        known: entries, by relative path, of files that were hashed when they were written.
    """
    files = dict(known or {})
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path != folder / MANIFEST and name not in files:
            files[name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    manifest = {**facts, "files": files}
    write_file(folder / MANIFEST, to_json(manifest))
    return manifest


def read_manifest(folder: Path, name: str = MANIFEST, error: type[UserError] = DataError) -> dict[str, Any]:
    """The manifest of ``folder``, every entry with ``bytes`` and ``sha256``.

    Raises:
        error: where it is missing, cannot be read, or does not say of each file what it must.
    """
    path = folder / name
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise error("there is no manifest, so this folder was never finished", where=path) from None
    except OSError as problem:
        raise error(f"the manifest cannot be read: {problem.strerror}", where=path) from None
    except orjson.JSONDecodeError as problem:
        raise error(f"the manifest is not JSON: {problem}", where=path) from None
    if not isinstance(value, dict) or not isinstance(value.get("files"), dict):
        raise error("the manifest lists no files", where=path)
    for file, entry in value["files"].items():
        if not isinstance(entry, dict) or type(entry.get("bytes")) is not int or type(entry.get("sha256")) is not str:
            raise error(f"the manifest does not give size and SHA-256 of {file!r}: it was damaged", where=path)
    return value


def verify(
    folder: Path, error: type[UserError] = DataError, *, hashes: bool = True, name: str = MANIFEST
) -> dict[str, Any]:
    """Compare every file of ``folder`` with its manifest, by size and (unless told not to) by hash.

    Raises:
        error: naming the first file that is missing or differs.
    """
    manifest = read_manifest(folder, name, error)
    for file, entry in manifest["files"].items():
        path = folder / file
        if not path.is_file():
            raise error("listed in the manifest but missing", where=path)
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise error(f"has {size} bytes, the manifest says {entry['bytes']}", where=path)
        if hashes and sha256_file(path) != entry["sha256"]:
            raise error("its SHA-256 differs from the manifest: the file was changed or damaged", where=path)
    return manifest


def is_whole(folder: Path, name: str = MANIFEST) -> bool:
    """Whether a folder is there with nothing in it changed; what was damaged is said and deleted, to be made again."""
    if not folder.exists():
        return False
    try:
        verify(folder, name=name)  # by hash: a flipped byte would fail every run that uses it
    except DataError as error:
        logger.warning("it is damaged and is made again: %s", error)
        remove_folder(folder)
        return False
    return True
