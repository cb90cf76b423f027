"""YAML as people write it, and errors that name the line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.core.errors import UserError
from rewarm.core.manifest import to_json
from rewarm.core.run import create_run
from rewarm.core.storage import write_file
from rewarm.core.workspace import Workspace
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.load import load_recipe, parse_recipe, recipe_of
from rewarm.recipe.recipe import Recipe
from rewarm.recipe.shift import own_replay


def parse(text: str, *overrides: str) -> Recipe:
    return parse_recipe(text, overrides, Path("/here"))


def refused(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, *overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_and_paths(minimal: str) -> None:
    recipe = parse(minimal)
    assert recipe.data.sources[0].path == "/here/law.jsonl"
    assert recipe.data.held_out == 0.001
    assert recipe.hyperparameters.model_fields_set == set()
    assert recipe.base_model == "org/model"


def test_a_base_folder_is_seen_from_the_recipe(minimal: str) -> None:
    assert parse(minimal, "base_model=./model").base_model == "/here/model"
    assert parse(minimal, "base_model=/abs/model").base_model == "/abs/model"
    assert parse(minimal, "base_model=name@3").base_model == "name@3"


def test_words_of_yaml_1_1_are_not_booleans(minimal: str) -> None:
    recipe = parse(minimal + "hyperparameters: {checkpoint_strategy: no, learning_rate: 1e-5, eval_strategy: no}")
    assert recipe.hyperparameters.checkpoint_strategy == "no"
    assert recipe.hyperparameters.learning_rate == 1e-5


def test_the_reference_json_works_unchanged(reference: str) -> None:
    values = parse(reference).hyperparameters
    assert len(values.model_fields_set) == 35
    assert (values.batch_size, values.epochs, values.learning_rate) == (8, 2, 4e-5)
    assert values.max_grad_norm == 1


def test_overrides(minimal: str) -> None:
    recipe = parse(
        minimal,
        "hyperparameters.learning_rate=1e-5",
        "data.sources[0].weight=2",
        "data.sources.0.name=code",
        "evaluation.tasks=[a, b]",
        "data.replay={path: old, share: 0.1}",
    )
    assert recipe.hyperparameters.learning_rate == 1e-5
    assert (recipe.data.sources[0].weight, recipe.data.sources[0].name) == (2, "code")
    assert recipe.evaluation.tasks == ["a", "b"]
    assert recipe.data.replay is not None and recipe.data.replay.share == 0.1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hyperparameters.learning_rte=1", "override hyperparameters.learning_rte"),
        ("nonsense", "is not key=value"),
        ("=3", "is not key=value"),
        ("data.x=[a", "override data.x:1: not YAML"),
        ("data.x=*q", "override data.x"),
        ("data.sources[7].weight=2", "there is no 7 in the recipe"),
        ("hyperparameters.epochs=two", "override hyperparameters.epochs"),
        ("name.deeper=1", "there is no 'deeper'"),
    ],
)
def test_bad_overrides(minimal: str, override: str, words: str) -> None:
    assert words in refused(minimal, override)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "recipe.yaml:1: not YAML"),
        ("", "base_model: missing"),
        ("- a", "a recipe is a mapping"),
        ("name: a\nname: b", "recipe.yaml:2: name: given twice, first in line 1"),
        ("a: &x [*x]", "nested too deeply"),
        ("a: &x {b: *x}", "nested too deeply"),
        ("name: !!python/object/apply:os.system [x]", "name: input should be a valid string"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_bad_yaml(text: str, words: str) -> None:
    assert words in refused(text)


def test_errors_name_the_line(minimal: str) -> None:
    text = refused(minimal + "hyperparameters:\n  learning_rate: 1e-5\n  epochs: 0\n  lora_rnk: 3\n")
    assert "recipe.yaml:8: hyperparameters.epochs: input should be greater than or equal to 1, got 0" in text
    assert "recipe.yaml:9: hyperparameters.lora_rnk: unknown key; did you mean 'lora_rank'?" in text


def test_trainers_to_come(minimal: str) -> None:
    assert "not available in this version" in refused(minimal + "trainer: sft")
    assert parse(minimal + "trainer: Pre-training").trainer == "pretraining"


def test_names_are_used_once(minimal: str) -> None:
    assert "twice: law" in refused(minimal, "data.replay={name: law, path: x}")
    assert "must start with a letter" in refused(minimal, "name=../x")


def test_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff")
    with pytest.raises(UserError, match="is not UTF-8"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(UserError, match="is the limit"):
        load_recipe(tmp_path / "big.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path, tmp_path / "pipe.yaml", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(UserError, match="cannot be read: it is no file"):
            load_recipe(path)


# Each field of the platform, with values that it must refuse: a wrong type, out of range, NaN, infinite.
_WRONG: dict[str, list[str]] = {
    name: ["[1]", "{a: 1}", "null", ".nan", ".inf", '""', "-7", "1e308"] for name in Hyperparameters.model_fields
}
_ACCEPTED = {
    ("target_modules", "[1]"): False,
    ("target_modules", '""'): True,
    ("weight_decay", "1e308"): True,
    ("max_grad_norm", "1e308"): True,
    ("simpo_gamma", "1e308"): True,
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in _WRONG.items() for v in values])
def test_every_hyperparameter_refuses_what_it_cannot_mean(minimal: str, field: str, value: str) -> None:
    text = minimal + f"hyperparameters:\n  {field}: {value}\n"
    if _ACCEPTED.get((field, value)):
        parse(text)
    else:
        assert f"recipe.yaml:7: hyperparameters.{field}" in refused(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", "0"), ("batch_size", "1.5"), ("batch_size", '"8"'), ("epochs", "0"), ("epochs", "true"),
        ("learning_rate", "0"), ("learning_rate", "1"), ("learning_rate", '"1e-5"'), ("zero_stage", "4"),
        ("zero_stage", "true"),
        ("lr_warmup_ratio", "1"), ("lora_dropout", "1.1"), ("dpo_label_smoothing", "0.6"), ("pref_beta", "1.1"),
        ("pref_ftx", "10.5"), ("simpo_gamma", "0"), ("logging_steps", "0"), ("logging_steps", "-2"),
        ("eval_steps", "0"), ("eval_steps", "1.5"), ("seed", "9223372036854775808"), ("lora_rank", "0"),
        ("mixed_precision", "fp8"), ("optimizer", "lion"), ("checkpoint_strategy", "best"), ("pref_loss", "dpo"),
        ("finetuning_type", "freeze"), ("lr_scheduler_type", "polynomial"), ("quantization_bit", "4"),
        ("flash_attention_v2", "1"), ("resume_from_checkpoint", "/etc"), ("resume_from_checkpoint", "a/../../b"),
        ("number_of_checkpoints", "0"), ("gradient_accumulation_steps", "0"), ("max_sequence_length", "0"),
    ],
)  # fmt: skip
def test_ranges(minimal: str, field: str, value: str) -> None:
    assert f"hyperparameters.{field}" in refused(minimal + f"hyperparameters: {{{field}: {value}}}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logging_steps", "-1"), ("eval_steps", "0.1"), ("lr_scheduler_type", "wsd"), ("quantization_bit", "int4"),
        ("quantization_bit", "int8"), ("flash_attention_v2", "true"), ("save_best_checkpoint", "true"),
        ("deepspeed_zero_stage", "3"), ("target_modules", "linear"), ("target_modules", "[q_proj, v_proj]"),
        ("resume_from_checkpoint", "checkpoints/step-10"), ("resume_from_checkpoint", "no"), ("max_grad_norm", "0"),
    ],
)  # fmt: skip
def test_allowed(minimal: str, field: str, value: str) -> None:
    parse(minimal + f"hyperparameters: {{{field}: {value}}}")


def test_zero_stage_and_its_alias(minimal: str) -> None:
    assert "both given" in refused(minimal + "hyperparameters: {zero_stage: 1, deepspeed_zero_stage: 2}")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_anything_but_a_recipe_or_a_user_error(text: str) -> None:
    with contextlib.suppress(UserError):
        parse(text)


@pytest.mark.parametrize("uri", ["s3://bucket/a b/*.jsonl", "hf://datasets/o/n@v1/x", "https://example.com/a?b=[1]"])
def test_addresses_are_no_paths(uri: str) -> None:
    source = {"name": "a", "path": [uri, "local/*.txt"], "connection": "store"}
    recipe = Recipe.model_validate({"name": "t", "base_model": "x/y", "data": {"sources": [source]}})
    assert recipe.located(Path("/recipes")).data.sources[0].paths == (uri, "/recipes/local/*.txt")


@pytest.mark.parametrize("where", ["data.sources[0]", "data.replay", "evaluation.panels[0]"])
@pytest.mark.parametrize(
    "uri",
    [
        "https://me:canary@host/a",
        "s3://KEY:canary@bucket/a",
        "HTTPS://host/a?x=1&X-Amz-Signature=canary",
        "http://c:canary?@h",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(minimal: str, where: str, uri: str) -> None:
    more = "  replay: {path: b.jsonl}\nevaluation: {panels: [{name: p, path: c.jsonl}]}\n"
    with pytest.raises(UserError, match="this address has a password or a signature") as caught:
        parse(minimal + more, f"{where}.path=['d.jsonl', '{uri}']")
    assert "canary" not in str(caught.value)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 39))
WIDE = "a0: &a0 x\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 13))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 100,000 values, aliases included"),
        (WIDE, "more than 100,000 values, aliases included"),
        ('name: "a\\ud800b"', "recipe.yaml:1: half a character"),
        ('name: a\n"\\udc00": 1', "recipe.yaml:2: half a character"),
        ('name: "a\\0b"', "recipe.yaml:1: a NUL character"),
        ("? [a, b]\n: 1", "recipe.yaml:1: a key must be a word"),
        ("? {a: b}\n: 1", "recipe.yaml:1: a key must be a word"),
    ],
    ids=["deep", "wide", "surrogate", "surrogate in a key", "NUL", "list", "mapping"],
)
def test_hostile_yaml(text: str, words: str) -> None:
    assert words in refused(text)
    assert "ScalarNode" not in refused(text)


def test_a_mistake_of_any_length_is_shown_briefly(minimal: str) -> None:
    for override in (f"data.steps=[{{kind: {'x' * 50_000}}}]", f"hyperparameters.seed={'x' * 50_000}"):
        assert len(refused(minimal, override)) < 1000


def test_json_may_write_a_character_as_two_halves(minimal: str) -> None:
    assert parse(minimal + 'notify: {email: ["\\ud83d\\ude00"]}').notify.email == ["\N{GRINNING FACE}"]


def test_an_override_names_its_field_once(minimal: str) -> None:
    text = refused(minimal, "hyperparameters.learning_rte=1")
    assert text.startswith("override hyperparameters.learning_rte: unknown key; did you mean 'learning_rate'?")
    assert refused(minimal, "data.sources.0.weight=x").startswith("override data.sources[0].weight: input should be")
    assert refused(minimal, "data={sources: []}").startswith("override data: data.sources: list should have")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("cutoff_len", "LLaMA-Factory's cutoff_len is max_sequence_length here"),
        ("per_device_train_batch_size", "Hugging Face's per_device_train_batch_size is batch_size here"),
        ("bf16", "Hugging Face's bf16 is mixed_precision: bf16 here"),
        ("micro_batch_size", "Axolotl's micro_batch_size is batch_size here"),
        ("zzz", "unknown key; docs/recipe.md lists those that there are"),
    ],
)
def test_names_of_other_programs(minimal: str, key: str, words: str) -> None:
    text = refused(minimal + f"hyperparameters: {{{key}: 1}}")
    assert words in text
    assert len(text) < 200


def test_what_names_elsewhere_mean_is_there() -> None:
    for there, words in Hyperparameters.names_elsewhere.items():
        here = words.removesuffix(" here").partition(" is ")[2].split(":")[0].split(" (")[0]
        assert here in Hyperparameters.model_fields, there


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hyperparameters.checkpoint_steps=99999999999999999999", "must fit into 64 bits"),
        ("hyperparameters.eval_steps=99999999999999999999", "must fit into 64 bits"),
        ("hyperparameters.eval_steps=1e308", "must fit into 64 bits"),
        ("hyperparameters.logging_steps=99999999999999999999", "must fit into 64 bits"),
        ("hyperparameters.lr_warmup_steps=99999999999999999999", "must fit into 64 bits"),
        ("hyperparameters.lora_alpha=99999999999999999999", "must fit into 64 bits"),
        ("hyperparameters.epochs=100001", "less than or equal to 100000"),
        ("hyperparameters.batch_size=1000001", "less than or equal to 1000000"),
        ("hyperparameters.gradient_accumulation_steps=1000001", "less than or equal to 1000000"),
        ("hyperparameters.lora_rank=65537", "less than or equal to 65536"),
        ("evaluation.max_bytes_per_source=99999999999999999999", "must fit into 64 bits"),
        ("evaluation.limit=99999999999999999999", "must fit into 64 bits"),
        ("evaluation.num_fewshot=99999999999999999999", "less than or equal to"),
        ("data.sources[0].tokens=99999999999999999999", "less than or equal to"),
        ("data.replay={generate: {seed: 99999999999999999999}}", "must fit into 64 bits"),
        ("data.near_duplicates={keep: 99999999999999999999}", "near_duplicates"),
    ],
)
def test_numbers_that_no_run_could_use(minimal: str, override: str, words: str) -> None:
    assert words in refused(minimal, override)


@pytest.mark.parametrize(
    "override", ["base_model=~nosuch/x", "data.sources[0].path=~nosuch/x", "evaluation.task_path=~nosuch"]
)
def test_a_home_that_is_none(minimal: str, override: str) -> None:
    assert "there is no such home folder" in refused(minimal, override)


def test_a_runs_recipe_has_the_replay_that_its_first_stage_chose(minimal: str, tmp_path: Path) -> None:
    run = create_run(Workspace(tmp_path / "home"), "a", minimal, [], tmp_path)
    assert recipe_of(run).leaves_replay_open
    chosen = own_replay(0.15, 100_000, ["replay"])
    facts = {"replay": chosen.model_dump(mode="json", exclude_unset=True)}
    record = {"inputs": "", "outputs": {}, "facts": facts, "seconds": 1.0}
    write_file(run.stage_record("prepare"), to_json(record))
    assert recipe_of(run).data.replay == chosen and not recipe_of(run).leaves_replay_open
    assert recipe_of(run, settled=False).leaves_replay_open
    write_file(run.stage_record("prepare"), b"{")  # damaged: the stage runs again
    assert recipe_of(run).leaves_replay_open
    null = create_run(Workspace(tmp_path / "home"), "a", minimal + "  replay: null\n", [], tmp_path)
    assert not recipe_of(null).leaves_replay_open


def test_a_pilot_has_one_computer(minimal: str) -> None:
    several = ("infrastructure.nodes=2", "data.replay={path: old, share: 0.1}")
    with pytest.raises(UserError, match="pilot trains on one computer"):
        parse(minimal, "pilot=true", *several)
    assert not parse(minimal, "evaluation.max_forgetting=1", *several).has_pilot


@pytest.mark.parametrize("replay", ["{generate: {tokens: 9}}", "{path: [a, b], steps: []}", "{path: a.txt}"])
def test_replay_without_a_share_is_kept_with_the_share_that_was_measured(
    minimal: str, tmp_path: Path, replay: str
) -> None:
    text = minimal + f"  replay: {replay}\n"
    run = create_run(Workspace(tmp_path), "tiny", text, [], tmp_path)
    given = recipe_of(run).data.replay
    assert given is not None and "share" not in given.model_fields_set
    measured = given.model_copy(update={"share": 0.05})
    chosen = recipe_of(run).replaying(measured).model_dump(mode="json", exclude_unset=True)["data"]["replay"]
    facts = {"replay": chosen}
    write_file(run.stage_record("prepare"), to_json({"inputs": "", "outputs": {}, "facts": facts, "seconds": 1}))
    assert recipe_of(run).data.replay == measured and None not in chosen.values()
