"""The continual-pretraining loop. Read ``train`` from top to bottom, then ``train_step``: that is all of it.

Nothing in a step waits for the device: losses, norms and the guard against non-finite values stay
there until the logging interval ends. The position in the data is the step, and the learning rate a
function of it; so a checkpoint taken after any step continues to the last bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rewarm.data.batches import Batch, Batches, prefetch
from rewarm.models.causal import PackedBatch
from rewarm.train.begin import begin
from rewarm.train.calendar import Calendar, build_calendar
from rewarm.train.checkpoint import Training, expected_bytes, keep_rng, list_checkpoints, retire, save, step_of
from rewarm.train.job import Autocast, autocast, memory_errors, process_settings
from rewarm.train.job import Job as Job
from rewarm.train.job import Outcome as Outcome
from rewarm.train.optimizer import gradient_norm, guarded_update
from rewarm.train.report import Report
from rewarm.train.schedule import learning_rate

SEGMENTS = 256
"""Bounds of segments are padded to a multiple of this where layers are compiled."""


def train(job: Job) -> Outcome:
    """Train to the end, or until a stop is asked for, from the newest checkpoint or from the base model.

    A checkpoint is always written at the end and at a stop, whatever ``checkpoint_strategy`` says: the
    model is published from the one, and the training continued from the other.

    Raises:
        UserError: the checkpoint belongs to another training; several losses in a row are not finite.
        ResourceError: too little disk for the checkpoints, before the first step; or too little memory.
    """
    given = job.hyperparameters
    batches = Batches(
        job.plan,
        given.batch_size,
        given.gradient_accumulation_steps,
        job.rank,
        job.world_size,
        pad=job.compile_layers,
    )
    calendar = build_calendar(
        given,
        total=batches.steps,
        rows_per_step=batches.rows_per_step,
        epoch_ends=job.plan.epoch_ends.tolist(),
        evaluate_at=job.evaluate_at,
    )
    with process_settings(job), memory_errors(job), contextlib.ExitStack() as stack:
        training = begin(job, calendar)
        report = Report(job, training, calendar)
        if training.step in calendar.evaluations and training.evaluated < training.step:
            evaluate(job, training, calendar, report)  # it was stopped before it came to that
        forward = autocast(job)
        reader = stack.enter_context(contextlib.closing(ahead(job, batches, training.step)))
        for step, batch in report.timed(reader):
            rate = learning_rate(step, calendar.total, given)
            train_step(training, batch, rate, given.max_grad_norm, forward, report.tokens_done)
            stop = job.stop()
            report.step_done(batch, rate)
            if training.step in calendar.evaluations and not stop:
                evaluate(job, training, calendar, report)
            if stop or training.step in calendar.checkpoints:
                stop |= not write_checkpoint(job, training, calendar, report)
            if stop:
                return outcome(job, training, job.stop_reason())
    return outcome(job, training, "finished")


def ahead(job: Job, batches: Batches, start: int) -> Generator[tuple[int, Batch]]:
    """The batches from step ``start`` on, read by a thread; closing the generator ends that."""
    fixed = job.compile_layers and job.device.type == "cuda" and job.hyperparameters.mixed_precision != "none"
    with contextlib.closing(prefetch(batches, start)) as reader:  # type: ignore[type-var]
        for step, batch in reader:
            yield step, fixed_shape(batch, job.plan.sequence_length) if fixed else batch


def fixed_shape(batch: Batch, sequence_length: int) -> Batch:
    """The batch with bounds of segments, and a greatest length, that seldom change.

    Compiled layers would be compiled again for every count of documents and every greatest length. Empty
    segments behind the last one cost the attention kernel nothing.
    """
    micro_batches = [
        replace(
            micro_batch,
            cu_seqlens=np.pad(micro_batch.cu_seqlens, (0, -len(micro_batch.cu_seqlens) % SEGMENTS), mode="edge"),
            max_seqlen=max(micro_batch.max_seqlen, sequence_length),  # padding can be one longer segment
        )
        for micro_batch in batch.micro_batches
    ]
    return replace(batch, micro_batches=micro_batches)


def train_step(
    training: Training,
    batch: Batch,
    rate: float,
    max_grad_norm: float,
    forward: Autocast,
    tokens_done: Callable[[int], None],
) -> None:
    """One update: gradients of the mean loss over all targets of the batch, clipped, applied unless not finite.

    The loss of each micro-batch is a sum, and what it is divided by is the count of targets in the
    whole batch: how the batch is cut into micro-batches changes nothing but rounding.
    """
    model, optimizer, tally = training.model, training.optimizer, training.tally
    scale = tally.scale.float()
    loss = torch.zeros((), dtype=torch.float64, device=tally.device)
    optimizer.zero_grad(set_to_none=True)
    for micro_batch in batch.micro_batches:
        packed = PackedBatch.of(micro_batch, tally.device)
        with forward():
            nll = model(packed)  # sum of nats over the valid targets
        (nll * (scale / max(1, batch.n_targets))).backward()
        loss += nll.detach()
        tokens_done(len(micro_batch.input_ids))
    norm = gradient_norm(model.parameters()) / scale  # before clipping
    bad = tally.add(training.step + 1, loss, batch.n_targets, norm)
    guarded_update(optimizer, rate, norm=norm, scale=scale, max_grad_norm=max_grad_norm, bad=bad)
    training.step += 1
    training.tokens += batch.tokens


def evaluate(job: Job, training: Training, calendar: Calendar, report: Report) -> None:
    """Call the job's evaluation so that it leaves no trace in the training, and note the best checkpoint."""
    model = training.model

    def work() -> float | None:
        model.eval()
        return keep_rng(job.device, lambda: job.evaluate(model, training.step, training.tokens))

    try:
        with report.set_aside():
            loss = job.with_space("the evaluation", work, needed=1 << 20)
    finally:
        model.train()
    if not job.stop():  # else it may have ended early; a resumed training does it again
        training.evaluated = training.step
    if loss is None or not math.isfinite(loss) or training.step not in calendar.checkpoints:
        return
    if training.best is None or loss < training.best[1]:
        training.best = (training.step, loss)


def write_checkpoint(job: Job, training: Training, calendar: Calendar, report: Report) -> bool:
    """Write a checkpoint, waiting for space where there is none; then delete those that are one too many.

    Returns:
        False where a stop was asked for while it waited, and nothing was written.
    """
    report.check_guard()

    def work() -> Path:
        return save(job.checkpoints, training, job.identity, rank=job.rank, world_size=job.world_size)

    with report.set_aside() as watch:
        path = job.with_space("a checkpoint", work, needed=expected_bytes(training))
        if path is None:
            return False
        report.checkpoint_written(path, watch())
        kept, last = job.hyperparameters.number_of_checkpoints, training.step == calendar.total
        best = training.best[0] if training.best and job.hyperparameters.save_best_checkpoint else None
        retire(job.checkpoints, training.step, kept if last else max(2, kept), best)
    return True


def outcome(job: Job, training: Training, reason: str) -> Outcome:
    """What is on disk now."""
    there = {step_of(path): path for path in list_checkpoints(job.checkpoints) if step_of(path) <= training.step}
    best = training.best[0] if training.best and job.hyperparameters.save_best_checkpoint else None
    return Outcome(
        finished=reason == "finished",
        reason=reason,
        step=training.step,
        tokens=training.tokens,
        checkpoint=there[max(there)] if there else None,
        best=there.get(best) if best is not None else None,
    )
