"""One trial step on the device itself, for ``batch_size: auto``: an estimate is believed only where it holds."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.optim import Optimizer

from rewarm.models.causal import CausalModel, PackedBatch
from rewarm.models.lora import load_trainable
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.job import autocast_to, is_out_of_memory
from rewarm.train.optimizer import build_optimizer


def fitting(base: Path, values: Hyperparameters, device: torch.device) -> Hyperparameters:
    """``values`` with the batch halved until a step runs in the device's memory, the sequences of an update kept.

    One device's whole state is tried, as DDP holds it; sharded, it is smaller.
    """
    while True:
        try:
            _step(base, values, device)
            return values
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or values.batch_size == 1:
                raise
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
        update = values.batch_size * values.gradient_accumulation_steps
        half = next(n for n in range(values.batch_size // 2, 0, -1) if update % n == 0)
        values = values.model_copy(update={"batch_size": half, "gradient_accumulation_steps": update // half})


def _step(base: Path, values: Hyperparameters, device: torch.device) -> None:
    """An update of two micro-batches of random tokens, a sequence one document: what takes most memory."""
    model, optimizer = ready(base, values, device)
    for _ in range(2):
        with autocast_to(values.mixed_precision, device.type)():
            loss = model(random_batch(model, values, device))
        loss.backward()
    optimizer.step()


def ready(base: Path, values: Hyperparameters, device: torch.device) -> tuple[CausalModel, Optimizer]:
    """A model and its optimizer as one device trains them."""
    model = load_trainable(base, values, device)
    return model, build_optimizer(model, values)


def random_batch(model: CausalModel, values: Hyperparameters, device: torch.device) -> PackedBatch:
    rows, length = values.batch_size, values.max_sequence_length
    ids = torch.randint(0, model.vocab_size, (rows * length,), device=device)
    return PackedBatch(
        input_ids=ids,
        targets=ids.roll(-1),
        position_ids=torch.arange(length, device=device).repeat(rows),
        cu_seqlens=torch.arange(0, rows * length + 1, length, dtype=torch.int32, device=device),
        max_seqlen=length,
        n_targets=rows * length,
    )
