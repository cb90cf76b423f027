"""Stage 4, evaluate: the trained model as users will load it, the same scores, and what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from rewarm.core.manifest import write_manifest
from rewarm.core.storage import remove_folder, staged_folder
from rewarm.evaluate.compare import compare
from rewarm.models.export import export_checkpoint
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of
from rewarm.pipeline.scores import Scores, record_point, score_model


def inputs(x: Execution) -> Any:
    return {
        "train": x.facts["train"],
        "checkpoint": (x.run.path / x.facts["train"]["checkpoint"] / "manifest.json").read_text(),
        "baseline": x.run.stage_record("baseline").read_text(),
        "evaluation": x.recipe.evaluation.model_dump(),
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    model = export(x)
    dataset = dataset_of(x)
    scores = score_model(x, model, dataset)
    trained = x.facts["train"]
    record_point(x, scores, dataset, trained["steps"], trained["tokens"])
    baseline: Scores = orjson.loads((x.run.results / "baseline.json").read_bytes())
    outputs = [
        x.save("results/evaluate.json", scores),
        x.save("results/rows.json", rows(x, baseline, scores)),
        model / "manifest.json",
    ]
    return {}, outputs


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
        )
        write_manifest(folder, {"schema": 1, "kind": "model"})
    x.show_progress("export the model", 1, 1, "model")
    return target


def rows(x: Execution, base: Scores, result: Scores) -> list[dict[str, Any]]:
    """The before/after table, a row a text and a row a metric of each task."""
    x.show_progress("compare", 0, 1, "table")
    learned = {source.name for source in x.recipe.data.sources}
    seed = hyperparameters_of(x).seed
    table = []
    for name in result:
        if "nll" in result[name][0]:
            role = "gain" if name in learned else "forgetting"
            table.append(compare(name, "bits_per_byte", role, base[name], result[name], seed=seed))
        else:
            metrics = [key for key, value in result[name][0].items() if isinstance(value, (int, float))]
            table += [compare(name, metric, "gain", base[name], result[name], seed=seed) for metric in metrics]
    return table


EVALUATE = Stage("evaluate", inputs, work)
