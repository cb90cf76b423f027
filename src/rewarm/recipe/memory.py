"""Memory of a training step on one device, counted tensor by tensor as the step allocates them.

Weights, gradients and moments are fp32; under bf16 and fp16 the products' factors are copied into that type. What a
layer of the Llama family keeps for its backward pass was read off autograd's saved tensors. The peak is the larger of
two moments: where the backward pass begins (all activations, the loss and its gradients) and where it ends (all
gradients, and those of the embedding once more while they are added).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rewarm.core.amounts import size
from rewarm.recipe.facts import ModelFacts
from rewarm.recipe.hyperparameters import Hyperparameters

PROCESS = {"cpu": 470e6, "cuda": 500e6}
"""Python with torch, resident whatever the model; the context that CUDA keeps on its device."""
HEAP = {"full": 1.4, "lora": 1.45}
"""What the C library's heap takes on a CPU over what a step asks of it: it falls into pieces (measured with glibc
2.36, models of 4 to 30 layers). CUDA's allocator wastes next to nothing."""
LOGITS = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Bytes of fp32 logits in one chunk of the loss. Larger chunks read the head's weight less often (on a CPU, 128 rows
cost 1.5 times what 512 do); smaller ones take less memory."""
KEPT_GRADIENTS = 3e9
"""Parameters up to which a sharded training keeps whole gradients, to share them out once an update."""
WEIGHT_BYTES = {"none": 4.0, "int8": 1.0, "int4": 0.55}
"""Of a linear layer's parameter; int4 with its scales."""


@dataclass(frozen=True)
class Place:
    """Where a training runs: the kind of device, how many of them share it, and a running average on them or not."""

    device: str = "cpu"
    count: int = 1
    averaged: bool = False
    nodes: int = 1

    @property
    def together(self) -> int:
        """The devices of one computer, which share out the state."""
        return self.count // self.nodes


def lora_parameters(model: ModelFacts, values: Hyperparameters) -> int:
    """What trains beside a frozen base: the adapters, and embeddings and norms where they are asked for."""
    adapters = values.lora_rank * sum(sum(model.linear[name]) for name in _adapted(model, values))
    norms = (2 * model.layers + 1) * model.hidden if "norms" in values.additional_target else 0
    return model.layers * adapters + norms + (model.embedding if "embeddings" in values.additional_target else 0)


def _adapted(model: ModelFacts, values: Hyperparameters) -> list[str]:
    wanted = values.target_modules.split(",") if isinstance(values.target_modules, str) else values.target_modules
    named = [name for name in model.linear if name in [part.strip() for part in wanted]]
    return named or list(model.linear)  # all-linear; names of another family's layers are not told apart


def trainable_parameters(model: ModelFacts, values: Hyperparameters) -> int:
    return model.parameters if values.finetuning_type == "full" else lora_parameters(model, values)


def memory_bytes(
    model: ModelFacts, values: Hyperparameters, place: Place | None = None, rows: int | None = None
) -> int:
    """Peak memory on each device of ``place``; on a CPU, of each process.

    Args:
        rows: of the text in all: a micro-batch cannot have more.
    """
    place = place or Place()
    batch = min(values.batch_size or 1, rows or values.batch_size or 1)
    tokens = batch * values.max_sequence_length
    states, gradients, kept = _states(model, values, place)
    began = _activations(model, values, place.device, tokens) + _loss(model, values, place.device, tokens)
    head = model.vocabulary * model.hidden if _trains_embedding(values) else 0
    ended = gradients + 4 * head + tokens * _layer(model, values, place.device)
    return int(PROCESS[place.device] + states + _heap(model, values, place.device) * max(began + kept, ended))


def _heap(model: ModelFacts, values: Hyperparameters, device: str) -> float:
    if device != "cpu":
        return 1.0
    if values.finetuning_type == "lora" and not values.disable_gradient_checkpointing:
        return 1.6 + 0.16 * model.layers  # small gradients that stay lie between the large blocks of each layer
    return HEAP[values.finetuning_type]


def _trains_embedding(values: Hyperparameters) -> bool:
    return values.finetuning_type == "full" or "embeddings" in values.additional_target


def _width(values: Hyperparameters) -> int:
    """Bytes of an activation."""
    return 4 if values.mixed_precision == "none" else 2


