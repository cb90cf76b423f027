"""Stage 1, prepare: the base model on disk, the texts as token shards, every value of the run settled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import rewarm
from rewarm.core.errors import UserError
from rewarm.core.manifest import canonical
from rewarm.core.run import read_launch
from rewarm.core.storage import require_space, sha256_bytes, sha256_file
from rewarm.data.dataset import Dataset
from rewarm.data.prepare import Stopped as BuildStopped
from rewarm.data.prepare import build_dataset
from rewarm.models.folder import fingerprint
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
    if x.recipe.evaluation.task_path and not Path(x.recipe.evaluation.task_path).is_dir():
        raise UserError("evaluation.task_path: there is no such folder", where=x.recipe.evaluation.task_path)
    machine = Machine.here()
    tokens = {name: source.tokens for name, source in dataset.sources.items()}
    resolved = resolve(x.recipe, base.facts, tokens, machine)
    for item in resolved.ignored:
        x.warn(str(item))
    for note in resolved.advice:
        x.warn(note)
    _check_room(x, base, resolved, tokens, machine)
    about = {
        # Reports and cards travel: they name a local folder, not where it lies on this computer.
        "reference": f"./{base.folder.name}" if base.reference.startswith("/") else base.reference,
        "folder": str(base.folder),
        "fingerprint": base.fingerprint(),
        "parameters": base.parameters,
    }
    path = x.save("resolved.json", _record(x, about, dataset, resolved, machine))
    facts = {
        "base": about,
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


def _record(
    x: Execution, base: dict[str, Any], dataset: Dataset, resolved: Resolved, machine: Machine
) -> dict[str, Any]:
    return {
        **resolved.to_json(),
        "machine": asdict(machine),
        "dataset": dataset.hash,
        "base": base,
        "recipe": sha256_file(x.run.recipe),
        "code": {"version": rewarm.__version__, "sha256": code_hash()},
    }


def code_hash() -> str:
    """One hash of all of Rewarm's own source files, for the lineage of what they make."""
    root = Path(rewarm.__file__).parent
    return sha256_bytes(canonical({str(p.relative_to(root)): sha256_file(p) for p in sorted(root.rglob("*.py"))}))


def dataset_of(x: Execution) -> Dataset:
    """The dataset that this stage built or found; its hashes were compared when this attempt began."""
    return Dataset.open(x.workspace.datasets / x.facts["prepare"]["dataset"], verify=False)


def hyperparameters_of(x: Execution) -> Hyperparameters:
    """The run's hyperparameters, every one filled in."""
    return Hyperparameters.model_validate(x.facts["prepare"]["hyperparameters"])


def check(x: Execution, facts: dict[str, Any]) -> None:
    """Compare dataset and base with what they were. Raises ``UserError`` where one was changed or is gone."""
    Dataset.open(x.workspace.datasets / facts["dataset"])
    folder = Path(facts["base"]["folder"])
    if not folder.is_dir() or fingerprint(folder) != facts["base"]["fingerprint"]:
        raise UserError("the base model was changed or is gone", where=folder)


PREPARE = Stage("prepare", inputs, work, check)
