"""Losses that are not finite, or leap: training skips, rewinds and goes on, and ends where nothing helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewarm.core.errors import UserError
from rewarm.data.batches import Batches
from rewarm.models.causal import CausalModel, PackedBatch, load_model
from rewarm.train.checkpoint import list_checkpoints, read_state
from rewarm.train.guard import in_vain, was_skipped
from rewarm.train.job import Job
from rewarm.train.loop import train

from .test_loop import stop_after
from .tiny import curve, events, weights

Make = Callable[..., Job]
CHANGES: dict[str, Any] = {
    "gradient_accumulation_steps": 1,
    "checkpoint_strategy": "steps",
    "checkpoint_steps": 4,
    "number_of_checkpoints": 3,
    "lr_scheduler_type": "constant",
}


class Poisoned(CausalModel):
    """A model whose loss is multiplied by a factor on the batches of chosen steps, whenever they come."""

    factors: dict[bytes, float] = {}  # noqa: RUF012 - of the class: whoever loads the model does not know it

    def forward(self, batch: PackedBatch, *arguments: Any) -> torch.Tensor:
        return super().forward(batch, *arguments) * Poisoned.factors.get(batch.input_ids.numpy().tobytes(), 1.0)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``poison(job, steps, factor)``: the batches of these steps (from 1) give losses times ``factor``."""

    def load(folder: Path, **options: Any) -> CausalModel:
        model = load_model(folder, **options)
        model.__class__ = Poisoned
        return model

    def choose(job: Job, steps: Iterable[int], factor: float) -> None:
        given = job.hyperparameters
        batches = Batches(job.plan, given.batch_size, given.gradient_accumulation_steps)
        read = [batches.read(step - 1).micro_batches for step in steps]
        Poisoned.factors = {one.input_ids.tobytes(): factor for micro in read for one in micro}
        monkeypatch.setattr("rewarm.models.lora.load_model", load)

    return choose


