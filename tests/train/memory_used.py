"""Run as a process: three updates of the model in a folder; prints the peak of this process's memory in bytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.metrics import memory_gb
from rewarm.train.optimizer import keeps_gradients
from rewarm.train.trial import random_batch, ready

if __name__ == "__main__":
    torch.set_num_threads(1)
    values = Hyperparameters.model_validate(json.loads(sys.argv[2]))
    model, optimizer = ready(Path(sys.argv[1]), values, torch.device("cpu"))
    for _ in range(3):
        optimizer.zero_grad(set_to_none=not keeps_gradients(values))
        for _ in range(values.gradient_accumulation_steps):
            model(random_batch(model, values, torch.device("cpu"))).backward()
        optimizer.step()
    sys.stdout.write(f"{memory_gb(torch.device('cpu')) * 1e9:.0f}\n")
