"""What a recipe would do, found out before anything heavy starts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rewarm.cli.show import console, print_table, progress_bar
from rewarm.core.amounts import amount, duration, size
from rewarm.core.errors import EXIT_DONE, EXIT_RESOURCE
from rewarm.core.storage import free_bytes
from rewarm.core.workspace import Workspace
from rewarm.data.sample import Estimate as Sampled
from rewarm.data.sample import sample_texts
from rewarm.pipeline.base import Base, locate
from rewarm.recipe.estimate import estimate
from rewarm.recipe.facts import Machine
from rewarm.recipe.mixture import build_mixture, describe
from rewarm.recipe.recipe import Recipe
from rewarm.recipe.resolve import resolve, training_tokens


def examine(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    """The findings as one JSON object; what makes the run impossible is under ``problems``.

    Raises:
        UserError: if model or texts cannot be read at all.
    """
    tasks, folder = recipe.evaluation.tasks, recipe.evaluation.task_path
    if tasks or folder:
        from rewarm.evaluate.harness import check_tasks  # torch and the harness, which few checks need

        check_tasks(tasks, Path(folder) if folder else None)
    with progress_bar() as progress:
        base = locate(recipe.base_model, workspace, progress)
        texts = _sampled(recipe, base)
    machine = Machine.here()
    tokens = {name: int(text.tokens) for name, text in texts.items()}
    resolved = resolve(recipe, base.facts, tokens, machine)
    epochs = resolved.hyperparameters.epochs
    total = training_tokens(recipe, tokens, epochs)
    needs = estimate(
        base.facts, resolved.hyperparameters, total, machine, resolved.device, _dataset_bytes(base, tokens)
    )
    problems = _problems(needs, machine, resolved.device, workspace.root)
    return {
        "name": recipe.name,
        "base_model": {"reference": base.reference, "folder": str(base.folder), "parameters": base.parameters},
        "texts": {name: asdict(text) for name, text in texts.items()},
        "mixture": describe(build_mixture(recipe.data, tokens), tokens, epochs),
        "needs": asdict(needs),
        "machine": asdict(machine),
        **resolved.to_json(),
        "problems": problems,
        "exit_code": EXIT_RESOURCE if problems else EXIT_DONE,
    }


def _sampled(recipe: Recipe, base: Base) -> dict[str, Sampled]:
    """An estimate for each text; replay that the base model is yet to write is what the recipe asks for."""
    replay = recipe.data.replay
    if replay is None or replay.generate is None:
        return sample_texts(recipe, base.folder)
    there = recipe.model_copy(update={"data": recipe.data.model_copy(update={"replay": None})})
    wanted = replay.generate.tokens
    documents = -(-wanted // replay.generate.max_tokens)
    return {**sample_texts(there, base.folder), replay.name: Sampled(0, 4 * wanted, documents, wanted)}


def _dataset_bytes(base: Base, tokens: dict[str, int]) -> int:
    return sum(tokens.values()) * (2 if base.facts.vocabulary <= 65536 else 4)


def _problems(needs: Any, machine: Machine, device: str, root: Path) -> list[str]:
    problems = []
    room = min((memory for _, memory in machine.gpus), default=machine.memory) if device == "cuda" else machine.memory
    if needs.memory > room:
        problems.append(
            f"training needs about {size(needs.memory)} of memory, there are {size(room)}: "
            "lower batch_size or max_sequence_length, or set finetuning_type: lora"
        )
    if needs.disk > (free := free_bytes(root)):
        problems.append(f"the run needs about {size(needs.disk)} of disk, {size(free)} are free in {root}")
    return problems


def print_findings(found: dict[str, Any]) -> None:
    """The findings for people; nothing that stands in them is left out."""
    out, base, needs = console(), found["base_model"], found["needs"]
    out.print(f"{found['name']}: {base['reference']}, {amount(base['parameters'])} parameters, on {found['device']}\n")
    texts = found["texts"].items()
    print_table(
        "texts",
        ("name", "files", "documents", "text", "tokens"),
        [
            (name, amount(t["files"]), _about(t, "documents"), size(t["bytes"]), _about(t, "tokens"))
            for name, t in texts
        ],
        right=(1, 2, 3, 4),
    )
    exact = all(text["exact"] for _, text in texts)
    about = "" if exact else "~"
    print_table(
        "the mixture",
        ("source", "tokens an epoch", "share", "passes in all", "share in the end"),
        [
            (
                row["name"],
                about + amount(row["epoch_tokens"]),
                f"{100 * row['share']:.1f} %",
                "" if row["passes"] is None else f"{about}{row['passes']:.2f}",
                "as before" if row["anneal_share"] is None else f"{100 * row['anneal_share']:.1f} %",
            )
            for row in found["mixture"]
        ],
        right=(1, 2, 3, 4),
    )
    print_table(
        "the run",
        ("what", "how much"),
        [
            ("training tokens", about + amount(needs["tokens"])),
            ("sequences", about + amount(needs["rows"])),
            ("steps", about + amount(needs["steps"])),
            ("memory", f"~{size(needs['memory'])}"),
            ("disk", f"~{size(needs['disk'])} (checkpoints of {size(needs['checkpoint'])})"),
            (
                "training time",
                "not known for this device" if needs["seconds"] is None else f"~{duration(needs['seconds'])}",
            ),
        ],
    )
    chosen = [
        (name, item["value"], item["reason"]) for name, item in found["hyperparameters"].items()
        if item["origin"] == "recommended"
    ]  # fmt: skip
    if chosen:
        print_table("chosen for you", ("hyperparameter", "value", "because"), chosen)
    for item in found["ignored"]:
        out.print(f"ignored: {item['field']}, because {item['because']}")
    for note in found["advice"]:
        out.print(f"note: {note}")
    for problem in found["problems"]:
        out.print(f"problem: {problem}")


def _about(text: dict[str, Any], field: str) -> str:
    return ("" if text["exact"] else "~") + amount(text[field])
