"""Other programs' files, written in their formats, become recipes; every key of theirs has its note."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rewarm.core.errors import UserError
from rewarm.recipe.imports.convert import Imported, import_file
from rewarm.recipe.load import parse_recipe
from tests.recipe.conftest import REFERENCE_JSON

HERE = Path(__file__).parent
FACTORY: dict[str, Any] = {"stage": "pt", "model_name_or_path": "org/model", "dataset": "law"}
AXOLOTL: dict[str, Any] = {
    "base_model": "org/model",
    "learning_rate": 1e-4,
    "pretraining_dataset": [{"path": "org/law"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as LLaMA-Factory's: data/ with dataset_info.json, and configurations two levels down."""
    info = {
        "law": {"file_name": "law.jsonl", "columns": {"prompt": "body"}},
        "lines": {"file_name": "lines.txt", "columns": {"prompt": "text"}},
        "asked": {"file_name": "law.jsonl", "num_samples": 10},
        "python": {"hf_hub_url": "bigcode/starcoderdata", "folder": "python", "columns": {"prompt": "content"}},
        "cloud": {"cloud_file_name": "s3://bucket/vi.jsonl", "columns": {"prompt": "text"}},
        "bucket": {"cloud_file_name": "gs://bucket/vi.jsonl", "columns": {"prompt": "text"}},
        "chats": {"file_name": "law.jsonl", "formatting": "sharegpt"},
        "gone": {"file_name": "gone.jsonl"},
        "script": {"script_url": "load.py"},
    }
    data = tmp_path / "data"
    data.mkdir()
    (data / "dataset_info.json").write_text(json.dumps(info))
    (data / "law.jsonl").write_text('{"body": "Article 1."}\n')
    (data / "lines.txt").write_text("Article 1.\nArticle 2.\n")
    (tmp_path / "examples" / "train_full").mkdir(parents=True)
    return tmp_path


def imported(folder: Path, given: dict[str, Any]) -> Imported:
    path = folder / "examples" / "train_full" / "pt.yaml"
    path.write_text(yaml.safe_dump(given))
    return import_file(path, folder)


def recipe(of: Imported) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(of.text)
    return value


def outcome(of: Imported, key: str) -> str:
    return "+".join(sorted({note.outcome for note in of.notes if note.key == key}))


def test_the_pretraining_example_of_llamafactory(folder: Path) -> None:
    text = """
    model_name_or_path: meta-llama/Meta-Llama-3-8B
    trust_remote_code: true
    stage: pt
    do_train: true
    finetuning_type: lora
    lora_rank: 8
    lora_target: all
    dataset: law,lines
    cutoff_len: 4096
    max_samples: 1000
    overwrite_cache: true
    output_dir: saves/llama3-8b/lora/pretrain
    logging_steps: 10
    save_steps: 500
    report_to: tensorboard
    per_device_train_batch_size: 1
    gradient_accumulation_steps: 8
    learning_rate: 1.0e-4
    num_train_epochs: 3.0
    lr_scheduler_type: cosine
    warmup_ratio: 0.1
    bf16: true
    ddp_timeout: 180000000
    hf_hub_token: hf_verysecret
    cutof_len: 7
    """
    path = folder / "examples" / "train_full" / "pt.yaml"
    path.write_text(text)
    found = import_file(path, folder)
    assert recipe(found) == {
        "name": "pretrain",
        "base_model": "meta-llama/Meta-Llama-3-8B",
        "data": {
            "sources": [
                {"name": "law", "path": "./data/law.jsonl", "text_column": "body"},
                {"name": "lines", "path": "./data/lines.txt"},
            ]
        },
        "hyperparameters": {
            "batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1e-4, "weight_decay": 0.0, "seed": 42,
            "max_sequence_length": 4096, "epochs": 3, "lr_scheduler_type": "cosine", "lr_warmup_ratio": 0.1,
            "optimizer": "adamw", "mixed_precision": "bf16", "checkpoint_strategy": "steps", "checkpoint_steps": 500,
            "eval_strategy": "no", "logging_steps": 10, "finetuning_type": "lora", "lora_rank": 8, "lora_alpha": 16,
            "lora_dropout": 0.0, "target_modules": "all-linear", "disable_gradient_checkpointing": False,
        },
        "trackers": ["tensorboard"],
    }  # fmt: skip
    assert outcome(found, "cutoff_len") == "mapped"
    assert outcome(found, "dataset lines") == "changed"
    assert outcome(found, "seed") == outcome(found, "lora_alpha") == "filled"
    assert outcome(found, "max_samples") == outcome(found, "ddp_timeout") == "dropped"
    unknown = next(note for note in found.notes if note.key == "cutof_len")
    assert "did you mean 'cutoff_len'?" in unknown.because
    assert "verysecret" not in json.dumps(found.to_json())


