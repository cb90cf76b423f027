"""Stage 2, baseline: the base model's scores, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import dataset_of
from rewarm.pipeline.scores import record_point, save_scores, score_tasks, score_texts, task_facts


def inputs(x: Execution) -> Any:
    facts = x.facts["prepare"]
    return {
        "base": facts["base"]["fingerprint"],
        "dataset": facts["dataset"],
        "evaluation": x.recipe.evaluation.model_dump(exclude={"at"}),
        "tasks": task_facts(x),
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    dataset = dataset_of(x)
    base = Path(x.facts["prepare"]["base"]["folder"])
    texts = score_texts(x, base, dataset)
    record_point(x, texts, dataset, step=0, tokens=0)
    return {}, [save_scores(x, "baseline", texts, score_tasks(x, base))]


BASELINE = Stage("baseline", inputs, work)
