"""A run that waits for its GPUs: queued, with the reason, stoppable; and then it sees those alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rewarm.core.errors import Stopped
from rewarm.core.events import EventLog, read_events
from rewarm.core.run import Run, claim
from rewarm.core.slots import hold, visible
from rewarm.core.workspace import Workspace
from rewarm.pipeline import devices
from rewarm.pipeline.devices import own_devices
from rewarm.pipeline.execution import Execution, StopSignal
from rewarm.recipe.facts import Machine
from rewarm.recipe.load import parse_recipe

RECIPE = "name: a\nbase_model: org/model\ndata: {sources: [{name: law, path: law.jsonl}]}\n"


@pytest.fixture
def x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Execution:
    """A run on a machine with two GPUs."""
    machine = Machine("Linux", 2, 1 << 30, (("H100", 1 << 36), ("H100", 1 << 36)))
    monkeypatch.setattr(devices.Machine, "here", lambda: machine)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    run = Run(tmp_path / "runs" / "20260101T000000-a-beef")
    run.path.mkdir(parents=True)
    claim(run)
    log = EventLog(run.events, 1)
    log.state("starting")
    log.state("running")
    return Execution(run, Workspace(tmp_path), parse_recipe(RECIPE, (), tmp_path), log, StopSignal(run))


def states(run: Run) -> list[str]:
    return [event["state"] for event, _ in read_events(run.events) if event["kind"] == "state"]


def test_a_run_takes_one_free_gpu_and_sees_no_other(x: Execution) -> None:
    with hold(x.workspace.root / "locks", ["cuda-4"], 1, "another", lambda reason: None), own_devices(x):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert states(x.run) == ["starting", "running"]


def test_a_run_without_a_free_gpu_is_queued_and_can_be_stopped(x: Execution) -> None:
    slots = ["cuda-4", "cuda-7"]
    with hold(x.workspace.root / "locks", slots, 2, "another-run", lambda reason: None):
        x.run.request_stop()
        with pytest.raises(Stopped), own_devices(x):
            pass
    assert states(x.run) == ["starting", "running", "queued"]
    x.run.stop_file.unlink()
    status = x.run.status()
    assert (status.state, status.reason) == ("queued", "waiting for 1 of 2 GPUs, in use by another-run")


def test_a_run_on_the_cpu_waits_for_nobody(x: Execution) -> None:
    here = parse_recipe(RECIPE, ("infrastructure.devices=cpu",), x.workspace.root)
    x.recipe = here
    with hold(x.workspace.root / "locks", ["cuda-4", "cuda-7"], 2, "another", lambda reason: None), own_devices(x):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"


def test_devices_are_named_as_cuda_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert visible(2) == ["GPU-a", "GPU-b"]
