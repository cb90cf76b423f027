"""Stage 3, train: continual pretraining, with points on the held-out curve on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewarm.data.batches import Batches
from rewarm.data.plan import build_plan
from rewarm.evaluate.bits_per_byte import bits_per_byte
from rewarm.models.causal import CausalModel
from rewarm.pipeline.execution import Execution, Stage, Stopped
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of
from rewarm.pipeline.scores import device_of, measured_texts, record_point, score_text, threads_of, tokenizer_of
from rewarm.recipe.recipe import Recipe
from rewarm.train.checkpoint import read_state
from rewarm.train.loop import Job, train


def inputs(x: Execution) -> Any:
    facts = x.facts["prepare"]
    return {
        "base": facts["base"]["fingerprint"],
        "dataset": facts["dataset"],
        "mixture": mixture_settings(x.recipe),
        "hyperparameters": facts["hyperparameters"],
        "device": facts["device"],
    }


def mixture_settings(recipe: Recipe) -> dict[str, Any]:
    """What of the recipe, beside the dataset, decides how many tokens of each source come when."""
    data = recipe.data
    return {
        "sources": [(source.name, source.times, source.tokens) for source in data.sources],
        "replay": (data.replay.name, data.replay.share) if data.replay else None,
        "temperature": data.temperature,
        "anneal": data.anneal.model_dump() if data.anneal else None,
    }


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    dataset, values = dataset_of(x), hyperparameters_of(x)
    plan = build_plan(x.recipe, dataset, values)
    steps = Batches(plan, values.batch_size, values.gradient_accumulation_steps).steps
    tokenizer = tokenizer_of(x)
    if "prepare" not in x.performed:  # what the recipe says is where the run begins, not where each attempt does
        values = values.model_copy(update={"resume_from_checkpoint": "last"})

    def evaluate(model: CausalModel, step: int, tokens: int) -> float | None:
        if step == steps and not values.save_best_checkpoint:
            return None  # the next stage scores this model, as it will be published
        try:
            scores = {name: score_text(x, model, dataset, name, tokenizer) for name in measured_texts(dataset)}
        except Stopped:
            return None  # the loop asks for itself, and writes a checkpoint first
        record_point(x, scores, dataset, step, tokens)
        learned = [bits_per_byte(scores[source.name]) for source in x.recipe.data.sources if source.name in scores]
        return sum(learned) / len(learned) if learned else None

    outcome = train(
        Job(
            folder=x.run.path,
            dataset=dataset,
            plan=plan,
            hyperparameters=values,
            base=Path(x.facts["prepare"]["base"]["folder"]),
            device=device_of(x),
            threads=threads_of(x),
            log=x.log,
            stop=x.stop,
            stop_reason=lambda: x.stop.reason,
            evaluate=evaluate,
            evaluate_at=sorted({max(1, round(share * steps)) for share in x.recipe.evaluation.at}),
        )
    )
    if not outcome.finished or outcome.checkpoint is None:
        raise Stopped(outcome.reason)
    chosen = outcome.best if values.save_best_checkpoint and outcome.best else outcome.checkpoint
    state = read_state(chosen)
    facts = {
        "checkpoint": str(chosen.relative_to(x.run.path)),
        "steps": state["step"],
        "tokens": state["tokens"],
        "steps_in_all": outcome.step,
        "tokens_in_all": outcome.tokens,
    }
    return facts, [chosen / "manifest.json"]


TRAIN = Stage("train", inputs, work)
