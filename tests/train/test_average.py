"""Averages of the weights, against the same averages taken by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rewarm.core.errors import DataError
from rewarm.core.manifest import verify
from rewarm.train.average import HORIZON, write_average, write_running_average
from rewarm.train.checkpoint import expected_bytes, list_checkpoints
from rewarm.train.job import Job
from rewarm.train.loop import begin, build_calendar, train

from .test_guard import parameters
from .test_loop import stop_after
from .tiny import weights

Make = Callable[..., Job]
CHANGES: dict[str, Any] = {"checkpoint_strategy": "steps", "checkpoint_steps": 1, "number_of_checkpoints": 100}


def read(folder: Path) -> dict[str, Tensor]:
    verify(folder)
    return parameters(folder)


@pytest.mark.parametrize(("type_", "optimizer"), [("full", "adamw"), ("lora", "sgd")])
def test_the_running_average_follows_the_weights_step_by_step(job: Make, type_: str, optimizer: str) -> None:
    made = job(running_average=True, finetuning_type=type_, optimizer=optimizer, **CHANGES)
    outcome = train(made)
    found = made.folder / "found"
    write_running_average(outcome.checkpoint, found)
    each = [parameters(path) for path in list_checkpoints(made.checkpoints)]
    assert len(each) == outcome.step == 22
    share = 1 / (HORIZON * outcome.step)
    for name, tensor in read(found).items():
        mean = each[0][name].double()
        for later in each[1:]:
            mean += share * (later[name].double() - mean)
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-7)
        assert not torch.equal(tensor, each[-1][name])
    assert read(found).keys() == each[-1].keys()


def test_the_running_average_survives_a_stop_to_the_last_bit_and_changes_no_weight(job: Make) -> None:
    plain, whole = train(job("plain")), train(job("whole", running_average=True))
    train(job("parts", running_average=True, stop=stop_after(9)))
    parts = train(job("parts", attempt=2, running_average=True))
    assert weights(plain.checkpoint) == weights(whole.checkpoint) == weights(parts.checkpoint)
    for name, outcome in (("whole", whole), ("parts", parts)):
        write_running_average(outcome.checkpoint, outcome.checkpoint.parents[1] / name)
    assert weights(whole.checkpoint.parents[1] / "whole") == weights(parts.checkpoint.parents[1] / "parts")


def test_it_is_reckoned_with_before_the_start(job: Make) -> None:
    made = job(running_average=True)
    calendar = build_calendar(made.hyperparameters, total=22, rows_per_step=4, epoch_ends=[44, 88])
    expected = expected_bytes(begin(made, calendar))
    outcome = train(job("run", attempt=2, running_average=True))
    size = sum(file.stat().st_size for file in outcome.checkpoint.iterdir())
    assert 0 < expected - size < 1 << 20


def test_the_average_of_checkpoints_is_their_mean(job: Make) -> None:
    made = job(**{**CHANGES, "checkpoint_steps": 8})
    train(made)
    there = list_checkpoints(made.checkpoints)
    assert [path.name for path in there] == ["step-8", "step-16", "step-22"]
    found = made.folder / "found"
    write_average(there, found)
    each = [parameters(path) for path in there]
    for name, tensor in read(found).items():
        torch.testing.assert_close(tensor.double(), sum(one[name].double() for one in each) / 3, rtol=1e-6, atol=1e-8)


def test_what_cannot_be_averaged_is_refused(job: Make) -> None:
    full, lora = train(job("full")), train(job("lora", finetuning_type="lora"))
    with pytest.raises(DataError, match="other parameters"):
        write_average([full.checkpoint, lora.checkpoint], full.checkpoint.parents[1] / "found")
    with pytest.raises(DataError, match="no running average"):
        write_running_average(full.checkpoint, full.checkpoint.parents[1] / "found")
