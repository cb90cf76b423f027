"""Stage 4, evaluate: the trained model as users will load it, the same scores, and what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from rewarm.core.manifest import write_manifest
from rewarm.core.storage import remove_folder, staged_folder
from rewarm.evaluate.compare import Kind, Role, Row, compare, compare_tasks
from rewarm.evaluate.harness import TaskResult
from rewarm.models.export import export_checkpoint
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of
from rewarm.pipeline.scores import Scores, hash_tasks, read_scores, record_point, save_scores, score_tasks, score_texts


def inputs(x: Execution) -> Any:
    return {
        "train": x.facts["train"],
        "checkpoint": (x.run.path / x.facts["train"]["checkpoint"] / "manifest.json").read_text(),
        "baseline": x.run.stage_record("baseline").read_text(),
        "evaluation": x.recipe.evaluation.model_dump(),
        "tasks": hash_tasks(x),
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    model = export(x)
    dataset = dataset_of(x)
    texts, tasks = score_texts(x, model, dataset), score_tasks(x, model)
    trained = x.facts["train"]
    record_point(x, texts, dataset, trained["steps"], trained["tokens"])
    outputs = [save_scores(x, "evaluate", texts, tasks), x.save("results/rows.json", rows(x, texts, tasks))]
    return {}, [*outputs, model / "manifest.json"]


def export(x: Execution) -> Path:
    """The chosen checkpoint as a Hugging Face folder, ``model/`` in the run."""
    target = x.run.path / "model"
    if target.exists():
        remove_folder(target)
    x.show_progress("export the model", 0, 1, "model")
    with staged_folder(target) as folder:
        export_checkpoint(
            x.run.path / x.facts["train"]["checkpoint"],
            Path(x.facts["prepare"]["base"]["folder"]),
            folder,
            hyperparameters_of(x),
            base_name=x.facts["prepare"]["base"]["reference"],
        )
        write_manifest(folder, {"schema": 1, "kind": "model"})
    x.show_progress("export the model", 1, 1, "model")
    return target


def rows(x: Execution, texts: Scores, tasks: dict[str, TaskResult]) -> list[Row]:
    """The before/after table: a row for each text, and one for each metric of each task."""
    x.show_progress("compare", 0, 1, "table")
    base_texts, base_tasks = read_scores(x, "baseline")
    seed = hyperparameters_of(x).seed
    table = []
    for name, info in dataset_of(x).sources.items():
        if name in texts:
            role: Role = "gain" if info.role == "source" else "forgetting"
            table.append(
                compare(
                    name, "bits_per_byte", role, base_texts[name], texts[name], seed=seed, kind=cast(Kind, info.role)
                )
            )
    table += compare_tasks(base_tasks, tasks, "gain", seed=seed)
    return table


EVALUATE = Stage("evaluate", inputs, work)
