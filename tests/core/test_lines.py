"""Events in words."""

from __future__ import annotations

from typing import Any

import pytest

from rewarm.core.lines import figure, log_line, progress_line, training_line


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "seq": 1, "attempt": 1, "time": 1.0, "stage": "train", "kind": kind, **fields}


METRIC = event(
    "metric", step=12, tokens=500, values={"train/loss": 2.5, "train/lr": 4e-5, "perf/tokens_per_second": 1200.0}
)
PROGRESS = event("progress", done=600, total=2000, unit="tokens", step=12, steps=40, speed=100.0)


def test_a_training_line_has_the_figures_of_one_step() -> None:
    assert training_line(METRIC) == "step 12, loss 2.500, learning rate 4e-05, 1.2 k tokens/s"
    assert training_line(METRIC, PROGRESS) == "step 12 of 40, loss 2.500, 1.2 k tokens/s, 15 s left"
    nothing = event("metric", step=1, tokens=1, values={"train/lr": 0.0, "train/loss": None})
    assert "loss \N{EN DASH}" in training_line(nothing)


def test_a_progress_line_says_how_far_how_fast_how_long() -> None:
    assert progress_line(PROGRESS) == "600 of 2 k tokens (30 %), 100/s, 14 s left"
    assert progress_line(event("progress", done=0, total=1, unit="model", what="load the model")) == "load the model"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("perf/data_wait", 1.1e-06, ("time spent waiting for text", "0.0 %")),
        ("eval/law/bits_per_byte", 1.0321, ("held-out law", "1.032 bits per byte")),
        ("train/loss", None, ("training loss", "\N{EN DASH}")),
        ("own/figure", 0.5, ("own/figure", "0.5")),
    ],
)
def test_figures_have_words_and_units(name: str, value: float | None, said: tuple[str, str]) -> None:
    assert figure(name, value) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (METRIC, "step 12, loss 2.500, learning rate 4e-05, 1.2 k tokens/s"),
        (
            event("metric", step=0, tokens=0, values={"eval/a/bits_per_byte": 2.0}),
            "step 0: held-out a 2.000 bits per byte",
        ),
        (
            event("checkpoint", step=4, path="checkpoints/step-4", bytes=2e6, seconds=0.5),
            "checkpoint checkpoints/step-4, 2 MB in 0.5 s",
        ),
        (
            event("result", name="stage", value={"name": "train", "seconds": 2.0, "skipped": False}),
            "train: done in 2.0 s",
        ),
        (event("result", name="stage", value={"name": "train", "seconds": 0, "skipped": True}), "train: as before"),
        (event("warning", message="low"), "low"),
        (event("state", state="paused", reason="full"), "paused: full"),
        (event("state", state="running"), None),
        (PROGRESS, None),
    ],
)
def test_the_log_says_what_the_terminal_shows(given: dict[str, Any], said: str | None) -> None:
    assert log_line(given) == said
