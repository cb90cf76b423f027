"""Stage 1, prepare: the base model on disk, the texts as token shards, every value of the run settled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import torch

import rewarm
from rewarm.core.errors import DataError, ResourceError, UserError
from rewarm.core.manifest import MANIFEST, canonical
from rewarm.core.run import read_launch
from rewarm.core.storage import free_bytes, sha256_bytes, sha256_file
from rewarm.core.workspace import Workspace
from rewarm.data.dataset import Dataset
from rewarm.data.plan import sizes_of
from rewarm.data.prepare import build_dataset
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.evaluate.harness import check_tasks
from rewarm.hub.models import find
from rewarm.models.chat_vector import check_instruct
from rewarm.models.folder import Progress, fingerprint
from rewarm.pipeline.base import Base, locate
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.items import with_items
from rewarm.pipeline.replay import settle_replay, with_replay
from rewarm.recipe.estimate import estimate, shortages
from rewarm.recipe.facts import Machine
from rewarm.recipe.hyperparameters import AUTO, Hyperparameters
from rewarm.recipe.load import recipe_of
from rewarm.recipe.pilot import with_choice
from rewarm.recipe.recipe import CHAT_VECTOR, Infrastructure, Recipe
from rewarm.recipe.resolve import Resolved, check_length, device_for, resolve, training_tokens
from rewarm.recipe.verdicts import chat_advice, chats, check_chat, document_end_advice
from rewarm.train.trial import fitting


def inputs(x: Execution) -> Any:
    """The recipe and the command that changed it; the run then keeps the data that it found."""
    return {"recipe": sha256_file(x.run.recipe), "launch": read_launch(x.run)}


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    x.recipe = recipe_of(x.run, settled=False)
    refuse_early(x)
    settings = x.recipe.evaluation
    check_tasks(settings.all_tasks, *settings.folders)
    base = locate(x.recipe.base_model, x.workspace, x.progress)
    check_length(x.recipe, base.facts)
    check_chat(x.recipe, base.folder)
    instruct = locate_instruct(x.recipe, base, x.workspace, x.progress)
    replay = settle_replay(x, base)
    dataset = build_dataset(
        with_items(with_replay(x, base), x.workspace, x.progress),
        base.folder,
        x.workspace.datasets,
        workers=x.recipe.infrastructure.threads,
        progress=x.progress,
        stop=x.stop,
        again=_dataset_before(x),
    )
    wanted = {panel.name: panel.records for panel in x.recipe.evaluation.panels if panel.records}
    for source in dataset.manifest["sources"]:
        if wanted.get(source["name"], source["documents_in"]) != source["documents_in"]:
            raise DataError(
                f"{source['documents_in']:,} records were read, and {wanted[source['name']]:,} must be there",
                where=f"panel {source['name']}: {', '.join(source['paths'])}",
                remedy="the file is another one, or not whole; correct records where that is meant",
            )
        for bad in source["bad_files"]:
            x.warn(f"damaged and passed over: {bad['file']}: {bad['reason']}", source=source["name"])
    machine = Machine.here()
    tokens = sizes_of(dataset)
    resolved = resolve(x.recipe, base.facts, tokens, machine)
    if x.recipe.hyperparameters.batch_size == AUTO and resolved.device == "cuda":
        x.show_progress("trial step", 0, 1, "step")
        given = resolved.hyperparameters
        values = fitting(base.folder, given, torch.device("cuda"))
        resolved = resolved if values == given else resolved.tried(values)
    for item in resolved.ignored:
        x.warn(str(item))
    tokenizer = DocumentTokenizer.load(base.folder, x.recipe.data.document_tokens)
    for note in [*resolved.advice, *document_end_advice(x.recipe, tokenizer), *chat_advice(x.recipe, base.folder)]:
        x.warn(note)
    if (reason := dataset.manifest["encoder"]["fallback"]) is not None:
        x.warn(f"text was encoded with tokenizers, which is slower, because of {reason}")
    _check_room(x, base, resolved, tokens, machine)
    about = {
        # Reports and cards travel: they name a local folder, not where it lies on this computer.
        "reference": f"./{base.folder.name}" if base.reference.startswith("/") else base.reference,
        "folder": str(base.folder),
        "fingerprint": base.fingerprint(),
        "parameters": base.parameters,
    }
    record = _record(x, about, dataset, resolved, machine)
    path = x.save("resolved.json", {**record, "replay": replay and asdict(replay)})
    facts = {
        "base": about,
        "dataset": dataset.hash,
        "hyperparameters": resolved.hyperparameters.model_dump(),
        "device": resolved.device,
        "replay": replay and x.recipe.model_dump(mode="json", exclude_unset=True)["data"]["replay"],
        **({"instruct": [str(folder) for folder in instruct]} if instruct else {}),
    }
    return facts, [path]


def locate_instruct(recipe: Recipe, base: Base, workspace: Workspace, progress: Progress) -> tuple[Path, Path] | None:
    """The folders of ``evaluation.instruct_model`` and of the base that it was made from; None where there is none.

    Raises:
        ModelError: it cannot be found or was not made from this base.
    """
    if (named := recipe.evaluation.instruct_model) is None:
        return None
    folder, first = locate(named, workspace, progress).folder, _first_base(base, workspace, progress)
    check_instruct(folder, first)
    if not chats(folder):
        raise UserError("this model has no chat template", where=f"evaluation.instruct_model: {named}")
    return folder, first


def _first_base(base: Base, workspace: Workspace, progress: Progress) -> Path:
    """The folder of what a chain of updates began with: what an instruct model was taught, it was taught upon that."""
    while "/" not in base.reference and (before := find(workspace.models, base.reference).lineage.get("base")):
        if before["reference"].startswith("."):
            raise UserError(
                f"{base.reference} was made from {before['reference']}, a folder that only its own run knew",
                where="evaluation.instruct_model",
                remedy="the vector is taken from the first base, so begin the chain with a hub id or a version",
            )
        if find(workspace.models, base.reference).lineage.get("weights") == CHAT_VECTOR:
            raise UserError(f"{base.reference} has the chat vector in it already", where="evaluation.instruct_model")
        base = locate(before["reference"], workspace, progress)
    return base.folder


def _dataset_before(x: Execution) -> str | None:
    """The dataset that this run has already begun to learn from, if what it is made of is unchanged."""
    record = x.run.stage_record("prepare")
    try:
        before = orjson.loads(record.read_bytes())
        same = before["inputs"] == sha256_bytes(canonical(inputs(x)))
        return str(before["facts"]["dataset"]) if same else None
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def refuse_early(x: Execution) -> None:
    """Raise ``UserError`` for what would otherwise fail hours from now."""
    device_for(x.recipe, Machine.here())
    wanted = x.recipe.hyperparameters.resume_from_checkpoint
    if wanted not in ("no", "last") and not (x.run.path / wanted / MANIFEST).is_file():
        raise UserError(
            "hyperparameters.resume_from_checkpoint: there is no such checkpoint in this run",
            where=x.run.path / wanted,
            remedy="leave it out for a new run; to learn more from another run, name its model as base_model",
        )


def _check_room(x: Execution, base: Base, resolved: Resolved, tokens: dict[str, int], machine: Machine) -> None:
    """Refuse to start what memory or disk cannot hold: better now than after a night."""
    values = resolved.hyperparameters
    total = training_tokens(x.recipe, tokens, values.epochs)
    needs = estimate(base.facts, values, total, place=resolved.place)
    missing = shortages(needs, base.facts, values, machine, resolved.place, free_bytes(x.run.path), x.run.path)
    if missing:
        raise ResourceError("; ".join(missing), remedy="rewarm check says what else the run needs")


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
    """The run's hyperparameters, every one filled in; once there was a pilot, with what it chose."""
    return _settled(x)[1]


def training_recipe(x: Execution) -> Recipe:
    """The recipe; once there was a pilot, with the replay that it chose."""
    return _settled(x)[0]


def _settled(x: Execution) -> tuple[Recipe, Hyperparameters]:
    values = Hyperparameters.model_validate(x.facts["prepare"]["hyperparameters"])
    return with_choice(x.recipe, values, x.facts.get("baseline"))


def check(x: Execution, facts: dict[str, Any]) -> None:
    """Compare dataset and base with what they were. Raises ``UserError`` where one was changed or is gone."""
    Dataset.open(x.workspace.datasets / facts["dataset"])
    folder = Path(facts["base"]["folder"])
    if not folder.is_dir() or fingerprint(folder) != facts["base"]["fingerprint"]:
        raise UserError("the base model was changed or is gone", where=folder)
    if facts["device"] == "cuda":
        device_for(x.recipe.model_copy(update={"infrastructure": Infrastructure(devices="cuda")}), Machine.here())


PREPARE = Stage("prepare", inputs, work, check)
