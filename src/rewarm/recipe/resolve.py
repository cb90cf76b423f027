"""Every value of a run, with where it comes from and why.

What the recipe gives stays. What it leaves open gets Rewarm's recommendation where there is one
(its reason says why), else the reference platform's default.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rewarm.core.errors import UserError
from rewarm.recipe import verdicts
from rewarm.recipe.estimate import room_for
from rewarm.recipe.facts import Machine, ModelFacts
from rewarm.recipe.hyperparameters import AUTO, Hyperparameters
from rewarm.recipe.memory import Place, largest_batch, memory_bytes
from rewarm.recipe.mixture import build_mixture, check_passes
from rewarm.recipe.recipe import Recipe


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: the recipe, Rewarm's recommendation, or the reference platform."""

    value: Any
    origin: str
    reason: str


@dataclass(frozen=True)
class Resolved:
    """The hyperparameters that a run uses, and what there is to say about them."""

    hyperparameters: Hyperparameters
    origins: dict[str, Origin]
    ignored: list[verdicts.Ignored]
    advice: list[str]
    device: str
    place: Place

    @property
    def devices(self) -> int:
        return self.place.count

    def tried(self, values: Hyperparameters) -> Resolved:
        """With the batch that a trial step left of an automatic one."""
        reason = "auto: what a trial step on the device left of the estimate"
        changed = {name: Origin(getattr(values, name), "recommended", reason) for name in _BATCH}
        return replace(self, hyperparameters=values, origins=self.origins | changed)

    def to_json(self) -> dict[str, Any]:
        return {
            "hyperparameters": {name: asdict(origin) for name, origin in self.origins.items()},
            "ignored": [asdict(item) for item in self.ignored],
            "advice": self.advice,
            "device": self.device,
            "devices": self.devices,
        }


def training_tokens(recipe: Recipe, tokens: dict[str, int], epochs: int) -> int:
    """Tokens that the run trains on: what the mixture takes of each source an epoch, and the replay's share."""
    return int(epochs * build_mixture(recipe.data, tokens).total)


def device_for(recipe: Recipe, machine: Machine) -> str:
    """``cpu`` or ``cuda``. Raises ``UserError`` where the recipe asks for one that is not there."""
    device = machine.device(recipe.infrastructure.devices)
    if device == "cuda" and not machine.gpus:
        raise UserError(
            "infrastructure.devices: there is no CUDA device here that torch can use", remedy="set it to auto or cpu"
        )
    wanted, there = recipe.infrastructure.world_size // recipe.infrastructure.nodes, len(machine.gpus)
    if device == "cuda" and wanted > there:
        raise UserError(f"infrastructure.devices: {wanted} are wanted, {there} are here", remedy=f"set it to {there}")
    return device


def check_quantised(recipe: Recipe, device: str) -> None:
    """Raise ``UserError`` where a quantised base is asked for and cannot be: bitsandbytes' kernels need CUDA."""
    if (kind := recipe.hyperparameters.quantization_bit) == "none":
        return
    where = f"hyperparameters.quantization_bit: {kind}"
    if device != "cuda":
        raise UserError(
            f"{where} needs a CUDA device, and there is none to train on here",
            remedy="set quantization_bit: none; LoRA alone already saves the gradients and moments of the base",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"{where} needs bitsandbytes", remedy="pip install 'rewarm[quantized]'")


def check_length(recipe: Recipe, model: ModelFacts) -> None:
    """Raise ``UserError`` where a row would be longer than the base model can look back."""
    length = recipe.hyperparameters.max_sequence_length
    given = "max_sequence_length" in recipe.hyperparameters.model_fields_set  # else one that fits is recommended
    if given and model.positions and length > model.positions:
        raise UserError(
            f"hyperparameters.max_sequence_length: {length} tokens are more than the {model.positions} that the base "
            "model was made for",
            remedy=f"set it to {model.positions} or less",
        )


