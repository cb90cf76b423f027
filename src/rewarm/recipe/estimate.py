"""Memory, disk, steps and time of a run, before it starts. Pure functions; every figure is an estimate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rewarm.core.amounts import size
from rewarm.recipe.facts import Machine, ModelFacts, cpu_flops, gpu_flops
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.memory import Place, memory_bytes, remedies, trainable_parameters

CPU_EFFICIENCY = 0.55
"""Training speed on a CPU over that of a large matrix product (0.5 to 0.6 on SmolLM2-135M)."""
GPU_EFFICIENCY = 0.40
"""Model FLOP utilisation to expect of one GPU."""


WINDOW = 2048
"""Tokens that a scored token may look back on; one value for all runs, so that a base's scores are shared."""
FEW = 32
"""Fewer documents than this measure little; as many are held out of each source where there are enough."""


@dataclass(frozen=True)
class Scored:
    """What one evaluation reads of a text."""

    documents: int
    bytes: int
    tokens: int


@dataclass(frozen=True)
class Times:
    """Seconds by stage, as far as they are known: 0 for what is done already, None for what nobody can tell."""

    prepare: float | None
    baseline: float | None
    pilot: float | None
    train: float | None
    evaluate: float | None

    @property
    def total(self) -> float | None:
        """Of all that is known but for prepare; None where the device's speed is not."""
        parts = (self.baseline, self.pilot, self.train, self.evaluate)
        return None if None in parts else sum(part or 0.0 for part in parts)


@dataclass(frozen=True)
class Estimate:
    """What a run will need. ``seconds`` is of training alone, None where the device's speed is not known."""

    rows: int
    steps: int
    tokens: int
    memory: int
    checkpoint: int
    disk: int
    seconds: float | None


def checkpoint_bytes(model: ModelFacts, values: Hyperparameters) -> int:
    """One checkpoint: fp32 weights of what is trained, and Adam's two moments."""
    return trainable_parameters(model, values) * (12 if values.optimizer == "adamw" else 4)


def flops_per_second(machine: Machine, device: str) -> float | None:
    """What training and scoring may expect of a device; None where its speed is not known."""
    if device == "cpu":
        return cpu_flops(machine.cores) * CPU_EFFICIENCY
    peak = gpu_flops(machine.gpus[0][0]) if machine.gpus else None
    return peak * GPU_EFFICIENCY if peak else None


def training_seconds(model: ModelFacts, values: Hyperparameters, tokens: int, speed: float | None) -> float | None:
    flops = model.flops_per_token(values.max_sequence_length) * tokens
    if values.finetuning_type == "lora":
        flops *= 2 / 3  # the weights' own gradients are not computed
    if not values.disable_gradient_checkpointing:
        flops *= 4 / 3
    return flops / speed if speed else None


def cost(rate: str | None, seconds: float | None, devices: int) -> str | None:
    """What so much time of so many devices costs, in the currency of ``rate`` (an hour of one device)."""
    if rate is None or seconds is None:
        return None
    amount, _, currency = rate.partition(" ")
    return f"{float(amount) * devices * seconds / 3600:.2f} {currency}".rstrip()


def held_out(documents: int, bytes: int, tokens: int, share: float) -> Scored:
    """What will be held out of a text: that share, topped up to 32 documents, but not above a tenth of the bytes."""
    part = max(share, min(FEW / documents, 0.1)) if documents else 0.0
    return Scored(round(part * documents), round(part * bytes), round(part * tokens))


def scored(held: Scored, max_bytes: int) -> Scored:
    """What ``evaluation.max_bytes_per_source`` pays for of held-out documents: whole ones, one at least."""
    if held.bytes <= max_bytes:
        return held
    documents = max(1, held.documents * max_bytes // held.bytes)
    part = documents / held.documents
    return Scored(documents, round(part * held.bytes), round(part * held.tokens))


def scoring_seconds(model: ModelFacts, texts: Iterable[Scored], speed: float | None) -> float | None:
    """One evaluation of all texts; a forward pass takes a third of the FLOP of a training step."""
    if not speed:
        return None
    window, flops = min(WINDOW, model.positions or WINDOW), 0.0
    for text in texts:
        length = text.tokens / max(1, text.documents)
        again = max(0.0, 1 - window / length) if length else 0.0  # behind the first window, half of each is context
        flops += (1 + again) * text.tokens * model.flops_per_token(round(min(length, window))) / 3
    return flops / speed


def measuring_advice(texts: Mapping[str, Scored], times: Times, on_the_way: float) -> list[str]:
    """What there is to say about the evaluation: texts of too few documents, and more time than the training.

    Args:
        on_the_way: seconds of the training stage in which the curve gets its points.
    """
    few = [f"{name} {text.documents}" for name, text in texts.items() if text.documents < FEW]
    what = "few documents will be scored, so that intervals will be wide (below 5 there is none)"
    notes = [f"{what}: {', '.join(few)}"] if few else []
    if times.total and times.baseline is not None:
        share = (2 * times.baseline + on_the_way) / times.total
        larger = "max_bytes_on_curve" if on_the_way > 2 * times.baseline else "max_bytes_per_source"
        notes += [f"evaluation takes {100 * share:.0f} % of this run; lower evaluation.{larger}"] * (share > 0.5)
    return notes


def room_for(machine: Machine, place: Place) -> int:
    """Bytes of memory that each device has; processes on the CPU share the machine's."""
    if place.device == "cuda":
        return min((memory for _, memory in machine.gpus), default=0)
    return machine.memory // place.together


def shortages(
    needs: Estimate, model: ModelFacts, values: Hyperparameters, machine: Machine, place: Place, free: int, where: Path
) -> list[str]:
    """Why the run cannot be: too little memory, or less than it needs of the ``free`` bytes of the disk ``where``."""
    found, room = [], room_for(machine, place)
    if needs.memory > room:
        ways = remedies(model, values, place, room, needs.rows)
        each = " on each device" if place.count > 1 else ""
        found.append(
            f"training needs about {size(needs.memory)} of memory{each}, there are {size(room)}: "
            + (f"set {'; or '.join(ways)}" if ways else "use a smaller model or a larger machine")
        )
    if needs.disk > free:
        found.append(
            f"checkpoints of {size(needs.checkpoint)} each and the exported model need about {size(needs.disk)} of "
            f"disk, {size(free)} are free in {where}: free some space, or put the workspace elsewhere with REWARM_HOME"
        )
    return found


def estimate(
    model: ModelFacts,
    values: Hyperparameters,
    tokens: int,
    speed: float | None = None,
    dataset_bytes: int = 0,
    rows: int | None = None,
    place: Place | None = None,
) -> Estimate:
    """The run's needs, for ``tokens`` training tokens in all (every epoch, replay included).

    Args:
        speed: FLOP/s of one device, see ``flops_per_second``.
        rows: of tokens, where the plan of an existing dataset tells.
    """
    rows = rows or math.ceil(tokens / values.max_sequence_length)
    place = place or Place()
    speed = speed and speed * (place.count if place.device == "cuda" else place.nodes)  # processes share a CPU's cores
    checkpoint = checkpoint_bytes(model, values)
    kept = max(2, values.number_of_checkpoints) + 1
    return Estimate(
        rows=rows,
        steps=math.ceil(rows / (values.batch_size * values.gradient_accumulation_steps * place.count)),
        tokens=tokens,
        memory=memory_bytes(model, values, place, rows),
        checkpoint=checkpoint,
        disk=kept * checkpoint + 2 * 4 * model.parameters + dataset_bytes,
        seconds=training_seconds(model, values, tokens, speed),
    )
