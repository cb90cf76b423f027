"""Every hyperparameter does what it says: change the one field, and see its effect on a tiny run; or its note."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewarm.core.errors import UserError
from rewarm.data.batches import Batches
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.verdicts import ignored
from rewarm.train.begin import begin
from rewarm.train.calendar import build_calendar
from rewarm.train.job import Job, Outcome, autocast
from rewarm.train.loop import train, train_step

from .tiny import curve, events, make_job, weights

Make = Callable[..., Job]


class Run:
    """A finished training, and what it left."""

    def __init__(self, job: Job) -> None:
        self.job, self.folder = job, job.folder
        self.outcome: Outcome = train(job)
        assert self.outcome.checkpoint is not None
        self.checkpoint = self.outcome.checkpoint
        self.weights = weights(self.checkpoint)
        self.rates = [float.fromhex(value) for value in curve(self.folder, "train/lr").values()]
        self.losses = [float.fromhex(value) for value in curve(self.folder).values()]

    def tensors(self, what: str) -> dict[str, torch.Tensor]:
        return load_file(self.checkpoint / f"{what}-rank00000.safetensors")

    def kept(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in self.checkpoint.parent.iterdir())

    def logged(self) -> list[int]:
        return [event["step"] for event in events(self.folder, "metric")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, base: Path, corpus: Path) -> Run:
    """22 steps with the defaults of ``tiny``: full, a peak of 3e-3 after two steps of warm-up, linear."""
    return Run(make_job(tmp_path_factory.mktemp("plain") / "run", base, corpus))


def differs(plain: Run, run: Run) -> None:
    assert plain.weights != run.weights


def same(plain: Run, run: Run) -> None:
    assert plain.weights == run.weights


def close(plain: Run, run: Run) -> None:
    """Other rounding, the same training."""
    differs(plain, run)
    assert len(plain.losses) == len(run.losses)
    assert all(abs(x - y) < 0.02 for x, y in zip(plain.losses, run.losses, strict=True))


def micro_batches(rows: int) -> Callable[[Run, Run], None]:
    def check(plain: Run, run: Run) -> None:
        close(plain, run)
        job = run.job
        batch = Batches(job.plan, job.hyperparameters.batch_size, job.hyperparameters.gradient_accumulation_steps).read(
            0
        )
        assert [len(micro.input_ids) for micro in batch.micro_batches] == [64 * rows] * (4 // rows)

    return check


def steps_and_tokens(steps: float, tokens: float) -> Callable[[Run, Run], None]:
    def check(plain: Run, run: Run) -> None:
        assert run.outcome.step / plain.outcome.step == pytest.approx(steps, abs=0.1)
        assert run.outcome.tokens / plain.outcome.tokens == pytest.approx(tokens, rel=0.01)

    return check


def rate(expected: Callable[[int], float]) -> Callable[[Run, Run], None]:
    """The rate of each of the 22 updates, counted from 0, in parts of the peak."""

    def check(plain: Run, run: Run) -> None:
        differs(plain, run)
        peak = run.job.hyperparameters.learning_rate
        assert run.rates == pytest.approx([peak * expected(step) for step in range(22)])

    return check


def warm(step: int, updates: int = 2) -> float:
    return min(1.0, (step + 1) / updates)


def linear(step: int, updates: int = 2) -> float:
    return warm(step, updates) * min(1.0, (22 - step) / (22 - updates))


def cosine(step: int) -> float:
    return warm(step) if step < 2 else 0.5 - 0.5 * math.cos(math.pi * (22 - step) / 20)


def no_moments(plain: Run, run: Run) -> None:
    assert any("exp_avg" in name for name in plain.tensors("optimizer"))
    assert not any("exp_avg" in name for name in run.tensors("optimizer"))


def large_weights(plain: Run, run: Run) -> None:
    """Without decay matrices end larger; what is spared from decay moves only because they do."""
    one, two = plain.tensors("model"), run.tensors("model")
    assert [two[n].norm() > one[n].norm() for n in one if one[n].ndim == 2 and "embed" not in n].count(False) == 0


def small_steps(plain: Run, run: Run) -> None:
    differs(plain, run)
    assert all(float.fromhex(v) > 0.05 for v in curve(run.folder, "train/grad_norm").values())  # logged before clipping


def only_adapters(plain: Run, run: Run) -> None:
    names = run.tensors("model").keys()
    assert names and all("lora" in name for name in names)


def kept(*steps: int) -> Callable[[Run, Run], None]:
    def check(plain: Run, run: Run) -> None:
        same(plain, run)
        assert run.kept() == list(steps)

    return check


def logged(*steps: int) -> Callable[[Run, Run], None]:
    def check(plain: Run, run: Run) -> None:
        same(plain, run)
        assert run.logged() == list(steps)

    return check


EFFECTS: list[tuple[dict[str, Any], Callable[[Run, Run], None]]] = [
    ({"batch_size": 4, "gradient_accumulation_steps": 1}, micro_batches(4)),
    ({"batch_size": 1, "gradient_accumulation_steps": 4}, micro_batches(1)),
    ({"gradient_accumulation_steps": 1}, steps_and_tokens(2, 1)),
    ({"epochs": 4}, steps_and_tokens(2, 2)),
    ({"max_sequence_length": 32}, steps_and_tokens(2, 1)),
    ({"learning_rate": 1e-3}, rate(linear)),
    ({"lr_scheduler_type": "cosine"}, rate(cosine)),
    ({"lr_scheduler_type": "constant"}, rate(warm)),
    ({"lr_scheduler_type": "wsd"}, rate(lambda n: min(warm(n), (22 - n) / 4))),
    ({"lr_warmup_steps": 8}, rate(lambda n: linear(n, 8))),
    ({"lr_warmup_steps": 0, "lr_warmup_ratio": 0.5}, rate(lambda n: linear(n, 11))),
    ({"lr_warmup_ratio": 0.5}, same),  # the steps win
    ({"max_grad_norm": 0.05}, small_steps),
    ({"mixed_precision": "bf16"}, close),
    ({"mixed_precision": "fp16"}, close),
    ({"optimizer": "sgd"}, no_moments),
    ({"seed": 3}, differs),
    ({"weight_decay": 0.0}, large_weights),
    ({"finetuning_type": "lora"}, only_adapters),
    ({"disable_gradient_checkpointing": False}, same),
    ({"full_determinism": True}, same),
    ({"logging_steps": -1}, logged(*range(1, 23))),
    ({"logging_steps": 9}, logged(9, 18, 22)),
    ({"checkpoint_strategy": "no"}, kept(22)),
    ({"checkpoint_strategy": "epoch"}, kept(11, 22)),
    ({"checkpoint_strategy": "steps", "checkpoint_steps": 8}, kept(8, 16, 22)),
    ({"checkpoint_strategy": "steps", "checkpoint_steps": 8, "number_of_checkpoints": 1}, kept(22)),
    ({"checkpoint_strategy": "steps", "checkpoint_steps": 1, "number_of_checkpoints": 3}, kept(20, 21, 22)),
]


@pytest.mark.parametrize(("changes", "effect"), EFFECTS, ids=[str(changes) for changes, _ in EFFECTS])
def test_every_field_has_its_effect(
    job: Make, plain: Run, changes: dict[str, Any], effect: Callable[[Run, Run], None]
) -> None:
    effect(plain, Run(job(**changes)))


LORA_EFFECTS: dict[str, tuple[object, Callable[[dict[str, torch.Tensor]], object], object]] = {
    "lora_rank": (8, lambda t: {min(x.shape) for x in t.values()}, {8}),
    "target_modules": (["q_proj"], lambda t: {n.split(".")[-4] for n in t}, {"q_proj"}),
    "additional_target": (["norms"], lambda t: sum("norm" in name for name in t), 5),
    "lora_alpha": (64, len, 28),
    "lora_dropout": (0.5, len, 28),
    "use_rslora": (True, len, 28),
}
"""Field, value, and what the checkpoint must hold; every one of them must train other weights, too."""


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, base: Path, corpus: Path) -> Run:
    return Run(make_job(tmp_path_factory.mktemp("lora") / "run", base, corpus, finetuning_type="lora", epochs=1))


@pytest.mark.parametrize("field", LORA_EFFECTS)
def test_every_lora_field_has_its_effect(job: Make, adapted: Run, field: str) -> None:
    value, seen, expected = LORA_EFFECTS[field]
    run = Run(job(finetuning_type="lora", epochs=1, **{field: value}))
    differs(adapted, run)
    assert seen(run.tensors("model")) == expected


ELSEWHERE = {
    "eval_steps": "test_evaluations_come_when_the_strategy_says",
    "eval_strategy": "test_evaluations_come_when_the_strategy_says",
    "save_best_checkpoint": "tests/train/test_loop.py: test_best_checkpoint_is_kept_and_named",
    "resume_from_checkpoint": "tests/train/test_loop.py: test_resume_from_a_named_checkpoint_repeats_the_same_steps",
    "merge_adapter": "tests/models/test_export.py",
    "quantization_bit": "tests/models/test_lora.py, on a GPU; tests/recipe/test_resolve.py",
    "distributed_backend": "tests/train/test_parallel.py",
    "zero_stage": "tests/train/test_parallel.py",
}


def test_no_field_is_without_an_effect_or_a_note() -> None:
    acting = {field for changes, _ in EFFECTS for field in changes} | set(LORA_EFFECTS) | set(ELSEWHERE)
    lively = Hyperparameters(  # as much as can acts at once
        finetuning_type="lora",
        checkpoint_strategy="steps",
        eval_strategy="steps",
        flash_attention_v2=True,
        distributed_backend="deepspeed",
    )
    notes = {item.field.split(".")[1] for item in ignored(set(Hyperparameters.model_fields), lively, devices=2)}
    assert acting.isdisjoint(notes) and acting | notes == set(Hyperparameters.model_fields)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"eval_strategy": "no"}, []),
        ({"eval_strategy": "epoch"}, [11, 22]),
        ({"eval_strategy": "steps", "eval_steps": 9}, [9, 18]),
        ({"eval_strategy": "steps", "eval_steps": 0.25}, [6, 12, 18]),
    ],
)
def test_evaluations_come_when_the_strategy_says(job: Make, changes: dict[str, Any], steps: list[int]) -> None:
    seen: list[int] = []
    train(job(evaluate=lambda model, step, tokens: seen.append(step), **changes))
    assert seen == steps


def test_max_grad_norm_zero_is_off(job: Make) -> None:
    same(Run(job("off", max_grad_norm=0.0)), Run(job("huge", max_grad_norm=1e9)))


def test_gradient_checkpointing_computes_the_layers_again(job: Make) -> None:
    calls = []
    for off in (True, False):
        made = job(f"off-{off}", disable_gradient_checkpointing=off)
        training = begin(made, build_calendar(made.hyperparameters, total=1, rows_per_step=1, epoch_ends=[1]))
        entered: list[object] = []

        def enter(module: object, inputs: object, entered: list[object] = entered) -> None:
            entered.append(module)

        training.model.layers()[0].mlp.register_forward_pre_hook(enter)
        batch = Batches(made.plan, 1, 1).read(0)
        train_step(training, batch, 1e-3, 1.0, autocast(made), lambda tokens: None)
        calls.append(len(entered))
    assert calls == [1, 2]


@pytest.mark.parametrize("precision", ["none", "bf16", "fp16"])
def test_products_are_computed_in_the_type_of_mixed_precision(job: Make, precision: str) -> None:
    made = job(mixed_precision=precision)
    training = begin(made, build_calendar(made.hyperparameters, total=1, rows_per_step=1, epoch_ends=[1]))
    types: list[torch.dtype] = []
    training.model.layers()[0].mlp.up_proj.register_forward_hook(lambda m, i, output: types.append(output.dtype))
    train_step(training, Batches(made.plan, 1, 1).read(0), 1e-3, 1.0, autocast(made), lambda tokens: None)
    assert types == [{"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert all(p.dtype == torch.float32 for p in training.model.parameters())


def test_full_determinism_is_on_while_it_trains_and_off_behind_it(job: Make) -> None:
    seen: list[bool] = []
    changes = {"evaluate": lambda *_: seen.append(torch.are_deterministic_algorithms_enabled()), "evaluate_at": [1]}
    train(job("plain", epochs=1, **changes))
    train(job("exact", epochs=1, full_determinism=True, **changes))
    assert seen == [False, True] and not torch.are_deterministic_algorithms_enabled()


def test_resume_from_no_checkpoint_begins_anew(job: Make, plain: Run) -> None:
    train(job(stop=lambda: True))
    again = Run(job(attempt=2, resume_from_checkpoint="no"))
    same(plain, again)
    assert again.logged() == [1, *range(1, 23)]


def test_a_whole_embedding_stays_tied_and_is_resumed(job: Make) -> None:
    changes = {"finetuning_type": "lora", "additional_target": ["embeddings", "norms"], "epochs": 1}
    whole = Run(job("whole", **changes))
    assert sum("embed_tokens" in name or "lm_head" in name for name in whole.tensors("model")) == 1
    train(job("parts", stop=lambda: True, **changes))
    same(whole, Run(job("parts", attempt=2, **changes)))


def test_unknown_target_modules_are_refused_before_a_step(job: Make) -> None:
    with pytest.raises(UserError, match="did you mean 'q_proj'"):
        train(job(finetuning_type="lora", target_modules="q_prj"))
