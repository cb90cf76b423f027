"""What a run needs, and how long its stages take, in figures that can be worked out by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rewarm.recipe.estimate import (
    Scored,
    Times,
    cost,
    estimate,
    held_out,
    measuring_advice,
    scored,
    scoring_seconds,
    shortages,
    training_seconds,
)
from rewarm.recipe.facts import Machine, ModelFacts
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.memory import Place

MODEL = ModelFacts.of(
    {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 500}
)


def test_what_is_held_out_and_scored() -> None:
    assert held_out(100_000, 10**8, 10**7, 0.001) == Scored(100, 100_000, 10_000)
    assert held_out(1_000, 10**6, 10**5, 0.001).documents == 32  # topped up
    assert held_out(100, 10**6, 10**5, 0.001) == Scored(10, 10**5, 10**4)  # a tenth at most
    assert held_out(70, 700, 70, 1.0) == Scored(70, 700, 70)  # a panel
    assert held_out(0, 0, 0, 0.001) == Scored(0, 0, 0)
    assert scored(Scored(40, 4000, 1000), 1000) == Scored(10, 1000, 250)
    assert scored(Scored(40, 4000, 1000), 10).documents == 1
    assert scored(Scored(40, 4000, 1000), 4000) == Scored(40, 4000, 1000)


def test_scoring_takes_a_third_of_training_a_token() -> None:
    values = Hyperparameters(finetuning_type="full", disable_gradient_checkpointing=True, max_sequence_length=500)
    training = training_seconds(MODEL, values, 10_000, 1e9)
    assert training is not None
    assert scoring_seconds(MODEL, [Scored(20, 40_000, 10_000)], 1e9) == pytest.approx(training / 3)
    long = scoring_seconds(MODEL, [Scored(1, 40_000, 10_240)], 1e9)
    once = MODEL.flops_per_token(2048) / 3 * 10_240 / 1e9
    assert long == pytest.approx(1.8 * once)  # behind the first of five windows, half of each is context
    assert scoring_seconds(MODEL, [Scored(20, 40_000, 10_000)], None) is None


def test_advice_on_the_evaluation() -> None:
    texts = {"law": Scored(40, 1, 1), "news": Scored(9, 1, 1)}
    notes = measuring_advice(texts, Times(None, 40.0, 0.0, 20.0, 40.0), 0.0)
    assert "news 9" in notes[0] and "law" not in notes[0]
    assert notes[1] == "evaluation takes 80 % of this run; lower evaluation.max_bytes_per_source"
    assert measuring_advice({"law": texts["law"]}, Times(0.0, 1.0, 0.0, 20.0, 1.0), 5.0) == []
    assert Times(None, None, None, None, None).total is None


def test_shortages_of_memory_and_disk() -> None:
    small = Machine("test", cores=2, memory=10**9, gpus=())

    def short(values: Hyperparameters, tokens: int, free: int = 10**9, place: Place = Place()) -> str:  # noqa: B008
        needs = estimate(MODEL, values, tokens, place=place)
        return "; ".join(shortages(needs, MODEL, values, small, place, free, Path("/w")))

    values = Hyperparameters(finetuning_type="full", max_sequence_length=128, disable_gradient_checkpointing=True)
    assert short(values, 10_000) == ""
    assert "free in /w" in short(values, 10_000, free=10**3)
    many = values.model_copy(update={"batch_size": 1000, "gradient_accumulation_steps": 2})
    assert short(many, 10_000) == ""  # the text has 79 rows: no batch can have more
    told = short(many, 10**9)
    assert re.search(r"set batch_size: 250, gradient_accumulation_steps: 8 \(about \d+ MB\)", told), told
    assert "disable_gradient_checkpointing: false" in told
    assert "zero_stage: 3" not in told
    assert "larger machine" in short(values, 10_000, place=Place("cpu", 8))  # processes share the memory
    assert "on each device" in short(values, 10_000, place=Place("cpu", 8))


def test_what_a_run_costs() -> None:
    assert cost("2.50 EUR", 7200, 8) == "40.00 EUR"
    assert cost("2", 1800, 1) == "1.00"
    assert cost(None, 1800, 1) is None and cost("2", None, 1) is None
