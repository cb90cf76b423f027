"""Training on several devices: a process each, started here, watched, and started again where one has died.

A rank that dies ends the others at once: what they wait for will never come. Training then goes on from the
newest checkpoint, unless that has happened too often without one more. This process only watches, so that it
can say of each how it ended. Over several computers torchrun starts the ranks, and watches them: the first is the run
itself, and the others wait until it comes to the training. On one device the run's own process trains, and begins
again where it stands still.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import orjson
import torch

from rewarm.core.errors import EXIT_BUG, DataError, ResourceError, Stopped, UserError
from rewarm.pipeline.execution import Execution
from rewarm.recipe.pilot import Arm
from rewarm.train.checkpoint import list_checkpoints, step_of
from rewarm.train.job import Job, Outcome
from rewarm.train.loop import train
from rewarm.train.parallel import call, joined, launched

RESTARTS = 3
"""Without a newer checkpoint in between."""
TRAINING, FRESH = "train", "fresh"
"""The words that call the other ranks to join the first one; where the recipe says where to begin, the second."""
GRACE = 2.0
"""Seconds in which the others may say why they end, once one has."""


def train_on_ranks(
    x: Execution, count: int, checkpoints: Path | None = None, pilot: tuple[Arm, int] | None = None
) -> Outcome:
    """Train on ``count`` devices of this computer, to the end or until a stop is asked for.

    Args:
        checkpoints: where they are written; the run's own folder unless given.
        pilot: the short run that is trained in place of the run itself, and its number.

    Raises:
        UserError: a rank could not go on, for a reason that starting again does not mend; or they died too often.
    """
    checkpoints = checkpoints or x.run.checkpoints
    options = ["--fresh"] * ("prepare" in x.performed)
    options += ["--pilot", *map(repr, pilot[0]), str(pilot[1])] if pilot else []
    newest, failures = _newest(checkpoints), 0
    while True:
        torch.cuda.empty_cache()  # the ranks need what evaluations here have left
        for path in _said(x):
            path.unlink()
        with x.log.lent():
            first, codes = _run(x, count, options)
        if x.log.last_state == "paused":
            x.log.state("running")
        if (outcome := _outcome(x)) and not any(codes):
            return outcome
        if x.stop():
            raise Stopped(x.stop.reason)
        failures = 1 if _newest(checkpoints) > newest else failures + 1
        newest, options = _newest(checkpoints), [option for option in options if option != "--fresh"]
        how = ", ".join(f"rank {rank} {_ended(codes[rank])}" for rank in first)
        if failures > RESTARTS:
            raise ResourceError(
                f"of {count} ranks, {how}; training was started {RESTARTS} times again without a checkpoint more",
                where=x.run.log,
                remedy="see what the log says; where the system has killed it, memory ran out: lower batch_size",
            )
        message = f"of {count} ranks, {how}; training goes on from the newest checkpoint"
        x.warn(message, ranks=first, codes=[codes[rank] for rank in first], restart=failures)


def torchrun(x: Execution) -> str:
    """The command that trains on several computers, given on each."""
    nodes = x.recipe.infrastructure.nodes
    each = x.recipe.infrastructure.world_size // nodes
    where = "--rdzv-backend c10d --rdzv-endpoint FIRST_COMPUTER:29400"
    counts = f"--nnodes {nodes} --nproc-per-node {each} --max-restarts {RESTARTS}"
    return f"torchrun {counts} {where} -m rewarm.pipeline {shlex.quote(str(x.run.path))}"


def train_as_first(x: Execution, build_job: Callable[[torch.device], Job]) -> Outcome:
    """Call the other ranks that torchrun has started to the training, and be the first of them."""
    store = call(FRESH if "prepare" in x.performed else TRAINING)
    x.performed.add("train")  # they end by themselves from here on
    with joined(x.facts["prepare"]["device"], store) as device:
        return train(build_job(device))


def dismiss(x: Execution) -> None:
    """Let the others end that torchrun has started, where no training was left to do."""
    if launched() and "train" not in x.performed:
        call("nothing")


def begin_again(x: Execution, message: str) -> None:
    """Become the same process anew, which goes on from the newest checkpoint; return where that is of no use.

    Whatever holds the loop, in Python or below, is gone with it. Nobody who watches the process sees another one.
    """
    (hangs, before), newest = x.hangs, _newest(x.run.checkpoints)
    hangs = 1 if newest > before else hangs + 1
    if hangs > RESTARTS or x.stop():
        x.log.state("failed", reason=message, exit_code=EXIT_BUG)
        return
    x.warn(f"{message}; training goes on from the newest checkpoint", restart=hangs)
    again = [sys.executable, "-m", "rewarm.pipeline", str(x.run.path), "--hangs", str(hangs), str(newest)]
    os.execv(sys.executable, again)


def _run(x: Execution, count: int, options: list[str]) -> tuple[list[int], list[int]]:
    """Start the ranks and wait for their end; returns the ranks that failed first, and each one's exit code."""
    store = x.run.path / "control" / f"meeting-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "rewarm.pipeline.rank", str(x.run.path), "--store", str(store), *options]
    size = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    ranks = []
    try:
        for rank in range(count):
            environment = {**os.environ, **size, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        first = _watch(x, ranks)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
        store.unlink(missing_ok=True)
    return first, [process.returncode for process in ranks]


def _watch(x: Execution, ranks: list[subprocess.Popen[bytes]]) -> list[int]:
    """Wait until all have ended or one has failed, and pass a wish to stop on; returns those that failed first."""
    told = False
    while None in (codes := [process.poll() for process in ranks]) and not any(codes):
        if not told and x.stop():
            told = True
            for process in ranks:
                process.send_signal(signal.SIGTERM if x.stop.terminated else signal.SIGINT)
        time.sleep(0.05)
    failed = [rank for rank, code in enumerate(codes) if code]
    until = time.monotonic() + GRACE
    while failed and None in (process.poll() for process in ranks) and time.monotonic() < until:
        time.sleep(0.05)
    # Who loses its peer ends with an error of its own: of several, the one that was killed was the first.
    return [rank for rank in failed if (codes[rank] or 0) < 0] or failed


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else "?"
    return f"was killed by signal {-code} ({name})"


def _newest(checkpoints: Path) -> int:
    return max(map(step_of, list_checkpoints(checkpoints)), default=-1)


def _said(x: Execution) -> list[Path]:
    """What ranks have left when they ended by themselves; see ``pipeline.rank``."""
    return sorted((x.run.path / "control").glob("rank-*.json"))


def _outcome(x: Execution) -> Outcome | None:
    """What the ranks that ended say of the training. Raises the ``UserError`` that one of them has left."""
    words = [orjson.loads(path.read_bytes()) for path in _said(x)]
    kinds = {kind.exit_code: kind for kind in (UserError, DataError, ResourceError)}
    for error in (said["error"] for said in words if "error" in said):
        raise kinds[error["code"]](error["what"], where=error["where"], remedy=error["remedy"])
    return next((Outcome.from_json(said["outcome"]) for said in words if "outcome" in said), None)
