"""``python -m rewarm.pipeline.trackers KIND RUN``: tells TensorBoard, MLflow or W&B what a run's record says.

A process beside the run that reads ``events.jsonl``, which stays the truth: a tracker that is down, full or
slow costs the run nothing. What the record takes back (a resumed attempt passes steps again) is taken back
there too: the whole is told anew, to a fresh log under the same name. It ends when its standard input does,
which the run holds open as long as it lives.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rewarm.core.events import TRAINING_FROM, read_events
from rewarm.core.run import Run
from rewarm.recipe.pilot import chosen_of, with_pilot

if TYPE_CHECKING:
    from rewarm.pipeline.execution import Execution

POLL_SECONDS = 1.0
END_SECONDS = 30.0
"""How long the end of a run waits until a tracker has been told the rest."""
Points = list[tuple[float, int, str, float]]
"""Time, step, name, value: those of a step together, the steps in order."""
Log = AbstractContextManager[Callable[[Points], None]]
"""What adds points to a log of one run in another program, which is whole when it is left."""


@contextmanager
def tensorboard(run: Run) -> Iterator[Callable[[Points], None]]:
    """Event files in ``tensorboard/`` of the run; read with: tensorboard --logdir RUN/tensorboard."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    shutil.rmtree(folder := run.path / "tensorboard", ignore_errors=True)
    writer = EventFileWriter(str(folder))

    def tell(points: Points) -> None:
        for at, step, name, value in points:
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(wall_time=at, step=step, summary=summary))
        writer.flush()

    yield tell
    writer.close()


@contextmanager
def mlflow(run: Run) -> Iterator[Callable[[Points], None]]:
    """A run at MLFLOW_TRACKING_URI, or in ``mlflow.db`` of the workspace; one that went before is deleted there."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.parents[1]}/mlflow.db")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "rewarm")
    experiment = client.get_experiment_by_name(name)
    place = experiment.experiment_id if experiment else client.create_experiment(name)
    for old in client.search_runs([place], f"tags.`rewarm.run` = '{run.id}'"):
        client.delete_run(old.info.run_id)
    new = client.create_run(place, run_name=run.id, tags={"rewarm.run": run.id}).info.run_id
    for name, value in hyperparameters(run).items():
        client.log_param(new, name, value)

    def tell(points: Points) -> None:
        for begin in range(0, len(points), 1000):  # what a server takes at once
            some = [Metric(name, value, int(1000 * at), step) for at, step, name, value in points[begin:][:1000]]
            client.log_batch(new, metrics=some)

    yield tell
    client.set_terminated(new)


@contextmanager
def wandb(run: Run) -> Iterator[Callable[[Points], None]]:
    """A run of W&B, in the group of the run's id: each attempt is one, the newest is whole."""
    import wandb

    new = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "rewarm"),
        id=f"{run.id}-{secrets.token_hex(2)}",
        name=run.id,
        group=run.id,
        dir=run.path,
        config=hyperparameters(run),
        settings=wandb.Settings(console="off"),
    )

    def tell(points: Points) -> None:
        for step, of_step in groupby(points, key=lambda point: point[1]):
            new.log({name: value for _, _, name, value in of_step}, step=step)

    yield tell
    new.finish()


KINDS: dict[str, Callable[[Run], Log]] = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
"""By the name in a recipe, which is that of the package too."""


def hyperparameters(run: Run) -> dict[str, Any]:
    """The values that the run trains with; none before it has resolved them."""
    with suppress(OSError, orjson.JSONDecodeError, KeyError, AttributeError):
        found = with_pilot(orjson.loads((run.path / "resolved.json").read_bytes()), chosen_of(run))["hyperparameters"]
        return {name: item["value"] for name, item in found.items()}
    return {}


def follow(run: Run, kind: str, waits: Iterator[None]) -> None:
    """Tell a tracker every metric of the run's record, each time that ``waits`` yields."""
    points: dict[tuple[int, str], tuple[float, float]] = {}
    told: set[tuple[int, str]] = set()
    offset, begun = 0, False
    with ExitStack() as log:
        for _ in waits:
            stale = False
            for event, behind in read_events(run.events, offset):
                offset = behind
                if event["kind"] == "result" and event["name"] == TRAINING_FROM:
                    begun = True  # and the hyperparameters, which a tracker is told first, stand
                    for key in [key for key in points if key[0] > event["value"]]:
                        stale |= key in told
                        del points[key]
                elif event["kind"] == "metric":
                    for name, value in event["values"].items():
                        stale |= (event["step"], name) in told
                        points[event["step"], name] = (event["time"], value)
            if stale:
                log.close()
                told.clear()
            if begun and (new := sorted(points.keys() - told)):
                if not told:
                    tell = log.enter_context(KINDS[kind](run))
                tell([(points[key][0], *key, points[key][1]) for key in new])
                told.update(new)


@contextmanager
def telling(x: Execution) -> Iterator[Callable[[], None]]:
    """Have the recipe's trackers told of the run meanwhile; what is yielded notices those that failed, once each."""
    running: dict[str, subprocess.Popen[bytes]] = {
        kind: process for kind in dict.fromkeys(x.recipe.trackers) if (process := _start(x, kind))
    }
    try:
        yield lambda: _notice(x, running)
    finally:
        for process in running.values():
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        until = time.monotonic() + END_SECONDS
        for process in running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            process.kill()  # nothing to one that has ended
            process.wait()
        with suppress(OSError):  # a full disk: log.txt has said it
            _notice(x, running)


def _start(x: Execution, kind: str) -> subprocess.Popen[bytes] | None:
    if importlib.util.find_spec(kind) is None:
        x.warn(f"trackers: {kind} is told nothing, as it is not installed: pip install 'rewarm[{kind}]'")
        return None
    command = [sys.executable, "-m", "rewarm.pipeline.trackers", kind, str(x.run.path)]
    quiet = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | quiet)


def _notice(x: Execution, running: dict[str, subprocess.Popen[bytes]]) -> None:
    for kind in [kind for kind, process in running.items() if process.poll() is not None]:
        if running.pop(kind).returncode:
            x.warn(f"trackers: {kind} was not told everything; log.txt says why, events.jsonl has it all")


def _until_end_of_input() -> Iterator[None]:
    """Once each POLL_SECONDS, and once more after standard input has ended."""
    while not select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
        yield
    yield


def main(kind: str, folder: str) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run hears these, and ends this by its end
    try:
        follow(Run(Path(folder)), kind, _until_end_of_input())
    except Exception as error:  # whatever goes wrong in a tracker is told, and hurts nothing
        sys.stderr.write(f"{kind}: {type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
