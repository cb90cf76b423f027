"""Checkpoints: everything that changes as training goes on, as files that are whole or not there.

``step-N/`` holds of each rank ``model-rank0000K.safetensors`` (its share of the fp32 parameters that train; under
LoRA only the adapter, since the base stays in its own folder) and ``optimizer-rank0000K.safetensors`` (with the
state of its generators), and ``state.json`` and ``manifest.json``. It is written beside, checked, and renamed
(``train.saving``); before use every file must match its SHA-256, because safetensors loads a flipped byte without a
word. There is no pickle anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rewarm.core.errors import DataError, UserError
from rewarm.core.manifest import verify
from rewarm.core.storage import free_bytes, remove_folder
from rewarm.models.causal import CausalModel
from rewarm.models.pieces import Pieces
from rewarm.models.ranks import rank, world_size
from rewarm.train.parallel import like, local, rows_here
from rewarm.train.tally import Tally

T = TypeVar("T")
SCHEMA = 1
MARGIN = 1 << 20
"""Bytes of a checkpoint beside its tensors, rounded up generously."""


@dataclass
class Training:
    """Everything that changes as training goes on. A checkpoint is this on disk, and the state of the RNGs."""

    model: CausalModel
    optimizer: Optimizer
    tally: Tally
    step: int = 0  # updates made: also the position of the loader
    tokens: int = 0  # tokens consumed
    best: tuple[int, float] | None = None  # step and held-out loss of the best checkpoint
    evaluated: int = -1  # the last step at which an evaluation was finished
    skipped: list[tuple[int, int]] = field(default_factory=list)
    """Rewinds: behind which step, up to which, batches left no trace in the weights; see ``train.guard``."""
    averaged: bool = False  # whether the optimizer's state holds a running average; see ``train.average``
    wrapper: nn.Module | None = None
    keeps_gradients: bool = False  # see ``train.optimizer``

    @property
    def network(self) -> nn.Module:
        """What a training step calls: the model, or what shares its gradients around it."""
        return self.wrapper or self.model

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by name; a tied one once."""
        return _trained(self.model)


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that verifies (None: there is none), and the damaged ones that are newer."""

    path: Path | None
    damaged: list[tuple[Path, DataError]]


def step_of(path: Path) -> int:
    """The step in a checkpoint's name; -1 for any other name."""
    head, _, number = path.name.partition("-")
    return int(number) if head == "step" and number.isdecimal() else -1


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    folders = checkpoints.glob("step-*") if checkpoints.is_dir() else ()
    return sorted((path for path in folders if step_of(path) >= 0), key=step_of)


def latest(checkpoints: Path) -> Found:
    """The newest checkpoint whose every byte is what was written."""
    damaged: list[tuple[Path, DataError]] = []
    for path in reversed(list_checkpoints(checkpoints)):
        try:
            verify(path)
            return Found(path, damaged)
        except DataError as error:
            damaged.append((path, error))
    return Found(None, damaged)


def expected_bytes(training: Training) -> int:
    """The size of a checkpoint of this training; known before the first update."""
    tensors = (3 if isinstance(training.optimizer, torch.optim.AdamW) else 1) + training.averaged
    return MARGIN + tensors * sum(p.numel() * p.element_size() for p in training.trained().values())


def read_state(path: Path) -> dict[str, Any]:
    """``state.json`` of a checkpoint."""
    value: dict[str, Any] = orjson.loads((path / "state.json").read_bytes())
    return value


def load(path: Path, training: Training) -> dict[str, Any]:
    """Put a verified checkpoint into ``training`` and the RNGs; return its ``state.json``.

    Whatever number of ranks wrote it, each rank reads the rows that it holds. Generators go on where they were
    if that number is the same; else they stay as they are.

    Raises:
        DataError: its tensors are not those of this model and optimizer.
    """
    state = read_state(path)
    load_parameters(path, training.model)
    parameters = training.trained()
    pieces = Pieces(sorted(path.glob("optimizer-rank*.safetensors")))
    for key in sorted(pieces.names):
        name, _, slot = key.rpartition("|")
        if name == "rng":
            continue
        if name not in parameters:
            raise DataError(f"holds optimizer state of {name!r}, which this model does not train", where=path)
        parameter = parameters[name]
        tensor = (pieces.read(key, *rows_here(parameter)) if pieces.shape(key) else pieces.read(key)).to(
            parameter.device
        )
        training.optimizer.state[parameter][slot] = like(parameter, tensor) if tensor.ndim else tensor
    training.tally.load(state["tally"])
    training.step, training.tokens = state["step"], state["tokens"]
    training.best = tuple(state["best"]) if state["best"] else None
    training.evaluated = state["evaluated"]
    training.skipped = [tuple(pair) for pair in state.get("skipped", ())]
    if state["world_size"] == world_size():
        mine = Pieces([path / file_name("optimizer", rank())])
        device = training.tally.device
        _set_rng_state({name: mine.read(f"rng|{name}") for name in rng_state(device)}, device)
    return state


