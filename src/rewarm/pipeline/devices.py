"""The GPUs that a run works on: as many as its recipe wants, and none that another run works on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from rewarm.core.errors import Stopped
from rewarm.core.slots import hold, visible
from rewarm.pipeline.execution import Execution
from rewarm.recipe.facts import Machine
from rewarm.train.parallel import launched


@contextlib.contextmanager
def own_devices(x: Execution) -> Iterator[None]:
    """Hold the run's GPUs; while too few are free, it is queued and says why. Nothing to hold on a CPU.

    torch then sees these alone, by CUDA_VISIBLE_DEVICES, so it must not have asked for devices before.

    Raises:
        Stopped: if a stop is asked for meanwhile.
    """
    wanted = x.recipe.infrastructure.devices
    gpus = visible(len(Machine.here().gpus)) if wanted != "cpu" and not launched() else []  # torchrun has given it some
    count = wanted if isinstance(wanted, int) else 1
    if len(gpus) < count:
        yield  # nothing to hold; or too few, which the first stage refuses
        return
    said = ""

    def waits(reason: str) -> None:
        nonlocal said
        if said != reason:
            x.log.state("queued", reason=reason)
            said = reason
        if x.stop():
            raise Stopped

    with hold(x.workspace.root / "locks", [f"cuda-{gpu}" for gpu in gpus], count, x.run.id, waits) as held:
        if said:
            x.log.state("running")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(slot.removeprefix("cuda-") for slot in held)
        yield
