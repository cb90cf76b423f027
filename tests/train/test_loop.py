"""What training promises: equal to the last bit when interrupted anywhere, and not one update on rubbish."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewarm.core.errors import ResourceError, UserError
from rewarm.core.manifest import verify
from rewarm.data.batches import Batches
from rewarm.models.causal import CausalModel, PackedBatch, load_model
from rewarm.train.checkpoint import list_checkpoints, step_of
from rewarm.train.job import Job, Outcome
from rewarm.train.loop import SEGMENTS, fixed_shape, train

from .tiny import KILL_CHANGES, curve, events, make_job, weights

Make = Callable[..., Job]
KILLED = Path(__file__).with_name("killed.py")


@pytest.fixture
def killable() -> Callable[..., Any]:
    """A context that yields ``start(attempt, seconds)``: train in a process, kill it after so long; its wait status."""

    @contextlib.contextmanager
    def context(*arguments: object) -> Iterator[Callable[[int, float], int]]:
        with subprocess.Popen(
            [sys.executable, str(KILLED), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as parent:

            def start(attempt: int, seconds: float) -> int:
                parent.stdin.write(f"{attempt}\n")
                parent.stdin.flush()
                pid = int(parent.stdout.readline())
                time.sleep(seconds)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return int(parent.stdout.readline())

            yield start
            parent.stdin.close()

    return context


def last_metric(folder: Path) -> int:
    return max(map(int, curve(folder)), default=0)


def stop_after(*steps: int) -> Callable[[], bool]:
    """A stop callback that is true once for each of ``steps`` calls (the loop asks once a step)."""
    calls = itertools.count(1)
    return lambda: next(calls) in steps


def in_parts(make: Make, *lengths: int, **changes: Any) -> Outcome:
    """Train in the folder "parts": stopped after each of ``lengths`` steps, then to the end."""
    for attempt, length in enumerate(lengths, 1):
        stopped = train(make("parts", attempt=attempt, stop=stop_after(length), **changes))
        assert (stopped.finished, stopped.reason) == (False, "stopped")
    return train(make("parts", attempt=len(lengths) + 1, **changes))


LORA = {"finetuning_type": "lora", "lora_dropout": 0.3, "learning_rate": 1e-2}


@pytest.mark.parametrize(
    ("lengths", "changes"),
    [
        ((5,), {}),
        ((3, 4), {}),
        ((13,), {}),  # in the second epoch
        ((4, 1, 9), {"logging_steps": 4}),  # in the middle of a logging interval
        ((5,), LORA),
        ((3, 12), {**LORA, "logging_steps": 5}),
        ((5,), {"mixed_precision": "bf16"}),
        ((6,), {"mixed_precision": "fp16"}),
        ((5,), {"disable_gradient_checkpointing": False}),
        ((5,), {"optimizer": "sgd", "lr_scheduler_type": "wsd"}),
    ],
)
def test_resumed_training_equals_the_uninterrupted_one_to_the_last_bit(
    job: Make, lengths: tuple[int, ...], changes: dict[str, Any]
) -> None:
    whole = train(job("whole", **changes))
    parts = in_parts(job, *lengths, **changes)
    assert whole.finished and parts.finished and whole.step == 22
    assert (parts.step, parts.tokens) == (whole.step, whole.tokens)
    for metric in ("train/loss", "train/lr", "train/grad_norm", "train/epoch"):
        assert curve(parts.checkpoint.parents[1], metric) == curve(whole.checkpoint.parents[1], metric)
    assert weights(parts.checkpoint) == weights(whole.checkpoint)


def test_a_seed_of_its_own_gives_another_curve(job: Make) -> None:
    one, two = train(job("one", **LORA)), train(job("two", **LORA, seed=7))
    assert curve(one.checkpoint.parents[1]) != curve(two.checkpoint.parents[1])


@pytest.mark.parametrize("type_", ["full", "lora"])
def test_kill_9_at_any_moment_resumes_to_the_same_curve(
    tmp_path: Path, base: Path, corpus: Path, killable: Callable[..., Any], type_: str
) -> None:
    whole = train(make_job(tmp_path / "whole", base, corpus, finetuning_type=type_, **KILL_CHANGES))
    draw = random.Random(11)
    status, kills = -1, 0
    with killable(tmp_path / "killed", base, corpus, type_) as start:
        for attempt in range(1, 60):
            status = start(attempt, draw.uniform(0.1, 0.5) * (1 + attempt / 10))  # a slow machine gets there too
            kills += status == signal.SIGKILL
            if status == 0:
                break
            verified = [path for path in list_checkpoints(tmp_path / "killed" / "checkpoints") if verify(path)]
            lost = last_metric(tmp_path / "killed") - max([step_of(path) for path in verified], default=0)
            # The next one waits for the one before to stand: never more than two intervals are lost.
            assert lost <= 2 * KILL_CHANGES["checkpoint_steps"]
    assert status == 0 and kills >= 3
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    last = tmp_path / "killed" / "checkpoints" / f"step-{whole.step}"
    assert weights(last) == weights(whole.checkpoint)
    assert not list((tmp_path / "killed" / "checkpoints").glob(".tmp-*"))


def test_evaluation_leaves_no_trace_in_the_training(job: Make) -> None:
    def noisy(model: CausalModel, step: int, tokens: int) -> float:
        assert not model.training
        return float(torch.rand(100).sum())

    plain = train(job("plain", **LORA))
    watched = train(job("watched", **LORA, eval_strategy="steps", eval_steps=3, evaluate=noisy, evaluate_at=[0, 4]))
    assert curve(plain.checkpoint.parents[1]) == curve(watched.checkpoint.parents[1])
    assert weights(plain.checkpoint) == weights(watched.checkpoint)


def test_evaluations_come_when_they_are_due_also_across_a_stop(job: Make) -> None:
    seen: list[tuple[int, int]] = []

    def evaluate(model: CausalModel, step: int, tokens: int) -> None:
        seen.append((step, tokens))

    changes: dict[str, Any] = {"eval_strategy": "epoch", "evaluate": evaluate, "evaluate_at": [0, 5]}
    stopped = train(job("run", stop=stop_after(6), **changes))  # asked once by the evaluation at 0, then by steps
    assert stopped.step == 5 and [step for step, _ in seen] == [0]
    train(job("run", attempt=2, **changes))
    assert [step for step, _ in seen] == [0, 5, 11, 22]
    assert seen[1][1] == stopped.tokens


def test_terminated_is_told_from_stopped(job: Make) -> None:
    outcome = train(job(stop=stop_after(3), stop_reason=lambda: "terminated"))
    assert (outcome.finished, outcome.reason, outcome.step) == (False, "terminated", 3)
    assert outcome.checkpoint.name == "step-3"


def test_a_finished_training_is_not_trained_again(job: Make) -> None:
    first = train(job())
    again = train(job(attempt=2))
    assert again == first and again.finished
    assert len(curve(first.checkpoint.parents[1])) == 22 and len(events(first.checkpoint.parents[1], "metric")) == 22


def test_loss_and_gradient_equal_those_of_each_document_alone(job: Make, base: Path) -> None:
    """The reference: every stretch of a document by itself, through transformers' own attention, loss and autograd."""
    rate = 0.25
    made = job(
        epochs=1,
        batch_size=3,
        gradient_accumulation_steps=20,  # all of it is one update
        optimizer="sgd",
        learning_rate=rate,
        lr_scheduler_type="constant",
        lr_warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=0.0,
    )
    outcome = train(made)
    assert outcome.step == 1

    model = load_model(base, device=torch.device("cpu")).hf
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.set_attn_implementation("eager")
    total, targets = torch.zeros(()), 0
    for row in range(made.plan.total_rows):
        for piece in made.plan.pieces(row):
            document = made.dataset.train(made.plan.names[piece.source]).tokens(piece.document).astype("int64")
            goal = torch.from_numpy(document[piece.begin + 1 : piece.end + 1])
            inputs = torch.from_numpy(document[piece.begin : piece.end])
            logits = model(input_ids=inputs[None], use_cache=False).logits[0, : len(goal)]
            total = total + torch.nn.functional.cross_entropy(logits, goal, reduction="sum")
            targets += len(goal)
    (total / targets).backward()

    (loss,) = (float.fromhex(value) for value in curve(made.folder).values())
    assert loss == pytest.approx(float(total.detach()) / targets, rel=1e-6)
    after = load_file(outcome.checkpoint / "model-rank00000.safetensors")
    for name, parameter in model.named_parameters():
        gradient = (before[name] - after[f"hf.{name}"]) / rate
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-6)