def load_parameters(path: Path, model: CausalModel) -> None:
    """Copy a checkpoint's parameters into ``model`` (for LoRA: one that has its adapter already).

    Raises:
        DataError: names or shapes are not those that train in ``model``.
    """
    parameters = _trained(model)
    pieces = Pieces(sorted(path.glob("model-rank*.safetensors")))
    with torch.no_grad():
        for name in sorted(pieces.names):
            parameter = parameters.pop(name, None)
            if parameter is None or tuple(parameter.shape) != pieces.shape(name):
                raise DataError(f"holds {name!r} of shape {pieces.shape(name)}, unlike this model", where=path)
            local(parameter).copy_(pieces.read(name, *rows_here(parameter)))
    if parameters:
        raise DataError(f"lacks {len(parameters)} parameters, the first {next(iter(parameters))!r}", where=path)


def _trained(model: CausalModel) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def check_identity(path: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raise ``UserError`` unless a checkpoint belongs to this data, plan and these hyperparameters."""
    old = state["identity"]
    differing = [name for name in sorted({*old, *identity}) if old.get(name) != identity.get(name)]
    if differing:
        changes = "; ".join(f"{name} was {old.get(name)!r} and is {identity.get(name)!r}" for name in differing)
        raise UserError(
            f"the checkpoint belongs to another training: {changes}",
            where=path,
            remedy="start a new run, or train from the base model again: rewarm resume RUN --from train",
        )


def surroundings(device: torch.device) -> dict[str, Any]:
    """What bit-equality depends on beside the recipe."""
    return {
        "torch_version": torch.__version__,
        "threads": torch.get_num_threads(),
        "world_size": world_size(),
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
    }


def changed_surroundings(state: dict[str, Any], device: torch.device) -> list[str]:
    """What differs now from when the checkpoint was written: equal to the last bit is then not promised."""
    now = surroundings(device)
    return [f"{name} was {state[name]} and is {now[name]}" for name in now if state[name] != now[name]]


def retire(checkpoints: Path, step: int, keep: int, best: int | None, due: Container[int] | None = None) -> list[Path]:
    """Delete what is not among the ``keep`` newest checkpoints up to ``step``; return what was deleted.

    Checkpoints behind ``step`` are left from an attempt that this one does not continue; they are
    deleted too, except that at least ``keep`` stay while there are that many. ``best`` always stays.
    One at a step that is not among those ``due``, of a stop, takes the place of none and goes before the next:
    so what a stopped training can go back to is what an uninterrupted one can.
    """
    every = list_checkpoints(checkpoints)
    mine = [path for path in every if step_of(path) <= step]
    other = [path for path in every if step_of(path) > step]
    regular = [path for path in mine if due is None or step_of(path) in due]
    few = mine[-keep:][-2:] if len(regular) < 2 else []
    kept = {*regular[-keep:], *mine[-1:], *few, *other[: max(0, keep - len(mine))], checkpoints / f"step-{best}"}
    gone = [path for path in every if path not in kept]
    for path in gone:
        remove_folder(path)
    return gone


def missing_bytes(checkpoints: Path, count: int, size: int) -> int:
    """Bytes that the disk lacks for ``count`` checkpoints of ``size`` bytes, those already there included."""
    there = len(list_checkpoints(checkpoints)) * size
    return max(0, count * size - there - free_bytes(checkpoints))


def file_name(kind: str, rank: int) -> str:
    """Of what a rank writes."""
    return f"{kind}-rank{rank:05d}.safetensors"


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators, bytes; nothing else in training draws random numbers."""
    states = {"torch_cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["torch_cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_rng_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["torch_cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["torch_cuda"], device)


def keep_rng(device: torch.device, work: Callable[[], T]) -> T:
    """Do ``work`` and leave torch's generators as they were before it."""
    saved = rng_state(device)
    try:
        return work()
    finally:
        _set_rng_state(saved, device)
