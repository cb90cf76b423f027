"""LLaMA-Factory's YAML or JSON (its arguments as of 0.9.5) of stage ``pt``, with its dataset_info.json."""

from __future__ import annotations

import json
from typing import Any

from rewarm.core.errors import UserError
from rewarm.recipe.imports import trainer
from rewarm.recipe.imports.draft import Draft, Texts

NAMES = {"max_sequence_length": "cutoff_len"}
DEFAULTS: dict[str, Any] = trainer.DEFAULTS | {
    "per_device_train_batch_size": 8, "learning_rate": 5e-5, "max_sequence_length": 2048, "num_train_epochs": 3.0,
    "lr_scheduler_type": "linear", "save_strategy": "steps", "finetuning_type": "lora", "lora_rank": 8,
    "lora_dropout": 0.0, "lora_target": "all", "disable_gradient_checkpointing": False,
}  # fmt: skip


def convert(d: Draft, default_name: str) -> None:
    """Fill ``d.recipe`` from LLaMA-Factory's arguments. Raises ``UserError`` for what is no pretraining on text."""
    if (stage := d.given.get("stage", "sft")) != "pt":
        why = f"stage: {stage} is not available in this version; pretraining (stage: pt) is"
        raise UserError(why, remedy="import a configuration of stage pt, or train this one on the published model")
    if d.given.get("train_from_scratch"):
        raise UserError("train_from_scratch: Rewarm continues a model that has been trained", remedy="take that out")
    d.tell("stage", "trainer", "pretraining")
    d.start(["run_name", "output_dir"], default_name, "model_name_or_path")
    sources, panels = Texts(), Texts()
    for key, to, path in (("dataset", sources, "data.sources"), ("eval_dataset", panels, "evaluation.panels")):
        for name in trainer.listed(d.value(key)):
            _add(d, name, to)
        if to:
            d.tell(key, path, [text["name"] for text in to])
    d.data(sources, panels)
    if d.given.get("template") == "llama3":
        d.put("template", "data.document_tokens", {"eos": "<|end_of_text|>"}, "what ends a document under it")
    trainer.training(d)
    _method(d)


def _add(d: Draft, name: str, to: Texts) -> None:
    """The text that a name in dataset_info.json means."""
    folder, where, said = str(d.given.get("dataset_dir", "data")), f"dataset {name}", list[str]()
    if folder == "ONLINE":
        d.text(where, name, name, [f"hf://datasets/{name}"], None, said, to)
        return
    if (info := d.find(f"{folder}/dataset_info.json")) is None:
        why = f"{where}: there is no {folder}/dataset_info.json, which says where it lies"
        raise UserError(why, where=d.folder, remedy="copy the data folder beside the file, or start in LLaMA-Factory's")
    try:
        entry = dict(json.loads(info.read_text(encoding="utf-8"))[name])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"names no dataset {name!r}", where=info, remedy="add it there, or take it out") from None
    columns, path = entry.get("columns") or {}, None
    if entry.get("formatting", "alpaca") != "alpaca" or entry.get("ranking"):
        why = f"{name} holds conversations or rankings; pretraining reads text"
        raise UserError(why, where=info, remedy="take it out")
    if hub := entry.get("hf_hub_url"):
        path = "/".join(["hf://datasets", hub, *([entry["folder"]] if entry.get("folder") else [])])
    elif cloud := entry.get("cloud_file_name"):
        path = d.place(str(cloud), where)
    elif "file_name" not in entry:
        d.drop(where, entry, "no file and no data set of the Hugging Face hub")
    elif (there := info.parent / str(entry["file_name"])).exists():
        path = d.written(there)
    else:
        raise UserError(f"{where}: there is no such file", where=there, remedy="copy it there")
    if "prompt" not in columns or "query" in columns:
        said.append("only this field is a document; what LLaMA-Factory joins to it is not read")
    said += [
        f"{key} is not read" for key in ("num_samples", "split", "subset") if entry.get(key) not in (None, "train")
    ]
    if path:
        d.text(where, entry, name, [path], columns.get("prompt", "instruction"), said, to)


def _method(d: Draft) -> None:
    given = d.value("finetuning_type")
    why = "" if given in ("lora", "full") else f"Rewarm trains all parameters or LoRA; it has no {given}"
    d.put("finetuning_type", "finetuning_type", kind := "lora" if given in ("lora", "oft") else "full", why)
    if kind == "lora":
        d.defaults = {**d.defaults, "lora_alpha": 2 * d.value("lora_rank")}
        trainer.adapters(d, d.value("lora_target"))
    if (bits := d.value("quantization_bit")) in (4, 8):
        d.put("quantization_bit", "quantization_bit", f"int{bits}")
    d.same("disable_gradient_checkpointing")
    if d.value("flash_attn") == "fa2":
        d.put("flash_attn", "flash_attention_v2", True)
