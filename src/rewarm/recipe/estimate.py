"""Memory, disk, steps and time of a run, before it starts. Pure functions; every figure is an estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rewarm.recipe.facts import Machine, ModelFacts, cpu_flops, gpu_flops
from rewarm.recipe.hyperparameters import Hyperparameters

CPU_EFFICIENCY = 0.55
"""Training speed on a CPU over that of a large matrix product (0.5 to 0.6 on SmolLM2-135M)."""
GPU_EFFICIENCY = 0.40
"""Model FLOP utilisation to expect of one GPU."""


@dataclass(frozen=True)
class Estimate:
    """What a run will need. ``seconds`` is None where the device's speed is not known."""

    rows: int
    steps: int
    tokens: int
    memory: int
    checkpoint: int
    disk: int
    seconds: float | None


def lora_parameters(model: ModelFacts, rank: int) -> int:
    """Trainable parameters of LoRA on all linear layers of the decoder."""
    attention = 2 * (model.hidden + model.heads * model.head_width) + 2 * (
        model.hidden + model.kv_heads * model.head_width
    )
    return model.layers * rank * (attention + 3 * (model.hidden + model.feed_forward))


def trainable_parameters(model: ModelFacts, values: Hyperparameters) -> int:
    return model.parameters if values.finetuning_type == "full" else lora_parameters(model, values.lora_rank)


def memory_bytes(model: ModelFacts, values: Hyperparameters) -> int:
    """Peak memory of a training step on one device: weights, gradients, moments, activations, loss.

    Weights and their gradients are fp32, Adam has two fp32 moments. The activations that a layer of
    the Llama family keeps for its backward pass are counted tensor by tensor.
    """
    trainable = trainable_parameters(model, values)
    moments = 8 if values.optimizer == "adamw" else 4
    states = 4 * model.parameters + (4 + moments) * trainable
    width = 4 if values.mixed_precision == "none" else 2
    tokens = values.batch_size * values.max_sequence_length
    attention = (2 * model.heads + 2 * model.kv_heads) * model.head_width
    layer = 2 * 4 * 2 * model.hidden + width * (3 * model.hidden + 2 * attention + 4 * model.feed_forward)
    if values.disable_gradient_checkpointing:
        activations = tokens * model.layers * layer
    else:
        activations = tokens * (model.layers * 4 * model.hidden + layer)
    loss = 4 * model.embedding + 3 * 4 * min(tokens, 1024) * model.vocabulary
    return int(states + activations + loss + 500e6)


def checkpoint_bytes(model: ModelFacts, values: Hyperparameters) -> int:
    """One checkpoint: fp32 weights and moments of what is trained."""
    return trainable_parameters(model, values) * (12 if values.optimizer == "adamw" else 8)


def training_seconds(
    model: ModelFacts, values: Hyperparameters, tokens: int, machine: Machine, device: str
) -> float | None:
    flops = model.flops_per_token(values.max_sequence_length) * tokens
    if values.finetuning_type == "lora":
        flops *= 2 / 3  # the weights' own gradients are not computed
    if not values.disable_gradient_checkpointing:
        flops *= 4 / 3
    if device == "cpu":
        return flops / (cpu_flops(machine.cores) * CPU_EFFICIENCY)
    peak = gpu_flops(machine.gpus[0][0]) if machine.gpus else None
    return flops / (peak * GPU_EFFICIENCY) if peak else None


def estimate(
    model: ModelFacts, values: Hyperparameters, tokens: int, machine: Machine, device: str, dataset_bytes: int = 0
) -> Estimate:
    """The run's needs, for ``tokens`` training tokens in all (every epoch, replay included)."""
    rows = math.ceil(tokens / values.max_sequence_length)
    checkpoint = checkpoint_bytes(model, values)
    kept = max(2, values.number_of_checkpoints) + 1
    return Estimate(
        rows=rows,
        steps=math.ceil(rows / (values.batch_size * values.gradient_accumulation_steps)),
        tokens=tokens,
        memory=memory_bytes(model, values),
        checkpoint=checkpoint,
        disk=kept * checkpoint + 2 * 4 * model.parameters + dataset_bytes,
        seconds=training_seconds(model, values, tokens, machine, device),
    )
