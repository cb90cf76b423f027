"""Every value has an origin and a reason, and estimates agree with what was measured."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from rewarm.core.errors import UserError
from rewarm.recipe.estimate import checkpoint_bytes, estimate, flops_per_second
from rewarm.recipe.facts import Machine, ModelFacts
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.load import parse_recipe
from rewarm.recipe.memory import memory_bytes
from rewarm.recipe.resolve import Resolved, resolve, training_tokens

LLAMA_1B = {
    "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True,
}  # fmt: skip
LAPTOP = Machine("test", cores=8, memory=16 * 2**30, gpus=())
SERVER = Machine("test", cores=32, memory=256 * 2**30, gpus=(("NVIDIA H100 80GB HBM3", 80 * 2**30),))
OURS = ("additional_target", "use_rslora")
SMALL = ModelFacts.of(
    {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 500}
)


def resolved(text: str, machine: Machine = LAPTOP, model: ModelFacts = SMALL, tokens: int = 1_000_000) -> Resolved:
    return resolve(parse_recipe(text, [], Path("/here")), model, {"law": tokens}, machine)


def test_llama_1b_in_figures() -> None:
    facts = ModelFacts.of(LLAMA_1B)
    assert facts.parameters == pytest.approx(1.236e9, rel=0.001)
    assert facts.flops_per_token(2048) == pytest.approx(7.817e9, rel=0.001)
    assert facts.flops_per_token(8192) == pytest.approx(9.025e9, rel=0.001)
    assert checkpoint_bytes(facts, Hyperparameters(finetuning_type="full")) == pytest.approx(14.8e9, rel=0.01)


def test_what_is_given_stays(reference: str) -> None:
    found = resolved(reference)
    assert all(
        item.origin == "recipe"
        for name, item in found.origins.items()
        if name not in ("merge_adapter", "lr_warmup_ratio", "resume_from_checkpoint", *OURS)
    )
    assert found.hyperparameters.batch_size == 8
    assert len(found.ignored) == 12


def test_machine_facts_never_add_notes(reference: str) -> None:
    assert resolved(reference, LAPTOP).ignored == resolved(reference, SERVER).ignored


def test_every_field_has_an_origin_and_a_reason(minimal: str) -> None:
    found = resolved(minimal)
    assert set(found.origins) == set(Hyperparameters.model_fields)
    assert all(item.reason for item in found.origins.values())
    for name, item in found.origins.items():
        assert getattr(found.hyperparameters, name) == item.value
        assert item.origin in ("recommended", "platform")


def test_recommendations(minimal: str) -> None:
    small = resolved(minimal).hyperparameters
    assert small.finetuning_type == "full"
    assert small.mixed_precision == "none"  # a CPU
    assert small.lr_scheduler_type == "wsd"
    assert small.checkpoint_strategy == "steps"
    big = resolved(minimal, LAPTOP, ModelFacts.of({**LLAMA_1B, "num_hidden_layers": 80})).hyperparameters
    assert big.finetuning_type == "lora"
    assert big.learning_rate == 2e-4
    gpu = resolved(minimal, SERVER, ModelFacts.of(LLAMA_1B), tokens=2_800_000_000).hyperparameters
    assert gpu.mixed_precision == "bf16"
    assert gpu.disable_gradient_checkpointing
    update = gpu.batch_size * gpu.gradient_accumulation_steps * gpu.max_sequence_length
    assert update == pytest.approx(1e6, rel=0.1)


def test_a_short_run_still_has_many_updates(minimal: str) -> None:
    values = resolved(minimal, tokens=100_000).hyperparameters
    assert values.gradient_accumulation_steps == 1
    assert values.logging_steps == 1


def test_checkpoints_of_a_short_run_are_few(minimal: str) -> None:
    text = minimal + "hyperparameters: {max_sequence_length: 500, batch_size: 1, gradient_accumulation_steps: 1}"
    assert resolved(text, tokens=18_000).hyperparameters.checkpoint_steps == 10  # of 36 steps
    assert resolved(text, tokens=100_500).hyperparameters.checkpoint_steps == 11  # of 201: rounded up
    assert "twentieth" not in resolved(text, tokens=18_000).origins["checkpoint_steps"].reason


def test_training_tokens() -> None:
    text = (
        "name: a\nbase_model: o/m\ndata:\n  sources: [{name: x, path: x, weight: 2}, {name: y, path: y}]\n"
        "  replay: {path: r, share: 0.25}\n"
    )
    recipe = parse_recipe(text, [], Path("/here"))
    assert training_tokens(recipe, {"x": 100, "y": 100, "replay": 9}, epochs=3) == 1200


def test_the_reference_run_in_figures(reference: str) -> None:
    recipe = parse_recipe(reference, [], Path("/here"))
    tokens = training_tokens(recipe, {"law": 2_800_000_000}, 2)
    needs = estimate(ModelFacts.of(LLAMA_1B), recipe.hyperparameters, tokens, flops_per_second(SERVER, "cuda"))
    assert needs.steps == pytest.approx(2670 * 8, rel=0.01)  # one device, not eight
    assert needs.seconds is not None and 20e3 < needs.seconds < 5e6


def test_save_best_keeps_the_strategies_equal(minimal: str) -> None:
    values = resolved(minimal + "hyperparameters: {save_best_checkpoint: true}").hyperparameters
    assert values.checkpoint_strategy == values.eval_strategy


def test_no_cuda_device(minimal: str) -> None:
    with pytest.raises(UserError, match="no CUDA device"):
        resolved(minimal + "infrastructure: {devices: cuda}")


def test_longer_than_the_model_can_look_back(minimal: str) -> None:
    short = replace(SMALL, positions=512)
    assert resolved(minimal, model=short).hyperparameters.max_sequence_length == 512
    with pytest.raises(UserError, match="more than the 512"):
        resolved(minimal + "hyperparameters: {max_sequence_length: 1024}", model=short)


def test_the_best_is_chosen_among_evaluated_checkpoints(minimal: str) -> None:
    text = minimal + "hyperparameters: {save_best_checkpoint: true, eval_strategy: steps, checkpoint_strategy: steps}"
    values = resolved(text).hyperparameters
    assert values.eval_steps == values.checkpoint_steps


def test_automatic_batch_keeps_the_sequences_of_an_update(minimal: str) -> None:
    given = "{batch_size: auto, gradient_accumulation_steps: 96, finetuning_type: full, max_sequence_length: 2048}"
    text = minimal + f"hyperparameters: {given}"
    facts = ModelFacts.of(LLAMA_1B)
    found = resolved(text, SERVER, facts, tokens=2_800_000_000)
    values = found.hyperparameters
    assert values.batch_size > 1 and values.batch_size * values.gradient_accumulation_steps == 96
    assert memory_bytes(facts, values, found.place) <= 0.85 * 80 * 2**30
    larger = next(n for n in range(values.batch_size + 1, 97) if 96 % n == 0)
    more = values.model_copy(update={"batch_size": larger, "gradient_accumulation_steps": 96 // larger})
    assert memory_bytes(facts, more, found.place) > 0.85 * 80 * 2**30
    assert "the most of the 96 sequences" in found.origins["batch_size"].reason
    assert "auto keeps" in found.origins["gradient_accumulation_steps"].reason
    assert resolved(text, LAPTOP, facts, tokens=2_800_000_000).hyperparameters.batch_size < values.batch_size
    assert resolved(text, SERVER, facts, tokens=8_000).hyperparameters.batch_size <= 4  # all rows that there are
    recipe = parse_recipe(text, [], Path("/here"))
    assert recipe.model_dump(mode="json")["hyperparameters"]["batch_size"] == "auto"


def test_quantised_bases_need_cuda_and_bitsandbytes(minimal: str) -> None:
    text = minimal + "hyperparameters: {quantization_bit: int4}"
    with pytest.raises(UserError, match="needs a CUDA device"):
        resolved(text)
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(UserError, match="rewarm\\[quantized\\]"):
            resolved(text, SERVER)
    else:
        assert resolved(text, SERVER).hyperparameters.finetuning_type == "lora"
    facts, values = ModelFacts.of(LLAMA_1B), Hyperparameters(finetuning_type="lora")
    kinds = ("none", "int8", "int4")
    small = [memory_bytes(facts, values.model_copy(update={"quantization_bit": kind})) for kind in kinds]
    assert small[0] - small[1] == pytest.approx(3 * 0.973e9, rel=0.01) and small[2] < small[1]


def test_devices_share_memory_and_work(minimal: str) -> None:
    eight = Machine("test", cores=32, memory=256 * 2**30, gpus=SERVER.gpus * 8)
    text = minimal + "infrastructure: {devices: 8}\nhyperparameters: {finetuning_type: full}"
    found = resolved(text, eight, ModelFacts.of(LLAMA_1B), tokens=2_800_000_000)
    values = found.hyperparameters
    update = 8 * values.batch_size * values.gradient_accumulation_steps * values.max_sequence_length
    assert update == pytest.approx(1e6, rel=0.1)
    need = {
        stage: memory_bytes(
            ModelFacts.of(LLAMA_1B),
            values.model_copy(update={"distributed_backend": "deepspeed", "zero_stage": stage}),
            found.place,
        )
        for stage in (1, 2, 3)
    }
    assert need[3] < need[2] == need[1] < memory_bytes(ModelFacts.of(LLAMA_1B), values, found.place)
    with pytest.raises(UserError, match="8 are wanted, 1 are here"):
        resolved(text, SERVER)


def test_the_best_of_checkpoints_that_no_evaluation_meets_is_told_of(minimal: str) -> None:
    def told(eval_steps: float, checkpoint_steps: int) -> bool:
        fields = f"eval_steps: {eval_steps}, checkpoint_steps: {checkpoint_steps}, eval_strategy: steps"
        size = "batch_size: 1, gradient_accumulation_steps: 1, max_sequence_length: 1000"
        text = f"{minimal}hyperparameters: {{save_best_checkpoint: true, checkpoint_strategy: steps, {fields}, {size}}}"
        return any("nothing to choose from" in note for note in resolved(text, tokens=100_000).advice)  # 100 steps

    assert told(7, 15) and told(0.33, 10)
    assert not told(10, 20) and not told(0.25, 10) and not told(7, 14)


def test_an_average_wants_checkpoints_to_average(minimal: str) -> None:
    wanted = minimal + "evaluation: {publish: average}\n"
    assert resolved(minimal).hyperparameters.number_of_checkpoints == 2
    found = resolved(wanted)
    assert found.hyperparameters.number_of_checkpoints == 5
    assert not any("average" in note for note in found.advice)
    few = resolved(wanted + "hyperparameters: {number_of_checkpoints: 1}\n")
    assert any("number_of_checkpoints to 3 or more" in note for note in few.advice)