def resolve(recipe: Recipe, model: ModelFacts, tokens: dict[str, int], machine: Machine) -> Resolved:
    """Fill in every hyperparameter; ``tokens`` are the training tokens of each source.

    Raises:
        UserError: for a combination that is refused.
    """
    verdicts.refuse(recipe)
    device, devices = device_for(recipe, machine), recipe.infrastructure.world_size
    place = Place(device, devices, "running_average" in recipe.evaluation.averages, recipe.infrastructure.nodes)
    check_quantised(recipe, device)
    values, source = recipe.hyperparameters, (("platform", "the reference platform's default"), ("recipe", "given"))
    origins = {
        name: Origin(getattr(values, name), *source[name in values.model_fields_set])
        for name in Hyperparameters.model_fields
    }
    for name, recommend in _RECOMMENDATIONS:
        if origins[name].origin == "recipe" and not (name in _BATCH and recipe.hyperparameters.batch_size == AUTO):
            continue
        question = _Question(recipe, values, model, tokens, machine, place)
        if (found := recommend(question)) is not None:
            value, reason = found
            values = values.model_copy(update={name: value})
            origins[name] = Origin(value, "recommended", reason)
    check_length(recipe, model)
    steps = _Question(recipe, values, model, tokens, machine, place).steps
    given = recipe.hyperparameters.model_fields_set
    return Resolved(
        hyperparameters=values,
        origins=origins,
        ignored=verdicts.ignored(given, values, devices),
        advice=[
            *verdicts.advice(recipe, values),
            *verdicts.best_advice(values, steps),
            *check_passes(recipe, tokens, values.epochs),
        ],
        device=device,
        place=place,
    )


@dataclass(frozen=True)
class _Question:
    """What a recommendation may look at: the values resolved so far, and the facts."""

    recipe: Recipe
    values: Hyperparameters
    model: ModelFacts
    tokens: dict[str, int]
    machine: Machine
    place: Place

    @property
    def device(self) -> str:
        return self.place.device

    @property
    def given(self) -> set[str]:
        return self.recipe.hyperparameters.model_fields_set

    @property
    def room(self) -> float:
        return 0.85 * room_for(self.machine, self.place)

    @property
    def total_tokens(self) -> int:
        return training_tokens(self.recipe, self.tokens, self.values.epochs)

    @property
    def steps(self) -> int:
        values = self.values
        update = values.batch_size * values.gradient_accumulation_steps * self.place.count
        return max(1, math.ceil(self.rows / update))

    @property
    def rows(self) -> int:
        return math.ceil(self.total_tokens / self.values.max_sequence_length)

    def fits(self, **changes: Any) -> bool:
        return memory_bytes(self.model, self.values.model_copy(update=changes), self.place, self.rows) <= self.room


Answer = tuple[Any, str] | None


def _finetuning_type(q: _Question) -> Answer:
    if q.given & {"lora_rank", "lora_alpha", "lora_dropout", "target_modules", "merge_adapter", "quantization_bit"}:
        return "lora", "LoRA's own fields are given"
    if q.fits(finetuning_type="full", disable_gradient_checkpointing=False, batch_size=1):
        return "full", "all parameters fit into memory, and full training learns more (arXiv 2405.09673)"
    return "lora", "training all parameters does not fit into memory"


_RATE_OR_REPLAY = "a judgement; half the rate keeps as much of the old as twice the replay (arXiv 2404.03608)"


def _learning_rate(q: _Question) -> Answer:
    if q.values.finetuning_type == "lora":
        return 2e-4, "LoRA takes about ten times the rate of full training (arXiv 2405.09673)"
    if q.model.parameters <= 3e9:
        return 4e-5, f"the middle of 2e-5 to 1e-4 for an annealed base of up to 3B parameters; {_RATE_OR_REPLAY}"
    return 2e-5, f"bases above 3B parameters take about half; {_RATE_OR_REPLAY}"


