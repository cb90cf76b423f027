"""How a checkpoint comes to stand on disk while training goes on.

It is copied in memory, which is all that a step waits for, and written by a thread: each rank its own files
into one folder beside; when all have, rank 0 adds state and manifest and renames it. One is written at a time. Where
that fails for want of space, training pauses until there is some.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil
import torch
from torch import Tensor

from rewarm.core.manifest import to_json, verify, write_manifest
from rewarm.core.storage import (
    TEMPORARY,
    is_disk_full,
    remove_folder,
    sha256_file,
    sweep,
    sync,
    sync_folder,
    write_file,
)
from rewarm.models.pieces import write_pieces
from rewarm.models.ranks import any_rank, first_says, rank, world_size
from rewarm.train.checkpoint import SCHEMA, Training, expected_bytes, file_name, retire, rng_state, surroundings
from rewarm.train.parallel import local, rows_here, writers

Tensors = dict[str, Tensor]


@dataclass
class Staged:
    """A checkpoint in memory: all of it that this rank writes."""

    path: Path
    state: dict[str, Any]
    files: dict[str, Tensors]
    first_rows: dict[str, int]
    began: float = field(default_factory=time.monotonic)

    @property
    def beside(self) -> Path:
        return self.path.with_name(f"{TEMPORARY}{self.path.name}")


def stage(checkpoints: Path, training: Training, identity: dict[str, Any], *, copy: bool = True) -> Staged:
    """The checkpoint of this moment; without ``copy`` it holds the training's own tensors.

    Args:
        identity: what the state belongs to (data, plan, hyperparameters); see ``check_identity``.
    """
    device = training.tally.device
    model: Tensors = {}
    optimizer: Tensors = {f"rng|{name}": state for name, state in rng_state(device).items()}
    first_rows: dict[str, int] = {}
    trained = training.trained()
    known = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    if not known.issuperset(map(id, trained.values())):
        raise RuntimeError("the model's parameters are not those that the optimizer trains")
    for name, parameter in writers(trained).items():
        here = local(parameter.detach())
        if not here.numel():
            continue
        model[name], first = here, rows_here(parameter)[0]
        slots = {f"{name}|{slot}": local(t) for slot, t in training.optimizer.state.get(parameter, {}).items()}
        optimizer |= slots
        first_rows |= {key: first for key, t in ({name: here} | slots).items() if t.ndim}
    state = {
        "schema": SCHEMA,
        "step": training.step,
        "tokens": training.tokens,
        "loader": {"step": training.step},
        "tally": training.tally.read(),
        "best": training.best,
        "evaluated": training.evaluated,
        "skipped": training.skipped,
        "identity": identity,
        **surroundings(device),
    }
    files = {"model": model, "optimizer": optimizer}
    if copy:
        files = {kind: {name: _copy(tensor) for name, tensor in tensors.items()} for kind, tensors in files.items()}
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return Staged(checkpoints / f"step-{training.step}", state, files, first_rows)


def _copy(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def make_room(staged: Staged) -> None:
    """An empty folder beside, and none under the checkpoint's own name: rank 0 does this before any rank writes."""
    sweep(staged.path.parent)
    if staged.path.exists():  # of an attempt that this one does not continue
        remove_folder(staged.path)
    staged.beside.mkdir(parents=True)