@pytest.mark.parametrize("program", ["llamafactory-arguments", "axolotl-keys"])
def test_every_argument_is_known(folder: Path, program: str) -> None:
    """The lists are the fields of LLaMA-Factory 0.9.5's argument classes, and of Axolotl's schema of July 2026."""
    start = FACTORY if program.startswith("llama") else AXOLOTL
    silent = {"train_from_scratch", "rl", "reinit_weights", "process_reward_model", "datasets", "test_datasets"}
    silent |= {"eval_dataset"} if start is FACTORY else {"reward_model"}
    known = {"finetuning_type": "lora", "lora_target": "all", "additional_target": "embed_tokens", "adapter": "lora"}
    known |= {"save_strategy": "steps", "eval_strategy": "steps", "max_steps": 10, "lora_target_modules": ["q_proj"]}
    known |= {"lora_alpha": 16, "lora_r": 8, "deepspeed": "zero2.json", "fsdp": "", "lora_modules_to_save": ["lm_head"]}
    known |= {"report_to": "tensorboard", "optim": "sgd", "optimizer": "sgd", "bf16": True, "learning_rate": 1e-4}
    known |= {"lora_dropout": 0.1, "warmup_ratio": 0.1, "val_size": 0.1, "val_set_size": 0.1, "dataset_dir": "data"}
    known |= {"use_rslora": True, "peft_use_rslora": True, "full_determinism": False, "quantization_bit": False}
    known |= {"disable_gradient_checkpointing": True, "load_in_4bit": False, "load_in_8bit": False}
    names = (HERE / f"{program}.txt").read_text().split()
    given = {name: 4 for name in names if name not in silent} | {k: v for k, v in known.items() if k in names} | start
    found = imported(folder, given)
    assert [note.key for note in found.notes if note.because.startswith("unknown")] == []
    assert given.keys() - {note.key for note in found.notes} == set()
    reasons = {note.key: note.because for note in found.notes if note.outcome in ("changed", "dropped")}
    assert all(reasons.values())


def test_what_has_no_effect_or_is_misspelt_is_told(folder: Path) -> None:
    keys = {"evaluation_strategy": "epoch", "warmup_steps": 5, "warmup_ratio": 0.1, "save_stepz": 10, "eval_delay": 1}
    found = imported(
        folder, FACTORY | keys | {"finetuning_type": "full", "lora_rank": 4, "swanlab_api_key": "verysecret"}
    )
    why = {note.key: note.because for note in found.notes}
    assert outcome(found, "evaluation_strategy") == "mapped"
    assert "steps of warm-up go before a ratio" in why["warmup_ratio"]
    assert why["save_stepz"].endswith("did you mean 'save_steps'?")
    assert "did you mean" not in why["eval_delay"] + why["warmup_ratio"]
    assert "there only where the file asks for it" in why["lora_rank"]
    assert "a secret" in why["swanlab_api_key"]
    assert "verysecret" not in json.dumps(found.to_json())