def _states(model: ModelFacts, values: Hyperparameters, place: Place) -> tuple[float, float, float]:
    """Bytes of weights and moments, of gradients where the backward pass ends, and of those where it begins."""
    linear = model.layers * model.layer
    weights = 4.0 * (model.parameters - linear) + WEIGHT_BYTES[values.quantization_bit] * linear
    gradients = 4.0 * trainable_parameters(model, values)
    moments = 2 * gradients if values.optimizer == "adamw" else 0.0
    moments += gradients if place.averaged else 0.0
    again = values.gradient_accumulation_steps > 1
    if place.count == 1 or values.distributed_backend == "ddp":  # DDP's buckets are the gradients, and stay
        return weights + moments, gradients, gradients if again or place.count > 1 else 0.0
    layer = weights / max(1, model.layers)
    gathered = weights if values.zero_stage < 3 else 4.0 * model.embedding + 2 * layer
    whole = again and gradients <= 4 * KEPT_GRADIENTS
    share = gradients / place.together
    kept = gradients if whole else share if again else 0.0
    return (weights + moments) / place.together + gathered, share + (gradients if whole else layer), kept


def _layer(model: ModelFacts, values: Hyperparameters, device: str) -> float:
    """Bytes a token that one layer keeps for its backward pass, and the largest gradients on their way through it."""
    d, ff, width = model.hidden, model.feed_forward, _width(values)
    query, key = model.heads * model.head_width, model.kv_heads * model.head_width
    attention = width * (3 * query + 2 * key)  # query, key, value; outputs of documents, and these as one
    if values.finetuning_type == "full":
        norms = 4 * 4 * d + (4 * 2 * d if width == 4 else width * 5 * d)  # each product casts its factor for itself
        return norms + attention + width * 4 * ff
    inputs = sum(model.linear[name][0] for name in _adapted(model, values))
    mask = (4 if device == "cpu" else 1) if values.lora_dropout else 0
    dropped = width * (inputs if values.lora_dropout or width == 2 else 2 * d + query + ff) + mask * inputs
    return 4 * 2 * d + attention + width * 3 * ff + dropped


def _activations(model: ModelFacts, values: Hyperparameters, device: str, tokens: int) -> float:
    layer, boundary = _layer(model, values, device), 4 * model.hidden
    casts = 2.0 * model.layer if _width(values) == 2 else 0.0  # of a layer's weights
    full = values.finetuning_type == "full"
    if values.disable_gradient_checkpointing:
        return tokens * model.layers * layer + casts * model.layers
    return tokens * (model.layers * boundary + layer) + casts * (model.layers if full else 1)


def _loss(model: ModelFacts, values: Hyperparameters, device: str, tokens: int) -> float:
    """Logits of a chunk with their gradient, gradients of the head and the hidden states, the last norm."""
    low = _width(values) == 2
    logits = min(4 * tokens * model.vocabulary, LOGITS[device]) * (2 if low or device == "cuda" else 1)
    head = model.vocabulary * model.hidden * ((4 if _trains_embedding(values) else 0) + (2 if low else 0))
    return logits + head + 4 * 4 * tokens * model.hidden


def largest_batch(
    model: ModelFacts, values: Hyperparameters, place: Place, room: float, rows: int, at_most: int
) -> int:
    """The largest divisor of ``at_most`` that fits into ``room`` bytes as ``batch_size``; 1 where none does."""
    for batch in range(min(at_most, max(1, rows)), 1, -1):
        step = {"batch_size": batch, "gradient_accumulation_steps": max(1, at_most // batch)}
        if at_most % batch == 0 and memory_bytes(model, values.model_copy(update=step), place, rows) <= room:
            return batch
    return 1


def remedies(model: ModelFacts, values: Hyperparameters, place: Place, room: float, rows: int) -> list[str]:
    """The changes that make a training fit into ``room`` bytes, each with what it takes then; the mildest first."""
    update = values.batch_size * values.gradient_accumulation_steps
    fit = largest_batch(model, values, place, room, rows, values.batch_size)
    recompute = {"disable_gradient_checkpointing": False}
    one = {"batch_size": 1, "gradient_accumulation_steps": update}
    share = {"distributed_backend": "deepspeed", "zero_stage": 3}
    ways: list[dict[str, Any]] = [{"batch_size": fit, "gradient_accumulation_steps": update // fit}, recompute]
    ways += [share] if place.together > 1 else []
    ways += [{"finetuning_type": "lora"}, one | recompute]
    ways += [share | one | recompute] if place.together > 1 else []
    ways += [{"finetuning_type": "lora"} | one | recompute]
    found: list[tuple[dict[str, Any], str]] = []
    for way in ways:
        changes = {name: value for name, value in way.items() if getattr(values, name) != value}
        need = memory_bytes(model, values.model_copy(update=changes), place, rows)
        simpler = any(known.items() <= changes.items() for known, _ in found)
        if changes and need <= room and not simpler:
            said = ", ".join(f"{name}: {str(value).lower()}" for name, value in changes.items())
            found.append((changes, f"{said} (about {size(need)})"))
    return [said for _, said in found]
