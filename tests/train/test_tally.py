"""The running numbers on the device: sums, the loss scale of fp16, and rows of skipped updates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rewarm.train.tally import ENOUGH, FIRST_SCALE, GROWTH_INTERVAL, WINDOW, Tally

CPU = torch.device("cpu")


def add(tally: Tally, step: int, loss: float = 10.0, norm: float = 1.0, targets: int = 5) -> Tensor:
    by_source = torch.tensor([[loss], [targets]], dtype=torch.float64)
    return tally.add(step, torch.tensor(loss, dtype=torch.float64), targets, torch.tensor(norm), by_source)


def test_sums_leave_out_what_was_skipped() -> None:
    tally = Tally(CPU, scaled=False)
    assert not add(tally, 1)
    assert add(tally, 2, loss=math.nan) and add(tally, 3, norm=math.inf) and add(tally, 4, norm=math.nan)
    seen = tally.read()
    assert (seen["loss"], seen["targets"], seen["norm"], seen["updates"]) == (10.0, 5.0, 1.0, 1.0)
    assert (seen["skipped"], seen["last_skipped"], seen["in_row"], seen["row_began"]) == (3.0, 4.0, 3.0, 2.0)
    assert seen["by_source"] == [[10.0], [5.0]]


def test_a_new_interval_forgets_sums_and_keeps_what_the_run_needs() -> None:
    tally = Tally(CPU, scaled=False)
    add(tally, 1)
    add(tally, 2, loss=math.nan)
    tally.reset()
    seen = tally.read()
    assert (seen["loss"], seen["updates"], seen["skipped"], seen["by_source"]) == (0, 0, 0, [[0], [0]])
    assert seen["in_row"] == 1
    add(tally, 3)
    assert tally.read()["in_row"] == 0


def test_an_overflow_halves_the_scale_of_fp16_and_does_not_count_as_hopeless() -> None:
    tally = Tally(CPU, scaled=True)
    for step in range(1, 8):
        assert add(tally, step, norm=math.inf)
    seen = tally.read()
    assert seen["scale"] == FIRST_SCALE / 2**7 and seen["in_row"] == 0 and seen["skipped"] == 7
    for step in range(8, 8 + 20):
        add(tally, step, norm=math.inf)
    assert tally.read()["scale"] == 1 and tally.read()["in_row"] > 5  # no smaller scale can help


def test_a_loss_that_is_not_finite_is_hopeless_at_any_scale() -> None:
    tally = Tally(CPU, scaled=True)
    for step in range(1, 4):
        add(tally, step, loss=math.inf)
    assert tally.read()["in_row"] == 3


def test_the_scale_doubles_after_a_clean_stretch() -> None:
    tally = Tally(CPU, scaled=True)
    tally.load({**tally.read(), "clean": GROWTH_INTERVAL - 2})
    add(tally, 1)
    assert tally.read()["scale"] == FIRST_SCALE
    add(tally, 2)
    assert tally.read()["scale"] == 2 * FIRST_SCALE and tally.read()["clean"] == 0


def test_without_fp16_the_scale_is_one_whatever_happens() -> None:
    tally = Tally(CPU, scaled=False)
    add(tally, 1, norm=math.inf)
    assert tally.read()["scale"] == 1


def test_what_was_read_can_be_loaded_to_the_last_bit() -> None:
    tally, other = Tally(CPU, scaled=True), Tally(CPU, scaled=True)
    for step in range(140):
        add(tally, step, loss=0.1 * step, norm=1 / 3)
    other.load(tally.read())
    assert other.read() == tally.read()
    with pytest.raises(ValueError, match="loss"):
        other.load({**tally.read(), "loss": math.nan})


def wave(step: int) -> float:
    """A loss that goes up and down by a tenth."""
    return 10.0 + math.sin(step)


def test_a_spike_is_what_stands_six_sigma_above_the_last_losses() -> None:
    tally, skipping = Tally(CPU, scaled=False), Tally(CPU, scaled=False, skip_spikes=True)
    for step in range(1, 200):
        assert not add(tally, step, loss=wave(step)) and not add(skipping, step, loss=wave(step))
    assert not add(tally, 200, loss=14.0) and tally.read()["spikes"] == 0  # sigma is 0.7
    assert not add(tally, 201, loss=15.0) and add(skipping, 201, loss=15.0)
    assert not add(tally, 202, loss=1e6) and not add(tally, 203, loss=18.0)
    assert (tally.read()["spikes"], tally.read()["first_spike"]) == (3, 201)  # the giant did not hide the next
    assert tally.read()["updates"] == 203 and skipping.read()["updates"] == 199
    assert skipping.read()["skipped"] == 0 and skipping.read()["in_row"] == 0
    tally.reset()
    assert (tally.read()["spikes"], tally.read()["first_spike"]) == (0, 0)


def test_the_first_losses_are_no_spikes_and_a_new_level_becomes_the_usual_one() -> None:
    tally = Tally(CPU, scaled=False, skip_spikes=True)
    for step in range(1, ENOUGH + 1):
        assert not add(tally, step, loss=10.0 * step)
    for step in range(1, WINDOW + 1):
        add(tally, step, loss=10.0)
    assert not add(tally, 0, loss=10.5)  # a hair above losses that hardly vary
    skipped = [bool(add(tally, step, loss=20.0)) for step in range(WINDOW)]
    assert skipped[0] and not any(skipped[WINDOW // 4 :])


def test_what_is_not_finite_is_no_spike_and_does_not_enter_the_window() -> None:
    tally = Tally(CPU, scaled=False)
    for step in range(1, 100):
        add(tally, step, loss=wave(step))
    before = tally.read()["window"]
    add(tally, 100, loss=math.nan)
    add(tally, 101, loss=math.inf)
    assert tally.read()["window"] == before and tally.read()["spikes"] == 0