def parameters(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model-rank00000.safetensors")


def rewinds(folder: Path) -> list[tuple[int, int]]:
    return [(event["to"], event["step"]) for event in events(folder, "warning") if "to" in event]


def test_five_losses_in_a_row_that_are_not_finite_rewind_to_before_them_and_training_goes_on(
    job: Make, poison: Callable[..., None]
) -> None:
    made = job(**CHANGES)
    poison(made, [3, 4, *range(12, 17)], float("nan"))  # two in a row are forgiven
    outcome = train(made)
    assert outcome.finished and rewinds(made.folder) == [(4, 16)]  # 8 is too near: trouble shows late
    assert read_state(outcome.checkpoint)["skipped"] == [[4, 16]]
    losses = curve(made.folder)
    assert len(losses) == outcome.step - 7 and outcome.step == 43
    assert all(torch.isfinite(tensor).all() for tensor in parameters(outcome.checkpoint).values())
    assert outcome.tokens == made.plan.total_tokens


def test_the_weights_after_a_rewind_are_those_of_its_checkpoint(job: Make, poison: Callable[..., None]) -> None:
    sound = train(job("sound", stop=stop_after(4), **CHANGES))
    poison(job(**CHANGES), range(12, 17), float("nan"))
    stopped = train(job("stopped", stop=stop_after(16), **CHANGES))
    assert (stopped.step, stopped.checkpoint.name) == (16, "step-16")
    assert weights(stopped.checkpoint) == weights(sound.checkpoint)


def test_a_training_that_was_resumed_around_a_rewind_equals_the_uninterrupted_one(
    job: Make, poison: Callable[..., None]
) -> None:
    changes = {**CHANGES, "finetuning_type": "lora", "lora_dropout": 0.3, "logging_steps": 5}
    whole = job("whole", **changes)
    poison(whole, range(12, 17), float("nan"))
    end = train(whole)
    for attempt, length in enumerate((14, 4), 1):  # in the row of bad ones, and behind
        train(job("parts", attempt=attempt, stop=stop_after(length), **changes))
    parts = train(job("parts", attempt=3, **changes))
    assert read_state(parts.checkpoint)["skipped"] == [[4, 16]] == read_state(end.checkpoint)["skipped"]
    assert curve(parts.checkpoint.parents[1]) == curve(whole.folder)
    assert weights(parts.checkpoint) == weights(end.checkpoint)


def test_it_ends_with_a_remedy_and_sound_checkpoints_where_rewinding_does_not_help(
    job: Make, poison: Callable[..., None]
) -> None:
    made = job(**CHANGES)
    poison(made, range(12, 44), float("nan"))
    with pytest.raises(UserError, match=r"(?s)5 updates in a row, from step 27 up to step 31.*3 times") as caught:
        train(made)
    assert caught.value.exit_code == 2 and "learning_rate" in str(caught.value.remedy)
    assert [end for _, end in rewinds(made.folder)] == [16, 21, 26]
    for path in list_checkpoints(made.checkpoints):
        assert all(torch.isfinite(tensor).all() for tensor in parameters(path).values())


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(job: Make, poison: Callable[..., None]) -> None:
    made = job(**CHANGES)
    poison(made, range(1, 44), float("inf"))
    with pytest.raises(UserError, match="from step 1 up to step 5, and there is no checkpoint"):
        train(job(**{**CHANGES, "checkpoint_steps": 100}))


def test_a_damaged_checkpoint_is_not_gone_back_to(job: Make, poison: Callable[..., None]) -> None:
    made = job(stop=stop_after(11), **CHANGES)
    poison(made, range(12, 17), float("nan"))
    train(made)
    file = made.checkpoints / "step-4" / "model-rank00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    train(job(attempt=2, **CHANGES))
    assert rewinds(made.folder) == [(8, 16)]


def test_a_leap_ends_the_run_where_that_was_chosen(job: Make, poison: Callable[..., None]) -> None:
    changes = {**CHANGES, "learning_rate": 1e-5, "on_spike": "stop"}
    made = job(**changes)
    poison(made, [40], 30.0)
    with pytest.raises(UserError, match=r"the loss leapt, from step 40 .*guard.on_spike is stop") as caught:
        train(job(**changes))
    assert caught.value.exit_code == 2 and list_checkpoints(made.checkpoints)[-1].name == "step-36"


@pytest.mark.parametrize("choice", ["warn", "skip", "rewind"])
def test_a_leap_of_the_loss_does_what_was_chosen(job: Make, poison: Callable[..., None], choice: str) -> None:
    changes = {**CHANGES, "learning_rate": 1e-5}
    made = job(on_spike=choice, **changes)
    poison(made, [40], 30.0)
    outcome = train(job(stop=stop_after(41), on_spike=choice, **changes))
    (warning,) = events(made.folder, "warning")
    assert "the loss leapt" in warning["message"] and outcome.step == 41
    skipped = {event["step"]: event["values"].get("train/skipped_updates") for event in events(made.folder, "metric")}
    if choice == "rewind":
        assert rewinds(made.folder) == [(32, 40)] and read_state(outcome.checkpoint)["skipped"] == [[32, 40]]
    else:
        assert warning["first_spike"] == 40 and not read_state(outcome.checkpoint)["skipped"]
    assert skipped[40] == (1 if choice == "skip" else None)


def test_rewinds_without_a_checkpoint_in_between_are_in_vain() -> None:
    assert in_vain([(4, 16)]) == 1
    assert in_vain([(4, 16), (16, 21), (4, 26)]) == 3
    assert in_vain([(4, 16), (24, 31)]) == 1
    assert in_vain([(4, 16), (24, 31), (31, 36)]) == 2


def test_the_steps_behind_a_rewind_up_to_it_were_skipped() -> None:
    assert [step for step in range(1, 20) if was_skipped([(4, 6), (12, 13)], step)] == [5, 6, 13]
