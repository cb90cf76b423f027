"""Stage 2, baseline: the base model's scores, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import dataset_of
from rewarm.pipeline.scores import record_point, score_model


def inputs(x: Execution) -> Any:
    facts = x.facts["prepare"]
    return {
        "base": facts["base"]["fingerprint"],
        "dataset": facts["dataset"],
        "evaluation": x.recipe.evaluation.model_dump(exclude={"at"}),
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    dataset = dataset_of(x)
    scores = score_model(x, Path(x.facts["prepare"]["base"]["folder"]), dataset)
    record_point(x, scores, dataset, step=0, tokens=0)
    return {}, [x.save("results/baseline.json", scores)]


BASELINE = Stage("baseline", inputs, work)
