"""Stage 4, evaluate: the trained model as users will load it, the same scores, and what changed.

Averages of the weights and merges with the base are scored on the held-out texts too; they are published only where
the recipe says so, or where its forgetting budget chooses among them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rewarm.core.manifest import verify, write_manifest
from rewarm.core.storage import TEMPORARY, remove_folder, staged_folder
from rewarm.evaluate.harness import TaskResult
from rewarm.models.chat_vector import add_chat_vector
from rewarm.models.export import export_checkpoint
from rewarm.pipeline.choice import choose, judge
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of
from rewarm.pipeline.scores import (
    CHAT,
    Scores,
    chat_scores,
    read_scores,
    record_point,
    save_scores,
    score_tasks,
    score_texts,
    task_facts,
    text_rows,
)
from rewarm.recipe.recipe import CHAT_VECTOR
from rewarm.report.compare import Row, compare_tasks
from rewarm.report.items import Half, flagged_items
from rewarm.report.words import text_figures
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
        "tasks": task_facts(x),
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    asked, dataset = x.recipe.evaluation, dataset_of(x)
    scores: dict[str, Scores] = {}
    chats: list[Row] = []
    for name in ("trained", *asked.averages, *asked.merged, *[CHAT_VECTOR] * (asked.instruct_model is not None)):
        if name != asked.published:
            folder = export(x, name, x.run.path / "candidate")
            scores[name] = score_texts(x, folder, dataset)
            chats = task_rows(x, chat_scores(x, folder)) if name == CHAT_VECTOR else []
            remove_folder(folder)
    base, best = read_scores(x, "baseline")[0], asked.published == "best"
    part: Half | None = "test" if best or x.recipe.has_pilot else None  # of the documents by which nothing was chosen
    others = {name: text_rows(x, base, texts, "development" if best else part) for name, texts in scores.items()}
    bases = {name: rows for name, rows in others.items() if name != CHAT_VECTOR}  # that one is another kind of model
    chosen = choose(bases, asked.max_forgetting or 0.0) if best else asked.published
    others = {name: [*rows, *(chats if name == CHAT_VECTOR else ())] for name, rows in others.items()}
    model = export(x, chosen, x.run.path / "model")
    scores[chosen], tasks = score_texts(x, model, dataset), score_tasks(x, model)
    tasks |= chat_scores(x, model) if chosen == CHAT_VECTOR else {}
    trained = x.facts["train"]
    record_point(x, scores["trained"], dataset, trained["steps"], trained["tokens"])
    texts = text_rows(x, base, scores[chosen], part)
    table = [*texts, *task_rows(x, tasks)]
    outputs = [
        save_scores(x, "evaluate", scores[chosen], tasks),
        x.save("results/rows.json", table),
        x.save("results/candidates.json", [{"weights": name, "rows": rows} for name, rows in others.items()]),
    ]
    choice = judge(asked.published, asked.max_forgetting, others.get(chosen, texts))
    return {"weights": chosen, **choice}, [*outputs, model / "manifest.json"]


def weights_of(x: Execution, name: str, folder: Path) -> Path:
    """The checkpoint that training chose, also for a merge of it, or an average written into the new ``folder``."""
    trained: Path = x.run.path / x.facts["train"]["checkpoint"]
    if name in ("trained", CHAT_VECTOR) or name in x.recipe.evaluation.merged:
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
    """The chosen checkpoint, an average or a merge with the base, as a Hugging Face folder ``target``."""
    if target.exists():
        remove_folder(target)
    x.show_progress("export the model", 0, 1, "model")
    with tempfile.TemporaryDirectory(dir=x.run.path, prefix=TEMPORARY) as beside, staged_folder(target) as folder:
        base = Path(x.facts["prepare"]["base"]["folder"])
        export_checkpoint(
            weights_of(x, name, Path(beside) / "weights"),
            base,
            Path(beside) / "trained" if name == CHAT_VECTOR else folder,
            hyperparameters_of(x),
            base_name=x.facts["prepare"]["base"]["reference"],
            trained_share=x.recipe.evaluation.merged.get(name, 1.0),
        )
        if name == CHAT_VECTOR:
            instruct, first = map(Path, x.facts["prepare"]["instruct"])
            add_chat_vector(Path(beside) / "trained", first, instruct, folder)
        write_manifest(folder, {"schema": 1, "kind": "model"})
    x.show_progress("export the model", 1, 1, "model")
    return target


def task_rows(x: Execution, tasks: dict[str, TaskResult]) -> list[Row]:
    """The rows of the before/after table for each metric of each task."""
    base, seed = read_scores(x, "baseline")[1], hyperparameters_of(x).seed
    return compare_tasks(
        base,
        tasks,
        [*x.recipe.evaluation.general_tasks, CHAT],
        seed=seed,
        flagged=flagged_items(map(text_figures, dataset_of(x).manifest["sources"])),
    )


EVALUATE = Stage("evaluate", inputs, work)
