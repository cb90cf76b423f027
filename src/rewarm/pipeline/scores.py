"""The measurements that baseline and evaluate share: the same texts and tasks, the same settings.

A score is kept in the workspace under everything that it depends on, so a base model is scored once
for all the runs that start from it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import torch
import transformers

from rewarm.data.dataset import Dataset
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.evaluate.bits_per_byte import bits_per_byte, choose, score_documents, window_of
from rewarm.evaluate.harness import TaskResult, hash_tasks, run_tasks
from rewarm.evaluate.store import cached
from rewarm.models.causal import CausalModel, load_model
from rewarm.models.folder import fingerprint
from rewarm.pipeline.execution import Execution
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of
from rewarm.recipe.estimate import WINDOW
from rewarm.recipe.facts import usable_cores
from rewarm.report import items
from rewarm.report.compare import Kind, Row
from rewarm.report.items import Half

CHAT = "chat (against the instruct model)"
Item = dict[str, Any]
Scores = dict[str, list[Item]]
"""Items of the held-out documents, by the name of the source, replay or panel."""


def tokenizer_of(x: Execution) -> DocumentTokenizer:
    return DocumentTokenizer.load(Path(x.facts["prepare"]["base"]["folder"]), x.recipe.data.document_tokens)


def score_text(
    x: Execution, model: CausalModel, dataset: Dataset, name: str, tokenizer: DocumentTokenizer, on_curve: bool = False
) -> list[Item]:
    """One item a held-out document of ``name``, of fewer for a point ``on_curve``: nats and bytes."""
    most = x.recipe.evaluation.max_bytes_per_source
    return score_documents(
        model,
        dataset.held_out(name),
        context_id=tokenizer.context_id,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        window=window_of(WINDOW, model.config),
        max_bytes=x.recipe.evaluation.bytes_on_curve if on_curve else most,
        among=most,
        device=device_of(x),
        progress=x.progress,
        what=f"bits per byte of {name}",
    )


def measured_texts(dataset: Dataset) -> list[str]:
    """The names of everything that has held-out documents."""
    return [name for name in dataset.sources if len(dataset.held_out(name))]


def score_texts(x: Execution, folder: Path, dataset: Dataset) -> Scores:
    """The bits per byte of every text under the model in ``folder``, document by document."""
    tokenizer = tokenizer_of(x)
    mark = fingerprint(folder)
    model: CausalModel | None = None
    torch.set_num_threads(threads_of(x))

    def compute(name: str) -> list[Item]:
        nonlocal model
        if model is None:
            x.show_progress("load the model", 0, 1, "model")
            model = load_model(folder, device=device_of(x))
        return score_text(x, model, dataset, name, tokenizer)

    scores: Scores = {}
    for name in measured_texts(dataset):
        facts = {
            "model": mark,
            "task": "bits_per_byte",
            "version": 1,
            "documents": list(dataset.held_out(name).ids),
            "tokenizer": tokenizer.hash,
            "context": tokenizer.context_id,
            "window": WINDOW,
            "max_bytes": x.recipe.evaluation.max_bytes_per_source,
            "computed_by": [device_of(x).type, torch.__version__, transformers.__version__],
        }
        scores[name] = cached(x.workspace.evaluations, facts, partial(compute, name), warn=x.warn)
    return scores


def score_tasks(x: Execution, folder: Path) -> dict[str, TaskResult]:
    """The benchmark tasks of the recipe under the model in ``folder``."""
    settings = x.recipe.evaluation
    if not settings.all_tasks:
        return {}
    task_path, data_path = settings.folders
    return run_tasks(
        folder,
        settings.all_tasks,
        task_path=task_path,
        data_path=data_path,
        add_bos=settings.add_bos,
        num_fewshot=settings.num_fewshot,
        limit=settings.limit,
        batch_size=settings.batch_size,
        device=device_of(x),
        progress=x.progress,
        evaluations=x.workspace.evaluations,
        model_key=fingerprint(folder),
        warn=x.warn,
    )


def chat_scores(x: Execution, folder: Path) -> dict[str, TaskResult]:
    """The chat probe of an instruct model, or of the chat vector: the two are held against each other."""
    found = run_tasks(
        folder,
        ["chat"],
        device=device_of(x),
        progress=x.progress,
        evaluations=x.workspace.evaluations,
        model_key=fingerprint(folder),
        warn=x.warn,
    )
    return {CHAT: replace(found["chat"], task=CHAT, asked=CHAT)}


def text_rows(x: Execution, base: Scores, texts: Scores, part: Half | None = None) -> list[Row]:
    """The rows of the before/after table, over the documents that ``texts`` has; with ``part``, that half of them."""
    x.show_progress("compare", 0, 1, "table")
    kinds = {name: cast(Kind, info.role) for name, info in dataset_of(x).sources.items()}
    return items.text_rows(kinds, base, texts, hyperparameters_of(x).seed, part)


def task_facts(x: Execution) -> str | None:
    """A hash of what the user's own tasks are made of."""
    return (
        hash_tasks(x.recipe.evaluation.all_tasks, *x.recipe.evaluation.folders)
        if x.recipe.evaluation.all_tasks
        else None
    )


def save_scores(x: Execution, name: str, texts: Scores, tasks: dict[str, TaskResult]) -> Path:
    """Keep the items of a model under ``results/NAME.json``."""
    value = {"texts": texts, "tasks": {task: result.to_json() for task, result in tasks.items()}}
    return x.save(f"results/{name}.json", value)


def read_scores(x: Execution, name: str) -> tuple[Scores, dict[str, TaskResult]]:
    """What ``save_scores`` kept."""
    value = orjson.loads((x.run.results / f"{name}.json").read_bytes())
    return value["texts"], {task: TaskResult.from_json(result) for task, result in value["tasks"].items()}


def record_point(x: Execution, scores: Scores, dataset: Dataset, step: int, tokens: int) -> None:
    """Put the texts' bits per byte on the curve at ``step``: of the same documents at every point."""
    values = {}
    for name in measured_texts(dataset):
        held = dataset.held_out(name)
        on_curve = {
            str(held.ids[i])
            for i in choose(held, x.recipe.evaluation.bytes_on_curve, x.recipe.evaluation.max_bytes_per_source)
        }
        values[f"eval/{name}/bits_per_byte"] = bits_per_byte(item for item in scores[name] if item["id"] in on_curve)
    x.log.metric(step, tokens, values)


def device_of(x: Execution) -> torch.device:
    return torch.device(x.facts["prepare"]["device"])


def threads_of(x: Execution) -> int:
    return x.recipe.infrastructure.threads or usable_cores()
