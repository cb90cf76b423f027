"""Stage 1, prepare: the base model on disk, the texts as token shards, every value of the run settled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import rewarm
from rewarm.core.manifest import canonical
from rewarm.core.run import read_launch
from rewarm.core.storage import require_space, sha256_bytes, sha256_file
from rewarm.data.dataset import Dataset
from rewarm.data.prepare import Stopped as BuildStopped
from rewarm.data.prepare import build_dataset
from rewarm.pipeline.base import Base, locate
from rewarm.pipeline.execution import Execution, Stage, Stopped
from rewarm.recipe.estimate import estimate
from rewarm.recipe.facts import Machine
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.resolve import Resolved, resolve, training_tokens


def inputs(x: Execution) -> Any:
    """The recipe and the command that changed it; the run then keeps the data that it found."""
    return {"recipe": sha256_file(x.run.recipe), "launch": read_launch(x.run)}


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    base = locate(x.recipe.base_model, x.workspace, x.progress)
    try:
        dataset = build_dataset(
            x.recipe,
            base.folder,
            x.workspace.datasets,
            workers=x.recipe.infrastructure.threads,
            progress=x.progress,
            stop=x.stop,
        )
    except BuildStopped:
        raise Stopped(x.stop.reason) from None
    machine = Machine.here()
    tokens = {name: source.tokens for name, source in dataset.sources.items()}
    resolved = resolve(x.recipe, base.facts, tokens, machine)
    for item in resolved.ignored:
        x.warn(str(item))
    for note in resolved.advice:
        x.warn(note)
    _check_room(x, base, resolved, tokens, machine)
    path = x.save("resolved.json", _record(x, base, dataset, resolved, machine))
    facts = {
        "base": {
            "reference": base.reference,
            "folder": str(base.folder),
            "fingerprint": base.fingerprint(),
            "parameters": base.parameters,
        },
        "dataset": dataset.hash,
        "hyperparameters": resolved.hyperparameters.model_dump(),
        "device": resolved.device,
    }
    return facts, [path]


def _check_room(x: Execution, base: Base, resolved: Resolved, tokens: dict[str, int], machine: Machine) -> None:
    """Refuse to start what the disk cannot hold: better now than after a night."""
    values = resolved.hyperparameters
    total = training_tokens(x.recipe, tokens, values.epochs)
    needs = estimate(base.facts, values, total, machine, resolved.device)
    require_space(x.run.path, needs.disk, f"checkpoints of {needs.checkpoint / 1e9:.2f} GB each and the exported model")


def _record(x: Execution, base: Base, dataset: Dataset, resolved: Resolved, machine: Machine) -> dict[str, Any]:
    return {
        **resolved.to_json(),
        "machine": asdict(machine),
        "dataset": dataset.hash,
        "base": base.reference,
        "recipe": sha256_file(x.run.recipe),
        "code": {"version": rewarm.__version__, "sha256": code_hash()},
    }


def code_hash() -> str:
    """One hash of all of Rewarm's own source files, for the lineage of what they make."""
    root = Path(rewarm.__file__).parent
    return sha256_bytes(canonical({str(p.relative_to(root)): sha256_file(p) for p in sorted(root.rglob("*.py"))}))


def dataset_of(x: Execution) -> Dataset:
    """The dataset that this stage built or found. Raises ``DataError`` if it was damaged since."""
    return Dataset.open(x.workspace.datasets / x.facts["prepare"]["dataset"])


def hyperparameters_of(x: Execution) -> Hyperparameters:
    """The run's hyperparameters, every one filled in."""
    return Hyperparameters.model_validate(x.facts["prepare"]["hyperparameters"])


PREPARE = Stage("prepare", inputs, work)
