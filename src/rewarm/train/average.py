"""Averages of the weights: other candidates for publishing, beside the weights that training ends with.

The average of the last checkpoints costs the training nothing. The running (exponential) average follows the
weights; it lies in the optimizer's state under a slot of its own, and so is sharded, saved and loaded with it.
Both are written as folders like a checkpoint's, so that whatever loads the weights of one loads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rewarm.core.errors import DataError
from rewarm.core.manifest import write_manifest
from rewarm.models.pieces import Pieces, write_pieces
from rewarm.train.checkpoint import Training, file_name

SLOT = "average"
HORIZON = 0.1
"""Share of the run that the running average looks back on."""
FOLLOWED = 1000
"""Times in a run that it takes up the weights; more often would cost time and change little."""


@torch.no_grad()
def follow(training: Training, total: int) -> None:
    """Let the running average take up the weights after step ``training.step`` of ``total``.

    It begins as the weights after the first update (the optimizer's own state must be there before); each time
    it goes a small part of the way to those of now.
    """
    every = max(1, total // FOLLOWED)
    if training.step % every:
        return
    share = min(1.0, every / (HORIZON * total))
    for parameter in training.model.parameters():
        if not parameter.requires_grad:
            continue
        state = training.optimizer.state[parameter]
        if SLOT in state:
            state[SLOT].lerp_(parameter, share)
        else:
            state[SLOT] = parameter.detach().clone()


def write_average(checkpoints: Sequence[Path], target: Path) -> None:
    """Write the mean of the weights of ``checkpoints`` into the new folder ``target``.

    Raises:
        DataError: they do not hold the same parameters.
    """
    opened = [Pieces(sorted(path.glob("model-rank*.safetensors"))) for path in checkpoints]
    for path, pieces in zip(checkpoints, opened, strict=True):
        if pieces.names != opened[-1].names:
            raise DataError(f"holds other parameters than {checkpoints[-1].name}", where=path)
    _write(target, {name: _mean([pieces.read(name) for pieces in opened]) for name in sorted(opened[-1].names)})


def write_running_average(checkpoint: Path, target: Path) -> None:
    """Write the running average that ``checkpoint`` holds into the new folder ``target``.

    Raises:
        DataError: it holds none.
    """
    pieces = Pieces(sorted(checkpoint.glob("optimizer-rank*.safetensors")))
    keys = sorted(key for key in pieces.names if key.endswith(f"|{SLOT}"))
    if not keys:
        raise DataError("holds no running average of the weights", where=checkpoint)
    _write(target, {key.removesuffix(f"|{SLOT}"): pieces.read(key) for key in keys})


def _mean(tensors: list[Tensor]) -> Tensor:
    total = tensors[0].double()
    for tensor in tensors[1:]:
        total += tensor
    return (total / len(tensors)).to(tensors[0].dtype)


def _write(target: Path, tensors: dict[str, Tensor]) -> None:
    target.mkdir(parents=True)
    write_pieces(target / file_name("model", 0), tensors, {})
    write_manifest(target, {"kind": "average", "schema": 1})
