"""What a training is given and what it returns, and the settings of the process that it runs under."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
import torch

from rewarm.core.errors import ResourceError, UserError
from rewarm.core.events import EventLog
from rewarm.core.manifest import canonical
from rewarm.core.space import with_space
from rewarm.core.storage import free_bytes
from rewarm.data.dataset import Dataset
from rewarm.data.plan import Plan
from rewarm.models.causal import CausalModel
from rewarm.models.folder import fingerprint
from rewarm.models.ranks import rank, world_size
from rewarm.recipe.hyperparameters import Hyperparameters

T = TypeVar("T")
Autocast = Callable[[], contextlib.AbstractContextManager[Any]]

_ACT_OTHERWISE = (
    *("checkpoint_steps", "checkpoint_strategy", "eval_steps", "eval_strategy", "logging_steps"),
    *("number_of_checkpoints", "resume_from_checkpoint", "save_best_checkpoint", "merge_adapter"),
    *("batch_size", "gradient_accumulation_steps"),  # the rows of an update are compared
    *("disable_gradient_checkpointing", "flash_attention_v2", "distributed_backend", "zero_stage"),
    *("dpo_label_smoothing", "pref_beta", "pref_ftx", "pref_loss", "simpo_gamma"),
)
"""Hyperparameters that may differ between a checkpoint and the training that goes on from it."""


@dataclass(frozen=True)
class Job:
    """What to train, on what, and whom to tell. ``folder`` is the run's; the hyperparameters are all filled in.

    ``stop`` is asked after every step; ``stop_reason`` then names why ("stopped" or "terminated").
    ``evaluate`` is called when an evaluation is due, and at the steps in ``evaluate_at`` (0: before the
    first). It writes its own events and returns the held-out loss that tells which checkpoint is best.
    """

    folder: Path
    dataset: Dataset
    plan: Plan
    hyperparameters: Hyperparameters
    base: Path
    log: EventLog
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int | None = None
    stop: Callable[[], bool] = lambda: False
    stop_reason: Callable[[], str] = lambda: "stopped"
    evaluate: Callable[[CausalModel, int, int], float | None] = lambda model, step, tokens: None
    evaluate_at: Sequence[int] = ()
    on_spike: str = "warn"  # or "skip", "rewind", "stop": what a leap of the loss does
    hang_seconds: float = 600.0  # without any computation that are a standstill
    on_hang: Callable[[str], None] = lambda message: None  # is told of it, by another thread, before the process ends
    running_average: bool = False  # of the weights, kept beside them
    compile_layers: bool = False

    @property
    def rank(self) -> int:
        return rank()

    @property
    def world_size(self) -> int:
        return world_size()

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def waits(self) -> bool:
        """Whether the disk is so full that this process, or rank 0, waits for space to write an event."""
        return free_bytes(self.folder) < 1 << 21

    def with_space(self, purpose: str, work: Callable[[], T], needed: int = 0) -> T | None:
        """``core.space.with_space`` for this run."""
        return with_space(work, purpose=purpose, folder=self.checkpoints, log=self.log, stop=self.stop, needed=needed)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be continued: base, data, plan, hyperparameters that act on weights."""
        given = self.hyperparameters
        facts = {k: value for k, value in given.model_dump(mode="json").items() if k not in _ACT_OTHERWISE}
        if self.hyperparameters.finetuning_type == "full":
            facts = {name: v for name, v in facts.items() if not name.startswith("lora_") and name != "target_modules"}
        facts |= {
            "base model": fingerprint(self.base),
            "dataset": self.dataset.hash,
            "sources": list(self.plan.names),
            "tokens of each source": self.plan.part_tokens.tolist(),
            "rows of an update": given.batch_size * given.gradient_accumulation_steps * self.world_size,
        }
        return dict(orjson.loads(canonical(facts)))  # as it reads back from a checkpoint


def with_rows(given: Hyperparameters, rows: int, ranks: int) -> Hyperparameters:
    """The hyperparameters with which ``ranks`` devices make updates of ``rows`` rows.

    Raises:
        UserError: they cannot be shared out evenly.
    """
    passes, rest = divmod(rows, given.batch_size * ranks)
    if rest or not passes:
        raise UserError(
            f"an update of this training has {rows} rows, which {ranks} devices cannot share out in micro-batches of "
            f"{given.batch_size}",
            where="infrastructure.devices",
            remedy="take another number of devices, or a batch_size such that devices x batch_size divides the rows",
        )
    return given.model_copy(update={"gradient_accumulation_steps": passes})


@dataclass(frozen=True)
class Outcome:
    """How training ended. ``checkpoint`` is None only where it was stopped before one could be written."""

    finished: bool
    reason: str  # "finished", or what stop_reason said
    step: int
    tokens: int
    checkpoint: Path | None
    best: Path | None

    def to_json(self) -> dict[str, Any]:
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Outcome:
        return cls(**{**said, **{name: said[name] and Path(said[name]) for name in ("checkpoint", "best")}})


@contextlib.contextmanager
def process_settings(job: Job) -> Iterator[None]:
    """Threads and determinism as the job says, for as long as it trains."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    if job.threads:
        torch.set_num_threads(job.threads)
    if job.hyperparameters.full_determinism:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic without it
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = benchmark


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says, in one of torch's many words for it, that memory ran out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextlib.contextmanager
def memory_errors(job: Job) -> Iterator[None]:
    """Too little memory, in torch's many words for it, as a ``ResourceError`` that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        given = job.hyperparameters
        steps = ["lower hyperparameters.batch_size and raise gradient_accumulation_steps"] * (given.batch_size > 1)
        steps += ["lower hyperparameters.max_sequence_length"]
        steps += ["set hyperparameters.disable_gradient_checkpointing=false"] * given.disable_gradient_checkpointing
        steps += ["use finetuning_type lora"] * (given.finetuning_type == "full")
        raise ResourceError(
            f"the {job.device.type}'s memory is too small: {str(error).partition(chr(10))[0][:200]}",
            where=job.folder,
            remedy="; or ".join(steps),
        ) from error


def autocast(job: Job) -> Autocast:
    """The context of a forward pass: products in the type of ``mixed_precision``, weights in fp32."""
    return autocast_to(job.hyperparameters.mixed_precision, job.device.type)


def autocast_to(precision: str, device: str) -> Autocast:
    """The same for a precision and a kind of device."""
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if (dtype := types.get(precision)) is None:
        return contextlib.nullcontext
    return lambda: torch.autocast(device, dtype=dtype)
