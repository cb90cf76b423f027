"""The base model of a run: found, checked, and known by a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewarm.core.config import nearest
from rewarm.core.errors import ModelError
from rewarm.core.workspace import Workspace
from rewarm.hub.models import find, list_models
from rewarm.models.folder import Progress, check_folder, count_parameters, fetch, fingerprint
from rewarm.recipe.facts import ModelFacts


@dataclass(frozen=True)
class Base:
    """A base model on this machine's disk."""

    reference: str
    folder: Path
    config: dict[str, Any]
    parameters: int

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts.of(self.config, self.parameters)

    def fingerprint(self) -> str:
        """SHA-256 over weights, tokenizer and configuration; reads every byte of them."""
        return fingerprint(self.folder)


def locate(reference: str, workspace: Workspace, progress: Progress) -> Base:
    """The model that ``reference`` names: a version of ours, a folder, or a hub id (downloaded).

    Raises:
        ModelError: if it cannot be found, or its folder cannot be trusted.
    """
    if "@" in reference and not reference.startswith((".", "/", "~")):
        version = find(workspace.models, reference)
        version.verify()
        folder = version.path
    elif "/" not in reference:
        versions = list_models(workspace.models)
        guess = nearest(reference, [version.name for version in versions])
        newest = [version for version in versions if version.name == guess]
        raise ModelError(
            f"{reference!r} is neither a hub id (organisation/name), a folder (./name) nor a version (name@1)"
            + (f"; did you mean {newest[-1]}?" if newest else ""),
            remedy="correct base_model",
        )
    else:
        folder = fetch(reference, progress)
    config = check_folder(folder)
    return Base(reference, folder, config, count_parameters(folder))