# (what the file says, field of the recipe, its value there, what became of the key)
FIELDS: list[tuple[dict[str, Any], str, Any, str]] = [
    ({"num_train_epochs": 2.0}, "hyperparameters.epochs", 2, "mapped"),
    ({"num_train_epochs": 2.5}, "hyperparameters.epochs", 3, "changed"),
    ({"num_train_epochs": 0.5}, "data.sources.0.weight", 0.5, "changed"),
    ({"max_steps": 10}, "data.sources.0.tokens", 10 * 8 * 2048, "changed"),
    ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "hyperparameters.lr_warmup_steps", None, "mapped"),
    ({"lr_scheduler_type": "constant_with_warmup"}, "hyperparameters.lr_scheduler_type", "constant", "mapped"),
    ({"lr_scheduler_type": "warmup_stable_decay"}, "hyperparameters.lr_scheduler_type", "wsd", "changed"),
    ({"lr_scheduler_type": "inverse_sqrt"}, "hyperparameters.lr_scheduler_type", None, "dropped"),
    ({"warmup_steps": 20}, "hyperparameters.lr_warmup_steps", 20, "mapped"),
    ({"warmup_steps": 0.1}, "hyperparameters.lr_warmup_ratio", 0.1, "changed"),
    ({"optim": "adamw_8bit"}, "hyperparameters.optimizer", "adamw", "changed"),
    ({"optim": "sgd"}, "hyperparameters.optimizer", "sgd", "mapped"),
    ({"pure_bf16": True}, "hyperparameters.mixed_precision", "bf16", "changed"),
    ({"fp16": True}, "hyperparameters.mixed_precision", "fp16", "mapped"),
    ({"bf16": False}, "hyperparameters.mixed_precision", "none", "mapped"),
    ({"save_strategy": "epoch"}, "hyperparameters.checkpoint_strategy", "epoch", "mapped"),
    ({"save_strategy": "best"}, "hyperparameters.checkpoint_strategy", "epoch", "changed"),
    ({"save_total_limit": 3}, "hyperparameters.number_of_checkpoints", 3, "mapped"),
    ({"eval_strategy": "steps", "logging_steps": 7}, "hyperparameters.eval_steps", 7, "mapped"),
    ({"eval_strategy": "steps", "eval_steps": 0.25}, "hyperparameters.eval_steps", 0.25, "mapped"),
    (
        {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"},
        "hyperparameters.save_best_checkpoint",
        True,
        "changed",
    ),
    ({"load_best_model_at_end": True}, "hyperparameters.save_best_checkpoint", None, "dropped"),
    ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "hyperparameters.zero_stage", 3, "changed"),
    ({"deepspeed": "examples/deepspeed/ds_z2_config.json"}, "hyperparameters.zero_stage", 2, "changed"),
    ({"deepspeed": "ds_z0_config.json"}, "hyperparameters.distributed_backend", None, "dropped"),
    ({"fsdp": "full_shard auto_wrap"}, "hyperparameters.zero_stage", 3, "changed"),
    ({"report_to": ["wandb", "swanlab"]}, "trackers", ["wandb"], "changed"),
    ({"report_to": "none"}, "trackers", None, "dropped"),
    ({"finetuning_type": "full"}, "hyperparameters.finetuning_type", "full", "mapped"),
    ({"finetuning_type": "freeze"}, "hyperparameters.finetuning_type", "full", "changed"),
    ({"lora_target": "q_proj, v_proj"}, "hyperparameters.target_modules", ["q_proj", "v_proj"], "mapped"),
    ({"disable_gradient_checkpointing": True}, "hyperparameters.disable_gradient_checkpointing", True, "mapped"),
    ({"use_rslora": True}, "hyperparameters.use_rslora", True, "mapped"),
    ({"additional_target": "embed_tokens,lm_head"}, "hyperparameters.additional_target", ["embeddings"], "changed"),
    ({"flash_attn": "fa2"}, "hyperparameters.flash_attention_v2", True, "mapped"),
    ({"val_size": 0.01}, "data.held_out", 0.01, "mapped"),
    ({"val_size": 100}, "data.held_out", None, "dropped"),
    ({"packing": False}, "data.packing", None, "changed"),
    ({"neat_packing": True}, "data.packing", None, "dropped"),
    ({"template": "llama3"}, "data.document_tokens.eos", "<|end_of_text|>", "changed"),
    ({"eval_dataset": "lines"}, "evaluation.panels.0.path", "./data/lines.txt", "mapped"),
    ({"dataset": "python"}, "data.sources.0.path", "hf://datasets/bigcode/starcoderdata/python", "mapped"),
    ({"dataset": "cloud"}, "data.sources.0.path", "s3://bucket/vi.jsonl", "mapped"),
    ({"dataset": "bucket"}, "data.sources.0.path", "./corpus", "dropped"),
    ({"dataset": "script"}, "data.sources.0.path", "./corpus", "dropped"),
    ({"dataset_dir": "ONLINE", "dataset": "org/x"}, "data.sources.0.path", "hf://datasets/org/x", "dropped"),
    ({"mix_strategy": "interleave_over"}, "data.temperature", None, "dropped"),
]