def write_files(staged: Staged) -> None:
    """Write this rank's files, and a note of their size and hash."""
    entries = {}
    for kind, tensors in staged.files.items():
        path = staged.beside / file_name(kind, rank())
        write_pieces(path, {name: tensor.contiguous() for name, tensor in tensors.items()}, staged.first_rows)
        sync(path)
        entries[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_file(_note(staged, rank()), to_json(entries))


def finish(staged: Staged) -> Path:
    """Give the checkpoint its name, once every rank has written its files; rank 0 does this."""
    entries: dict[str, Any] = {}
    for number in range(world_size()):
        entries |= orjson.loads(_note(staged, number).read_bytes())
        _note(staged, number).unlink()
    (staged.beside / "state.json").write_bytes(to_json(staged.state))
    write_manifest(staged.beside, {"kind": "checkpoint", "schema": SCHEMA, "step": staged.state["step"]}, entries)
    verify(staged.beside, hashes=False)
    sync_folder(staged.beside)
    staged.beside.rename(staged.path)
    sync(staged.path.parent)
    return staged.path


def _write(staged: Staged) -> None:
    write_files(staged)
    if world_size() == 1:
        finish(staged)


def _note(staged: Staged, number: int) -> Path:
    return staged.beside / f"written-{number:05d}.json"


class Saver:
    """Writes the checkpoints of one training. All ranks call the same methods at the same steps.

    Args:
        aside: the context in which training stands still.
        with_space: does work, and where the disk is full waits and does it again; see ``Job.with_space``.
        written: is told, on rank 0, of each checkpoint that stands: its path and state, seconds, seconds stalled.
        keep: how many checkpoints stay during the run, and at its end; and whether the best one does.
        due: the steps at which they are written without being asked for; see ``retire``.
    """

    def __init__(
        self,
        checkpoints: Path,
        training: Training,
        identity: dict[str, Any],
        *,
        aside: Callable[[], contextlib.AbstractContextManager[None]],
        with_space: Callable[..., Any],
        written: Callable[[Path, dict[str, Any], float, float], None],
        keep: tuple[int, int, bool],
        due: Collection[int],
    ) -> None:
        self.checkpoints, self.training, self.identity = checkpoints, training, identity
        self._aside, self._with_space, self._written, self._keep, self._due = aside, with_space, written, keep, due
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rewarm-checkpoint")
        self._work: Future[None] | None = None
        self._staged: Staged | None = None
        self._last, self._stalled = False, 0.0

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written just now."""
        return self._work is not None and not self._work.done()

    @property
    def pending(self) -> bool:
        """Whether one was begun that has no name yet; the same on all ranks."""
        return self._staged is not None

    def begin(self, *, last: bool, wait: bool) -> bool:
        """Begin the checkpoint of this moment, once the one before stands; see the ``last``, or with ``wait``, through.

        Returns:
            False where a stop was asked for while it waited for space, and it was not written.
        """
        with self._aside():
            return self._settle() and self._begin(last, wait or last)

    def settle(self) -> bool:
        """See the checkpoint that was begun, if any, through; False where a stop came before there was space."""
        with self._aside():
            return self._settle()

    def _begin(self, last: bool, wait: bool) -> bool:
        began, needed = time.monotonic(), expected_bytes(self.training)
        copy = not wait and self._fits(needed)

        def start() -> None:
            self._staged = stage(self.checkpoints, self.training, self.identity, copy=copy)
            self._work = None
            self._all(self._prepare)
            self._work = self._pool.submit(_write, self._staged)

        if not self._together(start, needed):
            self._staged = None
            return False
        self._last = last
        self._stalled = time.monotonic() - began
        return self._settle() if wait or not copy else True

    def _settle(self) -> bool:
        staged, began = self._staged, time.monotonic()
        if staged is None:
            return True

        def complete() -> None:
            if self._work is None:  # again, after there was no space
                self._all(self._prepare)
                self._work = self._pool.submit(_write, staged)
            try:
                self._all(self._work.result)
            finally:
                self._work = None
            if world_size() > 1:
                self._all(lambda: finish(staged) if rank() == 0 else None)

        done = self._together(complete)
        self._staged = None
        if done and rank() == 0:
            now = time.monotonic()
            self._written(staged.path, staged.state, now - staged.began, self._stalled + now - began)
            during, at_end, best = self._keep
            step = staged.state["best"][0] if best and staged.state["best"] else None
            due = {*self._due, *(end for _, end in staged.state["skipped"])}
            retire(self.checkpoints, staged.state["step"], at_end if self._last else during, step, due)
        return done

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _prepare(self) -> None:
        if rank() == 0 and self._staged is not None:
            make_room(self._staged)

    def _fits(self, needed: int) -> bool:
        """Whether memory has room for a copy: else it is written while training waits."""
        return not any_rank(psutil.virtual_memory().available < 2 * needed // world_size())

    def _all(self, work: Callable[[], object]) -> None:
        """Do ``work`` on every rank; where the disk is full for one, it is for all."""
        full: BaseException | None = None
        try:
            work()
        except Exception as error:
            if not is_disk_full(error):
                raise
            full = error
        if any_rank(full is not None):
            if rank() == 0:
                sweep(self.checkpoints)
            raise full or OSError(28, "No space left on device", str(self.checkpoints))

    def _together(self, work: Callable[[], None], needed: int = 0) -> bool:
        """``work`` on all ranks, again and again while the disk is full; rank 0 waits for it and says when to try."""

        def attempt() -> bool:
            first_says(1)
            work()
            return True

        if rank() == 0:
            done = self._with_space("a checkpoint", attempt, needed)
            if not done:
                first_says(0)
            return bool(done)
        while first_says(0):
            try:
                work()
                return True
            except Exception as error:
                if not is_disk_full(error):
                    raise
        return False