class Poisoned(CausalModel):
    """A model whose loss is not finite in chosen forward passes."""

    bad: tuple[int, ...] = ()
    passes = 0

    def forward(self, batch: PackedBatch, *arguments: Any) -> torch.Tensor:
        Poisoned.passes += 1
        loss = super().forward(batch, *arguments)
        return loss * float("nan") if Poisoned.passes in Poisoned.bad else loss


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``poison(3, 4)`` makes the losses of the third and fourth forward pass NaN."""

    def load(folder: Path, **options: Any) -> CausalModel:
        model = load_model(folder, **options)
        model.__class__ = Poisoned
        return model

    def choose(*passes: int) -> None:
        Poisoned.passes, Poisoned.bad = 0, passes
        monkeypatch.setattr("rewarm.models.lora.load_model", load)

    return choose


def test_an_update_of_a_loss_that_is_not_finite_is_not_made(job: Make, poison: Callable[..., None]) -> None:
    changes = {"gradient_accumulation_steps": 1, "lr_scheduler_type": "constant", "lr_warmup_steps": 0}
    ends = (events(train(job("two", stop=stop_after(2), **changes)).checkpoint.parents[1], "metric"))[1]
    two = weights(train(job("at2", stop=stop_after(2), **changes)).checkpoint)
    poison(3)
    three = train(job("poisoned", stop=stop_after(3), **changes))
    assert weights(three.checkpoint) == two
    metric = events(three.checkpoint.parents[1], "metric")[2]
    assert metric["step"] == 3 and metric["values"]["train/skipped_updates"] == 1
    assert "train/loss" not in metric["values"] and ends["values"]["train/loss"] > 0
    (warning,) = events(three.checkpoint.parents[1], "warning")
    assert warning["last_skipped"] == 3 and "not finite" in warning["message"]
    after = train(job("poisoned", attempt=2, **changes))
    assert after.finished and weights(after.checkpoint) != two


def test_best_checkpoint_is_kept_and_named(job: Make) -> None:
    losses = {4: 3.0, 8: 1.0, 12: 2.0, 16: float("nan"), 20: 2.5, 22: 1.5}
    outcome = train(
        job(
            eval_strategy="steps",
            eval_steps=4,
            checkpoint_strategy="steps",
            checkpoint_steps=4,
            number_of_checkpoints=1,
            save_best_checkpoint=True,
            evaluate=lambda model, step, tokens: losses[step],
        )
    )
    assert outcome.best.name == "step-8" and outcome.checkpoint.name == "step-22"
    assert sorted(path.name for path in outcome.best.parent.iterdir()) == ["step-22", "step-8"]
    written = {event["step"]: event["best"] for event in events(outcome.best.parents[1], "checkpoint")}
    assert written == {4: True, 8: True, 12: False, 16: False, 20: False, 22: False}


def test_checkpoints_of_another_training_are_refused_by_what_differs(job: Make) -> None:
    train(job(stop=stop_after(3)))
    with pytest.raises(
        UserError, match=r"(?s)learning_rate was 0.003 and is 0.001.*rewarm resume RUN --from train"
    ) as caught:
        train(job(attempt=2, learning_rate=1e-3))
    assert "step-3" in str(caught.value)
    assert train(job(attempt=3, learning_rate=1e-3, resume_from_checkpoint="no")).finished


def test_what_does_not_act_on_weights_may_change_at_a_resume(job: Make) -> None:
    train(job(stop=stop_after(3)))
    assert train(job(attempt=2, logging_steps=7, number_of_checkpoints=1, checkpoint_strategy="epoch")).finished


def test_changed_threads_are_warned_of(job: Make) -> None:
    train(job(stop=stop_after(3)))
    outcome = train(job(attempt=2, threads=2, stop=stop_after(1)))
    (warning,) = events(outcome.checkpoint.parents[1], "warning")
    assert "threads was 1 and is 2" in warning["message"] and "last bit" in warning["message"]


def test_resume_from_a_named_checkpoint_repeats_the_same_steps(job: Make) -> None:
    changes = {"checkpoint_strategy": "steps", "checkpoint_steps": 5}
    first = train(job(**changes))
    again = train(job(attempt=2, resume_from_checkpoint="checkpoints/step-10", **changes))
    steps = [event["step"] for event in events(first.checkpoint.parents[1], "metric")]
    assert steps == [*range(1, 23), *range(11, 23)]
    assert weights(again.checkpoint) == weights(first.checkpoint)


def test_metrics_say_what_they_should(job: Make) -> None:
    made = job(logging_steps=5)
    train(made)
    points = events(made.folder, "metric")
    assert [event["step"] for event in points] == [5, 10, 15, 20, 22]
    wanted = {"train/loss", "train/lr", "train/grad_norm", "train/epoch", "perf/tokens_per_second", "perf/data_wait"}
    wanted |= {"train/loss/news", "train/loss/old", "perf/step_seconds"}
    for event in points:
        assert event["values"].keys() == wanted | {"perf/memory_gb"}  # no mfu on a CPU
        assert 0 <= event["values"]["perf/data_wait"] <= 1 and event["values"]["perf/tokens_per_second"] > 0
    assert points[-1]["values"]["train/epoch"] == 2.0
    assert points[-1]["tokens"] == made.plan.total_tokens


def test_logged_loss_is_the_mean_over_the_targets_of_the_interval(job: Make) -> None:
    fine, coarse = job("fine"), job("coarse", logging_steps=4)
    train(fine)
    train(coarse)
    steps = {step: float.fromhex(value) for step, value in curve(fine.folder).items()}
    mean = sum(steps[step] for step in range(1, 5)) / 4
    assert float.fromhex(curve(coarse.folder)[4]) == pytest.approx(mean, rel=0.01)
    assert float.fromhex(curve(coarse.folder)[4]) != mean  # batches differ in targets


def test_the_loss_of_each_source_is_its_share_of_the_whole(job: Make) -> None:
    made = job(logging_steps=100, learning_rate=1e-12)
    train(made)
    ((point,), sums) = events(made.folder, "metric"), {}
    model = load_model(made.base).eval()
    for micro_batch in (one for step in range(22) for one in Batches(made.plan, 2, 2).read(step).micro_batches):
        nll = model.token_nll(PackedBatch.of(micro_batch, "cpu"))
        for source, name in enumerate(made.plan.names):
            mine = nll[torch.from_numpy((micro_batch.sources == source) & (micro_batch.targets >= 0))]
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + float(mine.double().sum()), count + len(mine)
    for name, (total, count) in sums.items():
        assert point["values"][f"train/loss/{name}"] == pytest.approx(total / count, rel=1e-5)
    nats, targets = (sum(column) for column in zip(*sums.values(), strict=True))
    assert point["values"]["train/loss"] == pytest.approx(nats / targets, rel=1e-5)


def test_progress_tells_tokens_done_and_all(job: Make) -> None:
    made = job()
    train(made)
    progress = events(made.folder, "progress")
    assert (progress[0]["done"], progress[-1]["done"]) == (0, made.plan.total_tokens)
    assert {event["unit"] for event in progress} == {"tokens"}
    assert all(event["total"] == made.plan.total_tokens for event in progress)


def test_threads_are_set_while_it_trains(job: Make) -> None:
    seen: list[int] = []
    train(job(threads=2, evaluate=lambda *_: seen.append(torch.get_num_threads()), evaluate_at=[0], stop=stop_after(2)))
    assert seen == [2] and torch.get_num_threads() == 1


def test_compiled_layers_see_shapes_that_stay(job: Make) -> None:
    made = job()
    batches = Batches(made.plan, 2, 2, pad=True)
    for step in range(batches.steps):
        batch = batches.read(step)
        fixed = fixed_shape(batch, 64)
        for one, two in zip(batch.micro_batches, fixed.micro_batches, strict=True):
            assert len(two.cu_seqlens) == SEGMENTS and two.max_seqlen >= max(one.max_seqlen, 64)
            kept = len(one.cu_seqlens)
            assert (two.cu_seqlens[:kept] == one.cu_seqlens).all() and (two.cu_seqlens[kept:] == 128).all()
            assert (two.cu_seqlens.dtype, len(two.input_ids)) == (one.cu_seqlens.dtype, 128)
        assert (fixed.n_targets, fixed.tokens) == (batch.n_targets, batch.tokens)


def test_too_little_memory_is_told_with_what_to_lower(job: Make) -> None:
    with pytest.raises(
        ResourceError, match=r"(?s)cpu's memory is too small.*lower hyperparameters.batch_size"
    ) as caught:
        train(job(evaluate=lambda *_: torch.empty(2**50) and None, evaluate_at=[1]))
    assert caught.value.exit_code == 4
