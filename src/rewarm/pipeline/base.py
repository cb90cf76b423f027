"""The base model of a run: found, checked, and known by a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from rewarm.core.config import nearest
from rewarm.core.connections import hub_connection
from rewarm.core.errors import ModelError
from rewarm.core.manifest import read_manifest
from rewarm.core.workspace import Workspace
from rewarm.hub.models import find, list_models
from rewarm.models.folder import (
    Progress,
    check_folder,
    count_parameters,
    fetch,
    fingerprint,
    hub_tensors,
    is_folder,
)
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
        """SHA-256 over weights, tokenizer and configuration; reads every byte of them, once in a process."""
        return fingerprint(self.folder)


def locate(reference: str, workspace: Workspace, progress: Progress, *, weights: bool = True) -> Base:
    """The model that ``reference`` names: a version of ours, a folder, or a hub id (downloaded).

    Args:
        weights: read or fetch all of them; else only their headers, enough to say what a run would need.

    Raises:
        ModelError: if it cannot be found, or its folder cannot be trusted.
    """
    tensors = None
    if is_folder(reference):
        folder = fetch(reference, progress)
    elif "/" in reference:
        token = hub_token(workspace)
        folder = fetch(reference, progress, weights=weights, token=token)
        tensors = None if weights else hub_tensors(folder, reference, progress, token)
    elif "@" in reference:
        version = find(workspace.models, reference)
        reference, folder = str(version), version.path  # an alias may mean another one tomorrow
        read_manifest(folder, error=ModelError)  # not every folder must have one, a version must
    else:
        raise _unknown(reference, workspace)
    config = check_folder(folder, hashes=weights, tensors=tensors)
    return Base(reference, folder, config, count_parameters(folder, tensors))


def hub_token(workspace: Workspace) -> str | None:
    """The token of the workspace's own connection to the hub, where it leads to the hub that models come from."""
    connection = hub_connection(workspace)
    if connection is None or connection.endpoint not in (None, constants.ENDPOINT):
        return None
    return connection.token.get_secret_value()


def _unknown(reference: str, workspace: Workspace) -> ModelError:
    """A bare name would mean another model after the next run: a recipe names the version."""
    versions = {version.name: version for version in list_models(workspace.models)}  # the newest comes last
    guess = nearest(reference, list(versions))
    return ModelError(
        f"{reference!r} is neither a hub id (organisation/name), a folder (./name) nor a version (name@1)",
        remedy=f"write {versions[guess]}" if guess else "write one of these; `rewarm models ls` shows the versions",
    )
