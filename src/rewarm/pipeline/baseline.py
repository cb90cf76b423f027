"""Stage 2, baseline: the base model's scores; and the pilot's short runs, where there is one, held against them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewarm.models.folder import fingerprint
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.pilot import choose_arm, pilot_facts
from rewarm.pipeline.prepare import dataset_of
from rewarm.pipeline.scores import chat_scores, record_point, save_scores, score_tasks, score_texts, task_facts
from rewarm.recipe.pilot import Arm


def inputs(x: Execution) -> Any:
    facts = x.facts["prepare"]
    return {
        "base": facts["base"]["fingerprint"],
        "dataset": facts["dataset"],
        "evaluation": x.recipe.evaluation.model_dump(exclude={"at"}),
        "tasks": task_facts(x),
        "pilot": pilot_facts(x),
        "instruct": [fingerprint(Path(folder)) for folder in facts.get("instruct", ())],
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    dataset = dataset_of(x)
    base = Path(x.facts["prepare"]["base"]["folder"])
    texts = score_texts(x, base, dataset)
    record_point(x, texts, dataset, step=0, tokens=0)
    tasks = score_tasks(x, base)
    tasks |= chat_scores(x, Path(x.facts["prepare"]["instruct"][0])) if x.recipe.evaluation.instruct_model else {}
    outputs = [save_scores(x, "baseline", texts, tasks)]
    if not x.recipe.has_pilot:
        return {}, outputs
    found = choose_arm(x, texts)
    arm = found["runs"][found["chosen"]]
    chosen = {name: arm[name] for name in Arm._fields}
    return {"pilot": chosen}, [*outputs, x.save("results/pilot.json", found)]


BASELINE = Stage("baseline", inputs, work)
