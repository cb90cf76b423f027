"""How training begins: the model, its optimizer, and the checkpoint that it goes on from."""

from __future__ import annotations

from pathlib import Path

import torch

from rewarm.core.errors import ResourceError
from rewarm.core.events import TRAINING_FROM
from rewarm.core.manifest import verify
from rewarm.core.storage import remove_folder, sweep
from rewarm.models.causal import load_model
from rewarm.models.lora import add_lora
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
)
from rewarm.train.job import Job
from rewarm.train.optimizer import build_optimizer
from rewarm.train.tally import Tally


def begin(job: Job, calendar: Calendar) -> Training:
    """The state that training goes on from: that of a checkpoint, or of the base model at step 0."""
    sweep(job.checkpoints)
    training = _build(job)
    path = _checkpoint(job)
    if path is not None:
        state = read_state(path)
        check_identity(path, state, job.identity)
        load(path, training, rank=job.rank)
        for change in changed_surroundings(state, job.device, job.world_size):
            job.log.warning(f"since {path.name}, {change}: equality to the last bit is not promised", path=str(path))
    _require_disk(job, training, calendar)
    job.log.result(TRAINING_FROM, training.step)
    return training


def _build(job: Job) -> Training:
    given = job.hyperparameters
    torch.manual_seed(given.seed)  # of the adapter's first values
    model = load_model(job.base, device=job.device)
    if given.finetuning_type == "lora":
        add_lora(model, given)
    if not given.disable_gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if job.compile_layers:
        for layer in model.layers():
            layer.compile()
    model.train()
    torch.manual_seed(given.seed + job.rank)  # of dropout, whatever building the model has drawn
    tally = Tally(job.device, scaled=given.mixed_precision == "fp16")
    return Training(model, build_optimizer(model, given), tally)


def _checkpoint(job: Job) -> Path | None:
    """The checkpoint to go on from, every byte of it verified."""
    wanted = job.hyperparameters.resume_from_checkpoint
    if wanted == "no":
        return None
    if wanted != "last":
        verify(job.folder / wanted)
        return job.folder / wanted
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
