"""What is said of a recipe in the browser is what ``rewarm check`` says."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import yaml

from rewarm.core.errors import Forbidden, UserError
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.verdicts import ignored
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import recipes, settings
from rewarm.studio.service.templates import list_templates, template
from tests.studio.conftest import user_with

REFERENCE = """{"batch_size": 8, "checkpoint_steps": 1000, "checkpoint_strategy": "epoch",
"disable_gradient_checkpointing": false, "distributed_backend": "ddp", "dpo_label_smoothing": 0, "epochs": 2,
"eval_steps": 1000, "eval_strategy": "epoch", "finetuning_type": "full", "flash_attention_v2": false,
"full_determinism": false, "gradient_accumulation_steps": 16, "learning_rate": 0.00004, "logging_steps": 10,
"lora_alpha": 32, "lora_dropout": 0.05, "lora_rank": 16, "lr_scheduler_type": "linear", "lr_warmup_steps": 0,
"max_grad_norm": 1, "max_sequence_length": 2048, "mixed_precision": "bf16", "number_of_checkpoints": 1,
"optimizer": "adamw", "pref_beta": 0.1, "pref_ftx": 0, "pref_loss": "sigmoid", "quantization_bit": "none",
"save_best_checkpoint": false, "seed": 1309, "simpo_gamma": 0.5, "target_modules": "all-linear", "weight_decay": 0,
"zero_stage": 1}"""
BLANK = "name: a\nbase_model: org/model\ndata:\n  sources:\n    - {name: new, path: uploads/new.jsonl}\n"


def test_an_estimate_reads_texts_through_connections_and_is_for_who_may_use_those(studio: Studio) -> None:
    viewer = user_with(studio, Role.viewer)
    assert recipes.check(studio, viewer, BLANK).mistakes is not None
    with pytest.raises(Forbidden):
        recipes.check(studio, viewer, BLANK, with_estimate=True)


def test_every_template_is_a_recipe_that_an_editor_may_save(studio: Studio) -> None:
    editor = user_with(studio, Role.editor)
    assert [t.name for t in list_templates()] == [
        "blank", "new-domain", "new-language", "news-update", "quickstart", "reference-run"
    ]  # fmt: skip
    for found in list_templates():
        recipe = recipes.read(studio.workspace, found.recipe)
        recipes.check_paths(studio, editor, recipe)
        assert recipe.name == found.name
        assert found.title[0].isupper() and found.description.endswith(".")


def test_the_reference_run_has_the_published_values(studio: Studio) -> None:
    text = template("reference-run").recipe
    assert yaml.safe_load(text)["hyperparameters"] == orjson.loads(REFERENCE)
    verdict = recipes.check(studio, OWNER, text)
    assert verdict.valid and verdict.tokens_per_update == 2_097_152
    assert len(verdict.ignored) == 12


def test_the_pasted_block_becomes_the_hyperparameters(studio: Studio) -> None:
    made = recipes.convert(REFERENCE, BLANK)
    assert made.recipe["hyperparameters"] == orjson.loads(REFERENCE)
    assert recipes.read(studio.workspace, made.yaml) == recipes.read(
        studio.workspace, template("reference-run").recipe
    ).model_copy(
        update={
            "name": "a",
            "base_model": "org/model",
            "data": recipes.read(studio.workspace, BLANK).data,
            "infrastructure": recipes.read(studio.workspace, BLANK).infrastructure,
        }
    )
    verdict = recipes.check(studio, OWNER, made.yaml)
    assert {item.field.removeprefix("hyperparameters.") for item in verdict.ignored} == {
        *("checkpoint_steps", "eval_steps", "zero_stage", "lora_alpha", "lora_dropout", "lora_rank", "target_modules"),
        *("dpo_label_smoothing", "pref_beta", "pref_ftx", "pref_loss", "simpo_gamma"),
    }


def test_yaml_and_json_hold_the_same(studio: Studio) -> None:
    for known in list_templates():
        there = recipes.convert(known.recipe)
        back = recipes.convert(orjson.dumps(there.recipe).decode())
        assert back == there
        assert recipes.read(studio.workspace, back.yaml) == recipes.read(studio.workspace, known.recipe)
    assert recipes.convert("checkpoint_strategy: no\nlearning_rate: 1e-5\n", BLANK).recipe["hyperparameters"] == {
        "checkpoint_strategy": "no", "learning_rate": 1e-5
    }  # fmt: skip


def test_mistakes_name_field_and_line(studio: Studio) -> None:
    wrong = BLANK + "hyperparameters:\n  epochs: 0\n  learning_rat: 1\n"
    verdict = recipes.check(studio, OWNER, wrong)
    assert not verdict.valid
    assert [(m.pointer, m.line) for m in verdict.mistakes] == [
        ("/hyperparameters/epochs", 7), ("/hyperparameters/learning_rat", 8)
    ]  # fmt: skip
    assert "did you mean 'learning_rate'?" in verdict.mistakes[1].message
    refused = recipes.check(studio, OWNER, BLANK + "hyperparameters: {finetuning_type: full, quantization_bit: int4}\n")
    assert [m.pointer for m in refused.mistakes] == ["/hyperparameters/quantization_bit"]
    torn = recipes.check(studio, OWNER, BLANK + "x: [\n")
    assert not torn.valid and torn.mistakes[0].line is not None
    override = recipes.check(studio, OWNER, BLANK, ["hyperparameters.epochs=0"])
    assert (override.mistakes[0].pointer, override.mistakes[0].line) == ("/hyperparameters/epochs", None)


def test_a_verdict_knows_the_base_model_where_it_is_here(studio: Studio) -> None:
    folder = studio.workspace.models / "small"
    folder.mkdir(parents=True)
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 400}
    (folder / "config.json").write_bytes(orjson.dumps(config))
    text = BLANK.replace("org/model", "./models/small") + "hyperparameters: {use_rslora: true, checkpoint_steps: 5}\n"
    found = recipes.check(studio, OWNER, text)
    assert [item.field for item in found.ignored] == ["hyperparameters.use_rslora"]  # it fits, so all of it trains
    resolved = recipes.resolved_without_texts(studio.workspace, recipes.read(studio.workspace, text))
    assert resolved is not None
    assert [(i.field, i.because) for i in ignored({"use_rslora"}, resolved.hyperparameters)] == [
        (i.field, i.because) for i in found.ignored
    ]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "secret.key", "uploads/../secret.key", "uploads/*/../../secret.key", "~/x", "connections", "."],
)
def test_an_editor_reads_nothing_that_is_not_open(studio: Studio, path: str) -> None:
    editor = user_with(studio, Role.editor)
    text = BLANK.replace("uploads/new.jsonl", path)
    verdict = recipes.check(studio, editor, text)
    assert not verdict.valid and "may not read" in verdict.mistakes[0].message
    assert recipes.check(studio, OWNER, text).valid
    stepped = BLANK.replace("}\n", ", steps: [{kind: word_list, path: " + path + "}]}\n")
    assert not recipes.check(studio, editor, stepped).valid
    assert recipes.check(studio, editor, BLANK.replace("uploads/new.jsonl", "s3://bucket/a")).valid


def test_links_and_task_files_stay_closed_and_folders_can_be_opened(studio: Studio, tmp_path: Path) -> None:
    editor = user_with(studio, Role.editor)
    (tmp_path / "data").mkdir()
    (studio.workspace.root / "uploads").mkdir()
    (studio.workspace.root / "uploads" / "out").symlink_to(tmp_path / "data")
    through = BLANK.replace("uploads/new.jsonl", "uploads/out/a.jsonl")
    assert not recipes.check(studio, editor, through).valid
    settings.put_setting(studio, OWNER, "folders", {"readable": [str(tmp_path / "data")]})
    assert recipes.check(studio, editor, through).valid
    assert recipes.check(studio, editor, BLANK.replace("uploads/new.jsonl", f"{tmp_path}/data/*.jsonl")).valid
    tasks = BLANK + "evaluation: {task_path: uploads/tasks}\n"
    assert "Python" in recipes.check(studio, editor, tasks).mistakes[0].message
    assert recipes.check(studio, OWNER, tasks).valid


def test_the_schema_groups_every_hyperparameter(studio: Studio) -> None:
    fields = recipes.schema()["$defs"]["Hyperparameters"]["properties"]
    assert fields.keys() == Hyperparameters.model_fields.keys()
    assert all(field["description"] and field["group"] in recipes.GROUPS for field in fields.values())
    groups = {name: field["group"] for name, field in fields.items()}
    assert (groups["zero_stage"], groups["seed"], groups["lora_rank"]) == ("General", "Training runtime", "LoRA")
    assert (groups["pref_beta"], groups["eval_steps"]) == ("DPO", "Others")


def test_what_is_no_recipe_says_so() -> None:
    with pytest.raises(UserError, match="mapping"):
        recipes.convert("[1, 2]")
