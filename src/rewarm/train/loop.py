"""The continual-pretraining loop. Read ``train`` from top to bottom, then ``train_step``: that is all of it.

Nothing in a step waits for the device: losses, norms and the guard against non-finite values stay
there until the logging interval ends. The position in the data is the step, and the learning rate a
function of it; so a checkpoint taken after any step continues to the last bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import numpy as np
import torch

from rewarm.data.batches import Batch, Batches, prefetch
from rewarm.models.causal import PackedBatch
from rewarm.models.ranks import any_of, any_rank, total, world_size
from rewarm.train.average import follow
from rewarm.train.begin import begin
from rewarm.train.calendar import Calendar, build_calendar
from rewarm.train.checkpoint import Training, keep_rng, list_checkpoints, step_of
from rewarm.train.guard import rewind
from rewarm.train.job import Autocast, autocast, memory_errors, process_settings
from rewarm.train.job import Job as Job
from rewarm.train.job import Outcome as Outcome
from rewarm.train.optimizer import gradient_norm, guarded_update
from rewarm.train.parallel import accumulating, reshard
from rewarm.train.report import Report
from rewarm.train.saving import Saver
from rewarm.train.schedule import learning_rate
from rewarm.train.watchdog import Watchdog

SEGMENTS = 256
"""Bounds of segments are padded to a multiple of this where layers are compiled."""


def train(job: Job) -> Outcome:
    """Train to the end, or until a stop is asked for, from the newest checkpoint or from the base model.

    A checkpoint is always written at the end and at a stop, whatever ``checkpoint_strategy`` says: the
    model is published from the one, and the training continued from the other.

    Raises:
        UserError: the checkpoint belongs to another training; losses stay not finite, whatever ``guard`` does.
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
        watchdog = stack.enter_context(Watchdog(job.hang_seconds, job.on_hang, job.waits))
        training.model.register_forward_pre_hook(watchdog.beat)  # in evaluations, too
        report = Report(job, training, calendar, watchdog)
        if training.step in calendar.evaluations and training.evaluated < training.step:
            evaluate(job, training, calendar, report)  # it was stopped before it came to that
        forward, saver = autocast(job), stack.enter_context(saving(job, training, report, calendar))
        reader = stack.enter_context(contextlib.closing(ahead(job, batches, training.step)))
        for step, batch in report.timed(reader):
            rate = learning_rate(step, calendar.total, given)
            train_step(training, batch, rate, given.max_grad_norm, forward, report.tokens_done)
            stop, writing = any_of(job.stop(), saver.busy)  # all ranks end with the same step
            if training.averaged:
                follow(training, calendar.total)
            if trouble := report.step_done(batch, rate):
                stop |= not saver.settle()
                rewind(job, training, trouble, calendar.checkpoints)
            if training.step in calendar.evaluations and not stop:
                evaluate(job, training, calendar, report)
            if stop or trouble or training.step in calendar.checkpoints:
                stop |= not saver.begin(last=training.step == calendar.total, wait=stop)
            elif saver.pending and not writing:
                stop |= not saver.settle()
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
    optimizer, tally = training.optimizer, training.tally
    scale = tally.scale.float()
    share = scale * world_size() / max(1, batch.n_targets)  # gradients are averaged over the ranks
    loss = torch.zeros((), dtype=torch.float64, device=tally.device)
    by_source = tally.no_sums()
    optimizer.zero_grad(set_to_none=not training.keeps_gradients)
    for number, micro_batch in enumerate(batch.micro_batches, 1):
        packed = PackedBatch.of(micro_batch, tally.device, by_source)
        with accumulating(training.network, last=number == len(batch.micro_batches)):
            with forward():
                nll = training.network(packed)  # sum of nats over the valid targets
            (nll * share).backward()
        loss += nll.detach()
        tokens_done(len(micro_batch.input_ids))
    norm = gradient_norm(training.model.parameters()) / scale  # before clipping
    bad = tally.add(training.step + 1, total(loss), batch.n_targets, norm, total(by_source))
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
        reshard(model)
    if not any_rank(job.stop()):  # else it may have ended early; a resumed training does it again
        training.evaluated = training.step
    if loss is None or not math.isfinite(loss) or training.step not in calendar.checkpoints:
        return
    if training.best is None or loss < training.best[1]:
        training.best = (training.step, loss)


@contextlib.contextmanager
def saving(job: Job, training: Training, report: Report, calendar: Calendar) -> Iterator[Saver]:
    """What writes this training's checkpoints, for as long as it trains."""
    given = job.hyperparameters
    saver = Saver(
        job.checkpoints,
        training,
        job.identity,
        with_space=job.with_space,
        aside=report.writing,
        written=report.checkpoint_written,
        keep=(max(2, given.number_of_checkpoints), given.number_of_checkpoints, given.save_best_checkpoint),
        due=calendar.checkpoints,
    )
    try:
        yield saver
    finally:
        saver.close()


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
