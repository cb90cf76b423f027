"""What combinations mean. The reference JSON gives exactly its twelve notes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from rewarm.core.errors import UserError
from rewarm.recipe.load import parse_recipe
from rewarm.recipe.recipe import Recipe
from rewarm.recipe.verdicts import advice, chat_advice, check_chat, document_end_advice, ignored, refuse

TWELVE = {
    "checkpoint_steps", "eval_steps", "zero_stage", "lora_alpha", "lora_dropout", "lora_rank", "target_modules",
    "dpo_label_smoothing", "pref_beta", "pref_ftx", "pref_loss", "simpo_gamma",
}  # fmt: skip


def parse(text: str, *overrides: str) -> Recipe:
    return parse_recipe(text, overrides, Path("/here"))


def notes(recipe: Recipe) -> dict[str, str]:
    values = recipe.hyperparameters
    found = ignored(values.model_fields_set, values, recipe.infrastructure.world_size)
    return {item.field.removeprefix("hyperparameters."): item.because for item in found}


def test_the_reference_gives_exactly_its_twelve(reference: str) -> None:
    found = notes(parse(reference))
    assert set(found) == TWELVE
    assert found["checkpoint_steps"] == 'checkpoint_strategy is "epoch"'
    assert found["zero_stage"] == 'distributed_backend is "ddp"'
    assert found["lora_rank"] == 'finetuning_type is "full"'
    assert found["pref_loss"] == "the trainer is Pre-training"


def test_the_reference_deserves_its_advice(reference: str) -> None:
    recipe = parse(reference)
    text = "\n".join(advice(recipe, recipe.hyperparameters))
    for words in ("checkpoints are written once an epoch", "no warm-up", "no replay", "no panel"):
        assert words in text


def test_a_decay_that_wipes_the_weights_out_is_refused(minimal: str) -> None:
    with pytest.raises(UserError, match=r"hyperparameters.weight_decay: times the learning_rate"):
        refuse(parse(minimal, "hyperparameters={weight_decay: 1e308, learning_rate: 1e-5}"))
    refuse(parse(minimal, "hyperparameters={weight_decay: 10, learning_rate: 0.01}"))


class Ends(NamedTuple):
    """A tokenizer that ends documents with ``name``."""

    name: str
    added_tokens: list[str]
    eos_id: int | None = 0

    def decode(self, ids: Sequence[int], /) -> str:
        return self.name * (len(ids) - 1)


def test_a_chat_marker_is_no_end_of_a_document(minimal: str) -> None:
    known = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    chat, recipe = Ends("<|im_end|>", known), parse(minimal)
    assert 'set data.document_tokens: {eos: "<|endoftext|>"}' in document_end_advice(recipe, chat)[0]
    assert "eos: null" in document_end_advice(recipe, Ends("<|eot_id|>", ["<|eot_id|>"]))[0]
    for name in ("<|endoftext|>", "</s>", "<|end_of_text|>"):
        assert document_end_advice(recipe, Ends(name, known)) == []
    assert document_end_advice(recipe, Ends("<|im_end|>", known, None)) == []
    assert document_end_advice(parse(minimal, 'data.document_tokens={eos: "<|im_end|>"}'), chat) == []
    assert document_end_advice(parse(minimal, "data.document_tokens={bos: null}"), chat)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["hyperparameters.checkpoint_strategy=no"], TWELVE | {"number_of_checkpoints"}),
        (["hyperparameters.checkpoint_strategy=steps"], TWELVE - {"checkpoint_steps"}),
        (["hyperparameters.eval_strategy=steps"], TWELVE - {"eval_steps"}),
        (["hyperparameters.distributed_backend=deepspeed"], TWELVE | {"distributed_backend"}),
        (["hyperparameters.distributed_backend=deepspeed", "infrastructure.devices=2"], TWELVE - {"zero_stage"}),
        (["hyperparameters.flash_attention_v2=true"], TWELVE | {"flash_attention_v2"}),
        (
            ["hyperparameters.finetuning_type=lora"],
            TWELVE - {"lora_alpha", "lora_dropout", "lora_rank", "target_modules"},
        ),
        (["hyperparameters.merge_adapter=true"], TWELVE | {"merge_adapter"}),
        (
            ["hyperparameters.lr_warmup_steps=5", "hyperparameters.lr_warmup_ratio=0.1"],
            TWELVE | {"lr_warmup_ratio"},
        ),
        (["hyperparameters.lr_warmup_ratio=0.1"], TWELVE),
        (["hyperparameters.full_determinism=true"], TWELVE),  # the seed is used all the same
    ],
)
def test_rules(reference: str, overrides: list[str], expected: set[str]) -> None:
    assert set(notes(parse(reference, *overrides))) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("{quantization_bit: int4, finetuning_type: full}", "quantised bases train adapters only"),
        ("{dpo_label_smoothing: 0.1, pref_loss: hinge}", 'needs pref_loss "sigmoid"'),
        ("{save_best_checkpoint: true, eval_strategy: no}", "save_best_checkpoint"),
        ("{save_best_checkpoint: true, eval_strategy: steps, checkpoint_strategy: epoch}", "to be the same"),
    ],
)
def test_refused(minimal: str, values: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        refuse(parse(minimal + f"hyperparameters: {values}"))


def test_not_refused(minimal: str) -> None:
    refuse(parse(minimal + "hyperparameters: {save_best_checkpoint: true}"))  # both strategies are epoch by default


def test_a_base_that_was_taught_to_chat_is_told_apart(reference: str, tmp_path: Path) -> None:
    plain, probed = parse(reference), parse(reference, "evaluation.general_tasks=[chat]")
    assert chat_advice(plain, tmp_path) == []
    check_chat(plain, tmp_path)
    with pytest.raises(UserError, match="no chat template"):
        check_chat(probed, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    check_chat(probed, tmp_path)
    assert "[chat] measures it" in chat_advice(plain, tmp_path)[0]
    assert "[chat] measures it" not in chat_advice(probed, tmp_path)[0]


def test_a_budget_on_several_computers_is_told_that_there_is_no_pilot(minimal: str) -> None:
    budget = ("evaluation.max_forgetting=1", "data.replay={path: old, share: 0.1}")
    for several, silent in ((("infrastructure.nodes=2",), False), ((), True), (("pilot=false",), True)):
        recipe = parse(minimal, *budget, *several)
        assert ("no pilot" not in "\n".join(advice(recipe, recipe.hyperparameters))) is silent
