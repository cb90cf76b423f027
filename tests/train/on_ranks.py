"""Trains on several ranks: one JSON job a line on stdin; for each, the wait status of every rank is printed.

A job is {"ranks", "folder", "base", "corpus", "attempt", "changes", "stop_after", "kill": [rank, step],
"poison": [rank, step, step...], "evaluate_at", "slow"}: losses of that rank that are not finite; steps after which the
model scores a batch; a rank whose layers sleep. Python and torch take seconds to start, so this
process imports them once and forks for each rank; it computes nothing itself.
"""

import contextlib
import json
import math
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from rewarm.models import lora
from rewarm.models.causal import CausalModel, load_model
from rewarm.train import slowness
from rewarm.train.job import with_rows
from rewarm.train.loop import train
from rewarm.train.parallel import joined, meeting
from rewarm.train.trial import random_batch
from tests.train.tiny import make_job


def rank(number: int, size: int, store: Path, job: dict) -> None:
    """One rank of a job, in a process of its own."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(size)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(job.get("ranks_of_a_node", size))}
    with joined("cpu", meeting(store)) if size > 1 else contextlib.nullcontext():
        steps = 0

        def stop() -> bool:
            nonlocal steps
            steps += 1
            if job.get("kill") == [number, steps]:
                os.kill(os.getpid(), signal.SIGKILL)
            return number == 0 and steps == job.get("stop_after")

        def poison(model: CausalModel, inputs: object, loss: torch.Tensor) -> torch.Tensor:
            return loss * math.nan if [number, steps + 1] in [[bad[0], step] for step in bad[1:]] else loss

        def evaluate(model: CausalModel, step: int, tokens: int) -> float:
            batch = random_batch(model, made.hyperparameters, torch.device("cpu"))
            return float(model.token_nll(batch).sum())

        if "slow" in job:
            slowness.EVERY = 0.5
        if job.get("slow") == number:
            lora.load_model = lambda folder, **options: slowed(load_model(folder, **options))
        if bad := job.get("poison"):
            lora.load_model = lambda folder, **options: hooked(load_model(folder, **options), poison)
        made = make_job(
            *map(Path, (job["folder"], job["base"], job["corpus"])),
            attempt=job["attempt"],
            silent=number > 0,
            stop=stop,
            evaluate=evaluate,
            evaluate_at=job.get("evaluate_at", ()),
            **job["changes"],
        )
        if rows := job.get("rows"):
            object.__setattr__(made, "hyperparameters", with_rows(made.hyperparameters, rows, size))
        train(made)


def hooked(model: CausalModel, hook: Callable[..., torch.Tensor]) -> CausalModel:
    model.register_forward_hook(hook)
    return model


def slowed(model: CausalModel) -> CausalModel:
    for layer in model.layers():
        layer.mlp.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    return model


if __name__ == "__main__":
    for line in sys.stdin:
        job = json.loads(line)
        store = Path(job["folder"]).with_name(f"meeting-{uuid.uuid4().hex}")
        pids = []
        for number in range(job["ranks"]):
            if not (pid := os.fork()):
                try:
                    rank(number, job["ranks"], store, job)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            pids.append(pid)
        sys.stdout.write(json.dumps([os.waitpid(pid, 0)[1] for pid in pids]) + "\n")
        sys.stdout.flush()
