"""Run as a process: two updates of the model in a folder; prints the peak of this process's memory in bytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from rewarm.models.causal import load_model
from rewarm.models.lora import add_lora
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.metrics import memory_gb
from rewarm.train.optimizer import build_optimizer
from rewarm.train.trial import random_batch

if __name__ == "__main__":
    torch.set_num_threads(1)
    values = Hyperparameters.model_validate(json.loads(sys.argv[2]))
    model = load_model(Path(sys.argv[1]))
    if values.finetuning_type == "lora":
        add_lora(model, values)
    if not values.disable_gradient_checkpointing:
        model.enable_gradient_checkpointing()
    optimizer = build_optimizer(model.train(), values)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        for _ in range(values.gradient_accumulation_steps):
            model(random_batch(model, values, torch.device("cpu"))).backward()
        optimizer.step()
    sys.stdout.write(f"{memory_gb(torch.device('cpu')) * 1e9:.0f}\n")