def at(value: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(value, list):
            value = value[int(part)]
        elif (value := value.get(part)) is None:
            return None
    return value


@pytest.mark.parametrize(("given", "path", "value", "became"), FIELDS, ids=lambda item: str(item)[:40])
def test_a_field_of_llamafactory(folder: Path, given: dict[str, Any], path: str, value: Any, became: str) -> None:
    found = imported(folder, FACTORY | given)
    assert at(recipe(found), path) == value
    assert outcome(found, next(iter(given))) == became


AXOLOTL_FIELDS: list[tuple[dict[str, Any], str, Any, str]] = [
    ({"sequence_len": 4096}, "hyperparameters.max_sequence_length", 4096, "mapped"),
    ({"micro_batch_size": 2, "batch_size": 32}, "hyperparameters.gradient_accumulation_steps", 16, "mapped"),
    ({"num_epochs": 4}, "hyperparameters.epochs", 4, "mapped"),
    ({"optimizer": "adamw_bnb_8bit"}, "hyperparameters.optimizer", "adamw", "changed"),
    ({"learning_rate": "2e-5"}, "hyperparameters.learning_rate", 2e-5, "mapped"),
    ({"bf16": "auto"}, "hyperparameters.mixed_precision", "bf16", "changed"),
    ({"saves_per_epoch": 1}, "hyperparameters.checkpoint_strategy", "epoch", "mapped"),
    ({"saves_per_epoch": 4}, "hyperparameters.checkpoint_strategy", "epoch", "changed"),
    ({"evals_per_epoch": 4, "num_epochs": 2}, "hyperparameters.eval_steps", 0.125, "changed"),
    ({"save_steps": 250}, "hyperparameters.checkpoint_strategy", "steps", "mapped"),
    ({"save_strategy": "steps", "save_steps": 0.1}, "hyperparameters.checkpoint_strategy", "epoch", "changed"),
    ({"warmup_steps": 10}, "hyperparameters.lr_warmup_steps", 10, "mapped"),
    ({"val_set_size": 0.05}, "data.held_out", 0.05, "mapped"),
    ({"adapter": "qlora", "load_in_4bit": False}, "hyperparameters.finetuning_type", "lora", "changed"),
    ({"adapter": "lora", "lora_r": 32}, "hyperparameters.lora_rank", 32, "mapped"),
    ({"lora_target_linear": True, "adapter": "lora"}, "hyperparameters.target_modules", "all-linear", "mapped"),
    ({"lora_target_modules": ["q"], "adapter": "lora"}, "hyperparameters.target_modules", ["q"], "mapped"),
    ({"lora_r": 32}, "hyperparameters.lora_rank", None, "dropped"),
    ({"gradient_checkpointing": "offload"}, "hyperparameters.disable_gradient_checkpointing", False, "changed"),
    ({"use_mlflow": True}, "trackers", ["mlflow"], "mapped"),
    ({"wandb_project": "vi"}, "trackers", ["wandb"], "changed"),
    ({"fsdp_config": {"fsdp_version": 2, "reshard_after_forward": True}}, "hyperparameters.zero_stage", 3, "changed"),
    ({"sample_packing": False}, "data.packing", None, "changed"),
    ({"test_datasets": [{"path": "org/en", "type": "completion"}]}, "evaluation.panels.0.name", "en", "mapped"),
    (
        {"datasets": [{"path": "json", "data_files": "data/law.jsonl", "type": "completion", "field": "body"}]},
        "data.sources.0",
        {"name": "json", "path": "./data/law.jsonl", "text_column": "body"},
        "mapped",
    ),
    (
        {"datasets": [{"path": "org/w", "data_files": ["vi/*.parquet"], "type": "completion", "revision": "v1"}]},
        "data.sources.0.path",
        "hf://datasets/org/w@v1/vi/*.parquet",
        "mapped",
    ),
]


@pytest.mark.parametrize(("given", "path", "value", "became"), AXOLOTL_FIELDS, ids=lambda item: str(item)[:40])
def test_a_field_of_axolotl(folder: Path, given: dict[str, Any], path: str, value: Any, became: str) -> None:
    start = {key: AXOLOTL[key] for key in AXOLOTL if "datasets" not in given or key != "pretraining_dataset"}
    found = imported(folder, start | given)
    assert at(recipe(found), path) == value
    assert outcome(found, next(iter(given))) == became


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (FACTORY | {"stage": "sft"}, "stage: sft is not available in this version"),
        ({"model_name_or_path": "org/m", "dataset": "law"}, "stage: sft"),  # its default
        (FACTORY | {"stage": "dpo"}, "stage: dpo"),
        (FACTORY | {"train_from_scratch": True}, "train_from_scratch"),
        (FACTORY | {"dataset": "chats"}, "holds conversations"),
        (FACTORY | {"dataset": "gone"}, "no such file"),
        (FACTORY | {"dataset": "other"}, "names no dataset 'other'"),
        (FACTORY | {"dataset_dir": "elsewhere"}, "no elsewhere/dataset_info.json"),
        (FACTORY | {"num_train_epochs": "many"}, "not of the form"),
        (FACTORY | {"learning_rate": 3.0}, "learning_rate"),
        (AXOLOTL | {"rl": "dpo"}, "rl: dpo is not available"),
        (AXOLOTL | {"datasets": [{"path": "org/x", "type": "alpaca"}]}, "type alpaca is supervised"),
        (AXOLOTL | {"datasets": [{"path": "./nowhere.jsonl", "type": "completion"}]}, "no file or folder"),
        (AXOLOTL | {"adapter": "llama-adapter"}, "adapter"),
        ({"base_model": "a", "data": {}}, "this is a recipe already"),
        ({"colour": "red"}, "none of its keys"),
    ],
)
def test_what_is_refused(folder: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        imported(folder, given)
    assert words in str(caught.value)
    assert (
        "pt.yaml" in str(caught.value) or "dataset_info.json" in str(caught.value) or str(folder) in str(caught.value)
    )


def test_the_json_of_the_reference_platform(folder: Path) -> None:
    path = folder / "vi.json"
    path.write_text(REFERENCE_JSON)
    found = import_file(path, folder)
    given = json.loads(REFERENCE_JSON)
    assert recipe(found)["hyperparameters"] == given
    assert recipe(found)["name"] == "vi"
    assert found.counts["mapped"] == len(given)
    assert {note.field for note in found.notes if note.outcome == "filled"} == {"name", "base_model", "data.sources"}
    assert parse_recipe(found.text, (), folder).hyperparameters.seed == 1309