def _batch_size(q: _Question) -> Answer:
    if q.values.batch_size == AUTO:
        rows = _rows_per_update(q)
        found = largest_batch(q.model, q.values, q.place, q.room, q.rows, rows)
        return found, f"auto: the most of the {rows} sequences of an update that fit into {q.room / 1e9:.0f} GB at once"
    if q.device == "cpu":
        return 1, "one row at a time is as fast on a CPU"
    wanted = max(1, 16_384 // q.values.max_sequence_length)
    while wanted > 1 and not q.fits(batch_size=wanted):
        wanted //= 2
    return wanted, "about 16k tokens keep a GPU busy"


def _rows_per_update(q: _Question) -> int:
    """Sequences of an update on each device: as given for a batch_size of 1, or as recommended."""
    if "gradient_accumulation_steps" in q.given:
        return q.recipe.hyperparameters.gradient_accumulation_steps
    tokens = q.total_tokens
    update = min(1_000_000 if tokens >= 500_000_000 else 250_000, tokens / 1000)
    return max(1, round(update / (q.values.max_sequence_length * q.place.count)))


def _accumulation(q: _Question) -> Answer:
    passes = max(1, round(_rows_per_update(q) / q.values.batch_size))
    if "gradient_accumulation_steps" in q.given:
        return passes, "batch_size: auto keeps the sequences of an update"
    return passes, "0.25M to 1M tokens an update, but at least 1,000 updates where there are as many: a judgement"


_STEPS_BETWEEN = 10


def _checkpoint_steps(q: _Question) -> Answer:
    if q.values.checkpoint_strategy != "steps":
        return None
    if q.steps <= 20 * _STEPS_BETWEEN:
        return _STEPS_BETWEEN, "of a short run: more checkpoints would cost more time and disk than a crash loses"
    return math.ceil(q.steps / 20), "a twentieth of the run"


_BATCH = ("batch_size", "gradient_accumulation_steps")
_RECOMMENDATIONS: tuple[tuple[str, Callable[[_Question], Answer]], ...] = (
    ("mixed_precision", lambda q: ("none", "fp32: bf16 is slower on most CPUs") if q.device == "cpu" else None),
    (
        "max_sequence_length",
        lambda q: (
            (q.model.positions, "all that the base model can look back on")
            if q.model.positions and q.model.positions < q.values.max_sequence_length
            else None
        ),
    ),
    ("finetuning_type", _finetuning_type),
    ("learning_rate", _learning_rate),
    (
        "lr_scheduler_type",
        lambda q: ("wsd", "warm-up, stable, then to 0 over the last 20 % (arXiv 2405.18392): a later run can go on"),
    ),
    (
        "lr_warmup_ratio",
        lambda q: (
            (0.01, "no warm-up gives an early spike; its length makes no difference (arXiv 2403.08763)")
            if "lr_warmup_steps" not in q.given
            else None
        ),
    ),
    (
        "weight_decay",
        lambda q: (
            (0.1, "as in 2403.08763; it makes repeated text cost less (arXiv 2605.01640)")
            if q.values.finetuning_type == "full"
            else None
        ),
    ),
    (
        "disable_gradient_checkpointing",
        lambda q: (
            (True, "the activations fit into memory, and recomputing them costs a quarter of the speed")
            if q.fits(disable_gradient_checkpointing=True)
            else (False, "the activations would not fit into memory")
        ),
    ),
    ("batch_size", _batch_size),
    ("gradient_accumulation_steps", _accumulation),
    (
        "logging_steps",
        lambda q: (max(1, q.steps // 200), "about 200 points on the curve") if q.steps < 2000 else None,
    ),
    (
        "checkpoint_strategy",
        lambda q: (
            ("steps", "a crash loses no more than that, by default a twentieth of the run")
            if not q.values.save_best_checkpoint  # else it must stay equal to eval_strategy
            else None
        ),
    ),
    ("checkpoint_steps", _checkpoint_steps),
    (
        "eval_steps",
        lambda q: (
            (q.values.checkpoint_steps, "the best is chosen among checkpoints that were evaluated")
            if q.values.save_best_checkpoint and q.values.eval_strategy == "steps"
            else None
        ),
    ),
    (
        "number_of_checkpoints",
        lambda q: (
            (5, "their average is a candidate; three to five are usual")
            if "average" in q.recipe.evaluation.averages
            else (2, "two verified ones are enough to resume; each takes 12 bytes a trained parameter")
        ),
    ),
)
"""Field and recommendation, in an order in which each may look at those before it."""
