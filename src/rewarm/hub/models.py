"""Model versions, ``models/NAME/N``: weights, tokenizer and card, with ``lineage.json`` and ``manifest.json``.

A version is filled in a folder beside, checksummed and flushed to disk; then its number is taken
by mkdir, so that two runs that publish at once get different numbers, and the finished folder is
renamed onto it. A version exists when its manifest exists: whatever a killed process leaves (a
``.tmp-`` folder, an empty number) is not one, and its number is not given again.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.config import nearest
from rewarm.core.errors import ModelError, NotFound, UserError
from rewarm.core.manifest import MANIFEST, read_manifest, to_json, verify, write_manifest
from rewarm.core.storage import TEMPORARY, sync, sync_folder, write_file
from rewarm.hub.aliases import read_aliases, tag, unnamed

LINEAGE = "lineage.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class NoModel(ModelError, NotFound):  # noqa: N818
    """There is no such version."""


@dataclass(frozen=True)
class Version:
    """One published version of a model."""

    path: Path
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def manifest(self) -> dict[str, Any]:
        """Its files with sizes and hashes. Raises ``DataError`` where the manifest is damaged."""
        return read_manifest(self.path)

    @property
    def lineage(self) -> dict[str, Any]:
        """Where it comes from: base and its fingerprint, data, recipe, code, run, parent version.

        Raises:
            ModelError: if ``lineage.json`` is missing or not a JSON object.
        """
        path = self.path / LINEAGE
        try:
            value = orjson.loads(path.read_bytes())
        except FileNotFoundError:
            raise ModelError("this version has no lineage", where=path, remedy=_REPUBLISH) from None
        except orjson.JSONDecodeError as error:
            raise ModelError(f"the lineage is not JSON: {error}", where=path, remedy=_REPUBLISH) from None
        if not isinstance(value, dict):
            raise ModelError("the lineage is not a JSON object", where=path, remedy=_REPUBLISH)
        return value

    @property
    def size(self) -> int:
        """Bytes of all its files, as the manifest says."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())

    def verify(self) -> None:
        """Compare every file with the manifest, by SHA-256. Raises ``ModelError`` naming the first that differs."""
        verify(self.path, ModelError)


_REPUBLISH = "publish the run again, or restore the folder from a backup"


def publish(models: Path, name: str, fill: Callable[[Path], None], lineage: dict[str, Any]) -> Version:
    """Let ``fill(folder)`` write the model's files, and make them the next version of ``name``.

    An error in ``fill`` leaves nothing behind, a kill leaves nothing that counts.

    Raises:
        UserError: if ``name`` cannot be a folder's name.
    """
    check_name(name)
    home = models / name
    home.mkdir(parents=True, exist_ok=True)
    _sweep(home)
    beside = home / f"{TEMPORARY}{uuid.uuid4().hex[:8]}"
    beside.mkdir()
    try:
        fill(beside)
        write_file(beside / LINEAGE, to_json(lineage))
        write_manifest(beside, {"schema": 1, "kind": "model", "name": name})
        sync_folder(beside)
        path = _take_number(home)
        beside.rename(path)  # onto the empty folder: one step, and only for whoever made that folder
        sync(home)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return Version(path, name, int(path.name))


def check_name(name: str) -> None:
    """Raises ``UserError`` where ``name`` cannot name a model."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name[:200]!r} cannot name a model",
            remedy="start with a letter or digit; use letters, digits, _ and - only, at most 100 of them",
        )


def _sweep(home: Path) -> None:
    """Delete what killed processes left: a day ago or longer, as no living one takes that long to publish."""
    for item in home.glob(f"{TEMPORARY}*"):
        if time.time() - item.stat().st_mtime > 86_400:
            shutil.rmtree(item, ignore_errors=True)
    for folder in home.iterdir():
        left = list(folder.iterdir()) if folder.name.isdecimal() else []
        if folder / MANIFEST not in left:  # seen at once: a version that appears here now is none of these
            _delete(left)


def remove(version: Version) -> None:
    """Delete a version; its empty folder stays, so that no other version ever gets its number.

    Raises:
        Conflict: an alias means it. NoModel: it is gone already.
    """
    with unnamed(version.path.parent, version.number):
        try:
            (version.path / MANIFEST).unlink()  # from here on it is none, whatever happens to this process
        except FileNotFoundError:
            raise NoModel("there is no such version any more", where=str(version)) from None
    tag(version.path.parent, version.number, {})
    _delete(list(version.path.iterdir()))


def _delete(items: list[Path]) -> None:
    for item in items:
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)


def _take_number(home: Path) -> Path:
    number = max((int(item.name) for item in home.iterdir() if item.name.isdecimal()), default=0)
    while True:
        number += 1
        try:
            (home / str(number)).mkdir()
        except FileExistsError:
            continue
        return home / str(number)


def list_models(models: Path) -> list[Version]:
    """Every version in the folder, by name, then by number."""
    if not models.is_dir():
        return []
    return [version for home in sorted(models.iterdir()) if _NAME.fullmatch(home.name) for version in _versions(home)]


def _versions(home: Path) -> list[Version]:
    if not home.is_dir():
        return []
    numbers = sorted(int(item.name) for item in home.iterdir() if item.name.isdecimal())
    paths = [home / str(number) for number in numbers]
    return [Version(path, home.name, int(path.name)) for path in paths if (path / MANIFEST).is_file()]


def find(models: Path, reference: str) -> Version:
    """The version that ``name@n`` or ``name@alias`` means, or the newest of ``name``.

    Raises:
        NoModel: if there is none, with the nearest name or the versions that exist.
        ModelError: the aliases cannot be read.
    """
    name, at, which = reference.partition("@")
    names = sorted({version.name for version in list_models(models)})
    if name not in names:
        guess = nearest(name, names)
        hint = f"did you mean {guess!r}?" if guess else f"known are: {', '.join(names)}" if names else "it is empty"
        raise NoModel(f"no model {name!r} in the Model Hub; {hint}", where=models, remedy="see rewarm models ls")
    versions = _versions(models / name)
    if not at:
        return versions[-1]
    aliases = {} if which.isdecimal() else read_aliases(models / name)
    number = str(aliases[which].version) if which in aliases else which
    for version in versions:
        if str(version.number) == number:
            return version
    meant = [f"{name}@{alias}" for alias, to in sorted(read_aliases(models / name).items()) if to.version is not None]
    known = ", ".join([*map(str, versions), *meant])
    raise NoModel(f"no version {reference!r} in the Model Hub", where=models / name, remedy=f"take one of {known}")
