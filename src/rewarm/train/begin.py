"""How training begins: the model, its optimizer, and the checkpoint that it goes on from."""

from __future__ import annotations

from pathlib import Path

import torch

from rewarm.core.errors import ResourceError
from rewarm.core.events import TRAINING_FROM
from rewarm.core.manifest import verify
from rewarm.core.storage import remove_folder, sweep
from rewarm.models.lora import load_trainable
from rewarm.models.ranks import first_says
from rewarm.train.calendar import Calendar
from rewarm.train.checkpoint import (
    Training,
    changed_surroundings,
    check_identity,
    expected_bytes,
    latest,
    load,
    missing_bytes,
    read_state,
    step_of,
)
from rewarm.train.job import Job
from rewarm.train.optimizer import build_optimizer, keeps_gradients
from rewarm.train.parallel import shard, what_runs
from rewarm.train.tally import Tally


def begin(job: Job, calendar: Calendar) -> Training:
    """The state that training goes on from: that of a checkpoint, or of the base model at step 0."""
    training = _build(job)
    path = _checkpoint(job)
    if path is not None:
        state = read_state(path)
        check_identity(path, state, job.identity)
        load(path, training)
        if state["world_size"] != job.world_size:  # generators of other ranks: draw what none has drawn before
            torch.manual_seed(job.hyperparameters.seed + job.rank + (training.step << 20))
        for change in changed_surroundings(state, job.device):
            job.log.warning(f"since {path.name}, {change}: equality to the last bit is not promised", path=str(path))
    _require_disk(job, training, calendar)
    job.log.result("parallelism", what_runs(job.hyperparameters))
    job.log.result(TRAINING_FROM, training.step)
    return training


def _build(job: Job) -> Training:
    """Recompute, compile, share out, in this order: each works on what the one before has made."""
    given = job.hyperparameters
    torch.manual_seed(given.seed)  # of the adapter's first values
    model = load_trainable(job.base, given, job.device)
    if job.compile_layers:
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled here runs as it is
        for layer in model.layers():
            layer.compile()
    wrapper = shard(model, given)
    torch.manual_seed(given.seed + job.rank)  # of dropout, whatever building the model has drawn
    tally = Tally(
        job.device,
        scaled=given.mixed_precision == "fp16",
        sources=len(job.plan.names),
        skip_spikes=job.on_spike in ("skip", "stop"),
    )
    return Training(
        model,
        build_optimizer(model, given),
        tally,
        averaged=job.running_average,
        wrapper=wrapper,
        keeps_gradients=keeps_gradients(given),
    )


def _checkpoint(job: Job) -> Path | None:
    """The checkpoint to go on from, every byte of it verified, by rank 0 alone."""
    wanted = job.hyperparameters.resume_from_checkpoint
    if job.rank == 0:
        sweep(job.checkpoints)
    if wanted == "no":
        return None
    if wanted != "last":
        if job.rank == 0:
            verify(job.folder / wanted)
        first_says(0)  # the others wait for it
        return job.folder / wanted
    path = _newest(job) if job.rank == 0 else None
    step = first_says(step_of(path) if path else -1)
    return None if step < 0 else job.checkpoints / f"step-{step}"


def _newest(job: Job) -> Path | None:
    found = latest(job.checkpoints)
    for path, error in found.damaged:
        aside = path.with_name(f"damaged-{path.name}")
        if aside.exists():
            remove_folder(aside)
        path.rename(aside)
        job.log.warning(
            f"{error.where}: {error.what}. Training goes on from "
            f"{found.path.name if found.path else 'the base model'}; the damaged checkpoint is now {aside.name}",
            path=str(error.where),
        )
    return found.path


def _require_disk(job: Job, training: Training, calendar: Calendar) -> None:
    """Room for the checkpoints that are kept during the run and the one being written, but never for less than two."""
    ahead = sum(step > training.step for step in calendar.checkpoints)
    kept = max(2, job.hyperparameters.number_of_checkpoints)
    size = expected_bytes(training)
    missing = missing_bytes(job.checkpoints, max(2, min(ahead, kept + 1)), size) if ahead else 0
    if missing:
        raise ResourceError(
            f"a checkpoint takes {size / 1e9:.2f} GB; {missing / 1e9:.2f} GB more are needed for those kept at a time",
            where=job.checkpoints,
            remedy="free some space, set hyperparameters.number_of_checkpoints lower, or put the workspace on a "
            "larger disk with REWARM_HOME",
        )
