"""Axolotl's YAML (its schema of July 2026) for pretraining and completion data sets."""

from __future__ import annotations

from typing import Any

from rewarm.core.errors import UserError
from rewarm.recipe.imports import trainer
from rewarm.recipe.imports.draft import Draft, Texts

NAMES = {
    "per_device_train_batch_size": "micro_batch_size", "max_sequence_length": "sequence_len", "optim": "optimizer",
    "num_train_epochs": "num_epochs", "lr_scheduler_type": "lr_scheduler", "pure_bf16": "bfloat16",
    "val_size": "val_set_size", "packing": "sample_packing", "lora_rank": "lora_r", "use_rslora": "peft_use_rslora",
    "lora_target": "lora_target_modules", "additional_target": "lora_modules_to_save",
}  # fmt: skip
DEFAULTS: dict[str, Any] = trainer.DEFAULTS | {
    "per_device_train_batch_size": 1, "max_sequence_length": 512, "num_train_epochs": 1.0, "bf16": "auto",
    "lr_scheduler_type": "cosine", "warmup_ratio": 0.03, "save_strategy": "epoch", "save_total_limit": 4,
    "lora_rank": 8, "lora_alpha": 8, "lora_dropout": 0.0,
}  # fmt: skip
_FORMATS = ("json", "csv", "parquet", "text", "arrow")
_READ = {"path", "data_files", "type", "field", "text_column", "revision", "ds_type", "name"}


def convert(d: Draft, default_name: str) -> None:
    """Fill ``d.recipe`` from Axolotl's keys. Raises ``UserError`` for what is no pretraining on text."""
    for key in ("rl", "reward_model", "process_reward_model", "reinit_weights"):
        if d.given.get(key):
            why = f"{key}: {d.given[key]} is not available in this version; continuing a pretraining is"
            raise UserError(why, remedy="import a pretraining, or take that out")
    d.start(["wandb_name", "mlflow_run_name", "output_dir"], default_name, "base_model")
    sources, panels = Texts(), Texts()
    for key, to in (("datasets", sources), ("pretraining_dataset", sources), ("test_datasets", panels)):
        given = d.value(key) or []
        for number, entry in enumerate([given] if isinstance(given, str | dict) else given):
            _add(d, f"{key}[{number}]", {"path": entry} if isinstance(entry, str) else entry, to)
        if given:
            d.tell(key, "data.sources" if to is sources else "evaluation.panels", [text["name"] for text in to])
    d.data(sources, panels)
    _derive(d)
    trainer.training(d)
    _method(d)


def _add(d: Draft, where: str, entry: dict[str, Any], to: Texts) -> None:
    """The text that an entry of a list of data sets means."""
    if not isinstance(entry, dict) or not entry.get("path"):
        raise UserError(f"{where}: needs a path", remedy="name a file, a folder or a data set of the hub")
    if (kind := entry.get("type")) not in (None, "completion", "pretrain") and not str(kind).startswith("completion:"):
        why = f"{where}: type {kind if isinstance(kind, str) else 'with a prompt'} is supervised; only text is read"
        raise UserError(why, remedy="keep data sets of type completion or pretrain")
    path, files = str(entry["path"]), entry.get("data_files") or []
    files = [files] if isinstance(files, str) else files
    if path in _FORMATS and files:
        found = [d.place(str(file), where) for file in files]
    else:
        if (root := d.place(path, where)) and root.startswith("hf://") and entry.get("revision"):
            root += f"@{entry['revision']}"
        found = [f"{root}/{file}" for file in files] if root and files else [root]
    said = [f"{key} is not read" for key, value in entry.items() if key not in _READ and value and value != "train"]
    paths = [path for path in found if path is not None]
    if any("*" not in path and path.startswith("hf://") for path in paths):
        said.append("every file of the data set is read; add a folder or *.parquet to path for a part of it")
    column = entry.get("field") or entry.get("text_column") or str(kind).partition(":")[2]
    if paths:
        d.text(
            where, entry, str(entry.get("name") or path.rpartition("/")[2].partition(".")[0]), paths, column, said, to
        )


def _derive(d: Draft) -> None:
    """What its own words for batches, saves, evaluations and trackers mean in the Trainer's."""
    given = d.given
    if (whole := given.get("batch_size")) and not given.get("gradient_accumulation_steps"):
        d.derived["gradient_accumulation_steps"] = steps = max(1, whole // d.value("per_device_train_batch_size"))
        d.tell("batch_size", "hyperparameters.gradient_accumulation_steps", steps, "the whole batch / micro_batch_size")
    if given.get("warmup_steps") is not None:
        d.derived["warmup_ratio"] = 0.0
    d.derived |= {f"{word}_strategy": "steps" for word in ("save", "eval") if given.get(f"{word}_steps")}
    if saves := given.get("saves_per_epoch"):
        d.derived["save_strategy"] = "epoch"
        why = "" if saves == 1 else "each epoch; more often by checkpoint_strategy: steps"
        d.tell("saves_per_epoch", "hyperparameters.checkpoint_strategy", "epoch", why)
    if times := given.get("evals_per_epoch"):
        share = 1 / (times * max(1.0, float(d.value("num_train_epochs"))))
        d.derived |= {"eval_strategy": "steps", "eval_steps": share} if share < 1 else {"eval_strategy": "epoch"}
        d.tell("evals_per_epoch", "hyperparameters.eval_steps", share, "the same, as a share of all updates")
    keys = {"use_tensorboard": "tensorboard", "use_wandb": "wandb", "use_mlflow": "mlflow"}
    if given.get("use_wandb") is None:
        keys["wandb_project"] = "wandb"
    d.derived["report_to"] = [name for key, name in keys.items() if d.value(key)]
    for key in (key for key in keys if given.get(key)):
        d.tell(key, "trackers", keys[key], "the project is taken from WANDB_PROJECT" if key == "wandb_project" else "")


def _method(d: Draft) -> None:
    adapter, linear = d.value("adapter"), d.value("lora_target_linear")
    if adapter not in (None, "lora", "qlora"):
        raise UserError(f"adapter: Rewarm has lora, not {adapter}", remedy="take lora, or none to train all parameters")
    why = "the base in 4 bits is quantization_bit: int4" if adapter == "qlora" else ""
    d.put("adapter", "finetuning_type", "lora" if adapter else "full", why)
    if adapter:
        if linear or not d.value("lora_target"):
            d.names = NAMES | {"lora_target": "lora_target_linear"}
        trainer.adapters(d, "all" if "linear" in d.names["lora_target"] else d.value("lora_target"))
    for key, bits in (("load_in_4bit", "int4"), ("load_in_8bit", "int8")):
        if d.value(key) and adapter:
            d.put(key, "quantization_bit", bits)
    kept = d.value("gradient_checkpointing")
    why = "its opposite" if kept in (None, True, False) else f"its opposite; nothing is offloaded ({kept})"
    d.put("gradient_checkpointing", "disable_gradient_checkpointing", not kept, why)
    if d.value("flash_attention"):
        d.put("flash_attention", "flash_attention_v2", True)
