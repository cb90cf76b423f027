"""Stage 4, evaluate: the trained model as users will load it, the same scores, and what changed.

Averages of the weights are scored on the held-out texts too; they are published only where the recipe says so.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

from rewarm.core.manifest import verify, write_manifest
from rewarm.core.storage import TEMPORARY, remove_folder, staged_folder
from rewarm.evaluate.harness import TaskResult
from rewarm.models.export import export_checkpoint
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of
from rewarm.pipeline.scores import Scores, hash_tasks, read_scores, record_point, save_scores, score_tasks, score_texts
from rewarm.report.compare import Kind, Role, Row, compare, compare_tasks
from rewarm.train.average import write_average, write_running_average
from rewarm.train.checkpoint import list_checkpoints, step_of

LAST = 5
"""Checkpoints that are averaged, at most."""


def inputs(x: Execution) -> Any:
    return {
        "train": x.facts["train"],
        "checkpoint": (x.run.path / x.facts["train"]["checkpoint"] / "manifest.json").read_text("utf-8"),
        "baseline": x.run.stage_record("baseline").read_text("utf-8"),
        "evaluation": x.recipe.evaluation.model_dump(),
        "tasks": hash_tasks(x),
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    chosen, dataset = x.recipe.evaluation.publish, dataset_of(x)
    scores: dict[str, Scores] = {}
    for name in ("trained", *x.recipe.evaluation.averages):
        if name != chosen:
            scores[name] = score_texts(x, export(x, name, x.run.path / "candidate"), dataset)
            remove_folder(x.run.path / "candidate")
    others = [{"weights": name, "rows": text_rows(x, texts)} for name, texts in scores.items()]
    model = export(x, chosen, x.run.path / "model")
    scores[chosen], tasks = score_texts(x, model, dataset), score_tasks(x, model)
    trained = x.facts["train"]
    record_point(x, scores["trained"], dataset, trained["steps"], trained["tokens"])
    table = [*text_rows(x, scores[chosen]), *task_rows(x, tasks)]
    outputs = [
        save_scores(x, "evaluate", scores[chosen], tasks),
        x.save("results/rows.json", table),
        x.save("results/candidates.json", others),
    ]
    return {"weights": chosen}, [*outputs, model / "manifest.json"]


def weights_of(x: Execution, name: str, folder: Path) -> Path:
    """The checkpoint that training chose, or an average written into the new ``folder`` that looks like one."""
    trained: Path = x.run.path / x.facts["train"]["checkpoint"]
    if name == "trained":
        return trained
    if name == "running_average":
        write_running_average(trained, folder)
        return folder
    there = [path for path in list_checkpoints(x.run.checkpoints) if step_of(path) <= step_of(trained)][-LAST:]
    for path in there:
        verify(path)
    if len(there) == 1:
        x.warn(f"there is one checkpoint only, {trained.name}: the average of the last ones is that one")
    write_average(there, folder)
    return folder


def export(x: Execution, name: str, target: Path) -> Path:
    """The chosen checkpoint, or an average, as a Hugging Face folder ``target``."""
    if target.exists():
        remove_folder(target)
    x.show_progress("export the model", 0, 1, "model")
    with tempfile.TemporaryDirectory(dir=x.run.path, prefix=TEMPORARY) as beside, staged_folder(target) as folder:
        export_checkpoint(
            weights_of(x, name, Path(beside) / "weights"),
            Path(x.facts["prepare"]["base"]["folder"]),
            folder,
            hyperparameters_of(x),
            base_name=x.facts["prepare"]["base"]["reference"],
        )
        write_manifest(folder, {"schema": 1, "kind": "model"})
    x.show_progress("export the model", 1, 1, "model")
    return target


def task_rows(x: Execution, tasks: dict[str, TaskResult]) -> list[Row]:
    """The rows of the before/after table for each metric of each task."""
    return compare_tasks(read_scores(x, "baseline")[1], tasks, "gain", seed=hyperparameters_of(x).seed)


def text_rows(x: Execution, texts: Scores) -> list[Row]:
    """The rows of the before/after table for the texts."""
    x.show_progress("compare", 0, 1, "table")
    base_texts, seed = read_scores(x, "baseline")[0], hyperparameters_of(x).seed
    table = []
    for name, info in dataset_of(x).sources.items():
        if name in texts:
            role: Role = "gain" if info.role == "source" else "forgetting"
            table.append(
                compare(
                    name, "bits_per_byte", role, base_texts[name], texts[name], seed=seed, kind=cast(Kind, info.role)
                )
            )
    return table


EVALUATE = Stage("evaluate", inputs, work)
