"""Checkpoints: everything that changes as training goes on, as files that are whole or not there.

``step-N/`` holds ``model-rank00000.safetensors`` (the fp32 parameters that train; under LoRA only the
adapter, since the base stays in its own folder), ``optimizer-rank00000.safetensors``, ``state.json``
and ``manifest.json``. It is written beside, checked, and renamed; before use every file must match its
SHA-256, because safetensors loads a flipped byte without a word. There is no pickle anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from rewarm.core.errors import DataError, UserError
from rewarm.core.manifest import to_json, verify, write_manifest
from rewarm.core.storage import free_bytes, remove_folder, staged_folder, sweep
from rewarm.models.causal import CausalModel
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

    def trained(self) -> dict[str, Tensor]:
        """The parameters that train, by name; a tied one once."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}


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
    tensors = 3 if isinstance(training.optimizer, torch.optim.AdamW) else 1
    return MARGIN + tensors * sum(p.numel() * p.element_size() for p in training.trained().values())


def save(
    checkpoints: Path, training: Training, identity: dict[str, Any], *, rank: int = 0, world_size: int = 1
) -> Path:
    """Write ``step-N``; it is there, whole and flushed to disk, when this returns.

    Args:
        identity: what the state belongs to (data, plan, hyperparameters); see ``check_identity``.

    Raises:
        OSError: the disk is full or fails; nothing is left behind, and older checkpoints are untouched.
    """
    path = checkpoints / f"step-{training.step}"
    sweep(checkpoints)
    if path.exists():  # of an attempt that this one does not continue
        remove_folder(path)
    state = {
        "schema": SCHEMA,
        "step": training.step,
        "tokens": training.tokens,
        "loader": {"step": training.step},
        "rng": _rng_state(training.tally.device),
        "tally": training.tally.read(),
        "best": training.best,
        "evaluated": training.evaluated,
        "identity": identity,
        **surroundings(training.tally.device, world_size),
    }
    with staged_folder(path) as folder:
        save_file({k: t.contiguous() for k, t in training.trained().items()}, folder / _file("model", rank))
        save_file(_optimizer_tensors(training), folder / _file("optimizer", rank))
        (folder / "state.json").write_bytes(to_json(state))
        write_manifest(folder, {"kind": "checkpoint", "schema": SCHEMA, "step": training.step})
        verify(folder, hashes=False)
    return path


def read_state(path: Path) -> dict[str, Any]:
    """``state.json`` of a checkpoint."""
    value: dict[str, Any] = orjson.loads((path / "state.json").read_bytes())
    return value


def load(path: Path, training: Training, *, rank: int = 0) -> dict[str, Any]:
    """Put a verified checkpoint into ``training`` and the RNGs; return its ``state.json``.

    Raises:
        DataError: its tensors are not those of this model and optimizer.
    """
    state = read_state(path)
    load_parameters(path, training.model, rank=rank)
    parameters = {name: p for name, p in training.model.named_parameters() if p.requires_grad}
    for key, tensor in _tensors(path / _file("optimizer", rank)):
        name, _, slot = key.rpartition("|")
        if name not in parameters:
            raise DataError(f"holds optimizer state of {name!r}, which this model does not train", where=path)
        training.optimizer.state[parameters[name]][slot] = tensor.to(parameters[name].device)
    training.tally.load(state["tally"])
    training.step, training.tokens = state["step"], state["tokens"]
    training.best = tuple(state["best"]) if state["best"] else None
    training.evaluated = state["evaluated"]
    _set_rng_state(state["rng"], training.tally.device)
    return state


def load_parameters(path: Path, model: CausalModel, *, rank: int = 0) -> None:
    """Copy a checkpoint's parameters into ``model`` (for LoRA: one that has its adapter already).

    Raises:
        DataError: names or shapes are not those that train in ``model``.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    file = path / _file("model", rank)
    with torch.no_grad():
        for name, tensor in _tensors(file):
            parameter = parameters.pop(name, None)
            if parameter is None or parameter.shape != tensor.shape:
                raise DataError(f"holds {name!r} of shape {tuple(tensor.shape)}, unlike this model", where=file)
            parameter.copy_(tensor)
    if parameters:
        raise DataError(f"lacks {len(parameters)} parameters, the first {next(iter(parameters))!r}", where=file)


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


def surroundings(device: torch.device, world_size: int) -> dict[str, Any]:
    """What bit-equality depends on beside the recipe."""
    return {
        "torch_version": torch.__version__,
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
    }


def changed_surroundings(state: dict[str, Any], device: torch.device, world_size: int) -> list[str]:
    """What differs now from when the checkpoint was written: equal to the last bit is then not promised."""
    now = surroundings(device, world_size)
    return [f"{name} was {state[name]} and is {now[name]}" for name in now if state[name] != now[name]]


def retire(checkpoints: Path, step: int, keep: int, best: int | None) -> list[Path]:
    """Delete what is not among the ``keep`` newest checkpoints up to ``step``; return what was deleted.

    Checkpoints behind ``step`` are left from an attempt that this one does not continue; they are
    deleted too, except that at least ``keep`` stay while there are that many. ``best`` always stays.
    """
    every = list_checkpoints(checkpoints)
    mine = [path for path in every if step_of(path) <= step]
    other = [path for path in every if step_of(path) > step]
    kept = {*mine[-keep:], *other[: max(0, keep - len(mine))], checkpoints / f"step-{best}"}
    gone = [path for path in every if path not in kept]
    for path in gone:
        remove_folder(path)
    return gone


def missing_bytes(checkpoints: Path, count: int, size: int) -> int:
    """Bytes that the disk lacks for ``count`` checkpoints of ``size`` bytes, those already there included."""
    there = len(list_checkpoints(checkpoints)) * size
    return max(0, count * size - there - free_bytes(checkpoints))


def _file(what: str, rank: int) -> str:
    return f"{what}-rank{rank:05d}.safetensors"


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a mapping
            yield name, tensors.get_tensor(name)


def _optimizer_tensors(training: Training) -> dict[str, Tensor]:
    """``parameter|slot`` to tensor: exp_avg, exp_avg_sq and step of AdamW; nothing for plain SGD."""
    names: dict[Tensor, str] = {p: name for name, p in training.model.named_parameters()}
    return {
        f"{names[parameter]}|{slot}": tensor.contiguous()
        for parameter, slots in training.optimizer.state.items()
        for slot, tensor in slots.items()
        if isinstance(tensor, Tensor)
    }


def _rng_state(device: torch.device) -> dict[str, str]:
    """State of torch's generators; nothing else in training draws random numbers."""
    states = {"torch_cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["torch_cuda"] = torch.cuda.get_rng_state(device)
    return {name: base64.b64encode(state.numpy().tobytes()).decode() for name, state in states.items()}


def _set_rng_state(saved: dict[str, str], device: torch.device) -> None:
    states = {name: torch.from_numpy(np.frombuffer(base64.b64decode(v), np.uint8).copy()) for name, v in saved.items()}
    torch.set_rng_state(states["torch_cpu"])
    if device.type == "cuda" and "torch_cuda" in states:
        torch.cuda.set_rng_state(states["torch_cuda"], device)


def keep_rng(device: torch.device, work: Callable[[], T]) -> T:
    """Do ``work`` and leave torch's generators as they were before it."""
    saved = _rng_state(device)
    try:
        return work()
    finally:
        _set_rng_state(saved, device)
