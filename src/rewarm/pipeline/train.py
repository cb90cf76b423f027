"""Stage 3, train: continual pretraining, with points on the held-out curve on the way."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rewarm.core.errors import Stopped
from rewarm.data.batches import Batches
from rewarm.data.plan import Plan, build_plan
from rewarm.evaluate.bits_per_byte import bits_per_byte
from rewarm.models.causal import CausalModel
from rewarm.models.ranks import world_size
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of, training_recipe
from rewarm.pipeline.ranks import begin_again, torchrun, train_as_first, train_on_ranks
from rewarm.pipeline.scores import device_of, measured_texts, record_point, score_text, threads_of, tokenizer_of
from rewarm.recipe.estimate import GPU_EFFICIENCY
from rewarm.recipe.facts import gpu_flops
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.recipe import Recipe
from rewarm.train.checkpoint import list_checkpoints, read_state
from rewarm.train.job import with_rows
from rewarm.train.loop import Job, train
from rewarm.train.parallel import launched, nodes

COMPILED_FROM = 900.0
"""Seconds of training from which on layers are compiled."""


def inputs(x: Execution) -> Any:
    facts = x.facts["prepare"]
    return {
        "base": facts["base"]["fingerprint"],
        "dataset": facts["dataset"],
        "mixture": mixture_settings(training_recipe(x)),
        "hyperparameters": hyperparameters_of(x).model_dump(),
        "device": facts["device"],
        "on_spike": x.recipe.guard.on_spike,
        "running_average": "running_average" in x.recipe.evaluation.averages,
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
    infrastructure = x.recipe.infrastructure
    if launched():
        outcome = train_as_first(x, partial(build_job, x))
    elif infrastructure.nodes > 1:
        x.warn(f"training on {infrastructure.nodes} computers: give on each of them: {(command := torchrun(x))}")
        raise Stopped("training is started by torchrun", remedy=command)
    elif infrastructure.world_size == 1:
        outcome = train(replace(build_job(x, device_of(x)), on_hang=partial(begin_again, x)))
    else:
        outcome = train_on_ranks(x, infrastructure.world_size)
    if not outcome.finished or outcome.checkpoint is None:
        raise Stopped(outcome.reason)
    best = outcome.best if hyperparameters_of(x).save_best_checkpoint else None
    chosen = best or outcome.checkpoint
    state = read_state(chosen)
    facts = {
        "checkpoint": str(chosen.relative_to(x.run.path)),
        "steps": state["step"],
        "tokens": state["tokens"],
        "rows_per_step": state["identity"]["rows of an update"],
        "steps_in_all": outcome.step,
        "tokens_in_all": outcome.tokens,
        "rewinds": state["skipped"],
    }
    return facts, [chosen / "manifest.json"]


def build_job(x: Execution, device: torch.device) -> Job:
    """What this process is to train: all of it, or as one rank of several."""
    dataset, values = dataset_of(x), _same_updates(x, hyperparameters_of(x))
    plan = build_plan(training_recipe(x), dataset, values)
    steps = Batches(plan, values.batch_size, values.gradient_accumulation_steps, world_size=world_size()).steps
    tokenizer = tokenizer_of(x)
    if "prepare" not in x.performed:  # what the recipe says is where the run begins, not where each attempt does
        values = values.model_copy(update={"resume_from_checkpoint": "last"})

    def evaluate(model: CausalModel, step: int, tokens: int) -> float | None:
        if step == steps and not values.save_best_checkpoint:
            return None  # the next stage scores this model, as it will be published
        try:
            names = measured_texts(dataset)
            scores = {name: score_text(x, model, dataset, name, tokenizer, on_curve=True) for name in names}
        except Stopped:
            return None  # the loop asks for itself, and writes a checkpoint first
        record_point(x, scores, dataset, step, tokens)
        learned = [bits_per_byte(scores[source.name]) for source in x.recipe.data.sources if source.name in scores]
        return sum(learned) / len(learned) if learned else None

    return Job(
        folder=x.run.path,
        dataset=dataset,
        plan=plan,
        hyperparameters=values,
        base=Path(x.facts["prepare"]["base"]["folder"]),
        device=device,
        threads=max(1, threads_of(x) * nodes() // world_size()),
        log=x.log,
        stop=x.stop,
        stop_reason=lambda: x.stop.reason,
        evaluate=evaluate,
        evaluate_at=sorted({max(1, round(share * steps)) for share in x.recipe.evaluation.at}),
        on_spike=x.recipe.guard.on_spike,
        hang_seconds=60 * x.recipe.guard.hang_minutes,
        on_hang=x.warn,
        running_average="running_average" in x.recipe.evaluation.averages,
        compile_layers=_compiled(x, values, plan, device),
    )


def _compiled(x: Execution, values: Hyperparameters, plan: Plan, device: torch.device) -> bool:
    """Whether compiling the layers, about a minute, pays: a question of the whole run, so a resumed one agrees."""
    if device.type != "cuda" or values.finetuning_type != "full" or values.mixed_precision == "none":
        return False
    speed = GPU_EFFICIENCY * (gpu_flops(torch.cuda.get_device_name(device)) or 1e14) * world_size()
    flops = 6.0 * int(x.facts["prepare"]["base"]["parameters"]) * plan.total_tokens
    return flops / speed > COMPILED_FROM


def _same_updates(x: Execution, values: Hyperparameters) -> Hyperparameters:
    """The hyperparameters; on another number of devices than before, or than wanted, with updates of as many rows."""
    for path in reversed(list_checkpoints(x.run.checkpoints)):
        with contextlib.suppress(OSError, ValueError, KeyError):  # damaged: training will find and say that
            state = read_state(path)
            if state["world_size"] == world_size():
                return values
            return with_rows(values, state["identity"]["rows of an update"], world_size())
    if (wanted := x.recipe.infrastructure.world_size) == world_size():
        return values
    return with_rows(values, values.batch_size * values.gradient_accumulation_steps * wanted, world_size())


TRAIN = Stage("train", inputs, work)
