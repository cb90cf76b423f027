"""TensorBoard's own reader finds each metric of a record once, whatever the record took back."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewarm.core.events import TRAINING_FROM, EventLog, read_events
from rewarm.core.run import Run
from rewarm.core.workspace import Workspace
from rewarm.pipeline.execution import Execution, StopSignal
from rewarm.pipeline.trackers import telling
from rewarm.recipe.load import parse_recipe

RECIPE = "name: a\nbase_model: org/model\ndata: {sources: [{name: law, path: law.jsonl}]}\ntrackers: [KIND]\n"


@pytest.fixture
def x(tmp_path: Path, request: pytest.FixtureRequest) -> Execution:
    run = Run(tmp_path / "runs" / "20260101T000000-a-beef")
    run.path.mkdir(parents=True)
    recipe = parse_recipe(RECIPE.replace("KIND", getattr(request, "param", "tensorboard")), (), tmp_path)
    return Execution(run, Workspace(tmp_path), recipe, EventLog(run.events, 1), StopSignal(run))


def losses(run: Run) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not (run.path / "tensorboard").is_dir():
        return []
    read = EventAccumulator(str(run.path / "tensorboard"))
    read.Reload()
    if "train/loss" not in read.Tags()["scalars"]:
        return []
    return [(scalar.step, scalar.value) for scalar in read.Scalars("train/loss")]


def wait_for(number: int, run: Run) -> None:
    until = time.monotonic() + 30
    while len(losses(run)) < number and time.monotonic() < until:
        time.sleep(0.2)


def train(log: EventLog, first: int, last: int, minus: float) -> None:
    log.result(TRAINING_FROM, first)
    for step in range(first + 1, last + 1):
        log.metric(step, 10 * step, {"train/loss": step - minus, "train/lr": 1e-5})


def warnings(run: Run) -> list[str]:
    return [event["message"] for event, _ in read_events(run.events) if event["kind"] == "warning"]


def test_tensorboard_is_told_while_the_run_goes_on_and_what_is_taken_back_is_not_doubled(x: Execution) -> None:
    with telling(x) as notice:
        train(x.log, 0, 4, 0.0)
        wait_for(4, x.run)
        assert losses(x.run) == [(1, 1), (2, 2), (3, 3), (4, 4)]
        notice()
        train(x.log, 2, 5, 0.5)  # a rewind within the attempt
    assert losses(x.run) == [(1, 1), (2, 2), (3, 2.5), (4, 3.5), (5, 4.5)]
    with telling(x):  # a second attempt, from a checkpoint of step 3
        train(x.log, 3, 4, 0.25)
    assert losses(x.run) == [(1, 1), (2, 2), (3, 2.5), (4, 3.75)]
    assert warnings(x.run) == []


@pytest.mark.parametrize("x", ["mlflow"], indirect=True)
def test_a_tracker_that_fails_is_one_warning(x: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")  # where it is installed, it fails there
    with telling(x) as notice:
        train(x.log, 0, 2, 0.0)
        notice()
    assert len(warnings(x.run)) == 1
    assert "mlflow" in warnings(x.run)[0]


def test_a_tracker_ends_with_a_run_that_was_killed(x: Execution) -> None:
    train(x.log, 0, 3, 0.0)
    command = [sys.executable, "-m", "rewarm.pipeline.trackers", "tensorboard", str(x.run.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    wait_for(3, x.run)
    process.terminate()  # a signal to the whole group is the run's matter
    train(x.log, 3, 4, 0.0)
    process.stdin.close()  # what the kernel does at the run's death
    assert process.wait(30) == 0
    assert losses(x.run) == [(1, 1), (2, 2), (3, 3), (4, 4)]
