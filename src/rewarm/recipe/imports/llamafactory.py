"""LLaMA-Factory's YAML or JSON (its arguments as of 0.9.5) of stage ``pt``, with its dataset_info.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rewarm.core.errors import UserError
from rewarm.recipe.imports import trainer
from rewarm.recipe.imports.draft import Draft, Note, place, text

NAMES = {"max_sequence_length": "cutoff_len"}
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
    "max_sequence_length": 2048,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "linear",
    "optim": "adamw_torch_fused",
    "weight_decay": 0.0,
    "seed": 42,
    "save_strategy": "steps",
    "save_steps": 500,
    "eval_strategy": "no",
}
DROPPED = trainer.DROPPED | {
    "pretraining reads text: no chats, tools, images or sound": (
        "template media_dir train_on_prompt mask_history tool_format default_system enable_thinking "
        "preserve_thinking image_* video_* audio_* use_audio_in_video crop_to_patches freeze_vision_tower "
        "freeze_multi_modal_projector freeze_language_model ignore_pad_token_for_loss"
    ),
    "of another stage than pretraining": (
        "pref_* dpo_* kto_* simpo_* ppo_* ref_model* reward_model* ld_alpha use_dft_loss use_asft_loss asft_alpha "
        "use_eaft_loss eaft_alpha"
    ),
    "Rewarm trains all parameters or LoRA, by AdamW or SGD": (
        "freeze_* use_llama_pro use_galore galore_* use_apollo apollo_* use_badam badam_* use_adam_mini use_muon "
        "oft_* module_dropout loraplus_* use_dora pissa_* create_new_adapter"
    ),
    "Rewarm's own engine trains": (
        "use_mca use_hyper_parallel hyper_parallel_args use_unsloth use_unsloth_gc use_kt kt_* use_v1_kernels ray_* "
        "shift_attn mixture_of_depths moe_aux_loss_coef upcast_* fp8* low_cpu_mem_usage"
    ),
    "of inference and export; rewarm models has both": (
        "infer_* vllm_* sglang_* export_* offload_folder use_kv_cache do_sample temperature top_p top_k num_beams "
        "max_length max_new_tokens repetition_penalty length_penalty skip_special_tokens"
    ),
    "datasets are read as a stream, tokenized once, and found again by their content": (
        "streaming buffer_size overwrite_cache preprocessing_* tokenized_path data_shared_file_system cache_dir"
    ),
    "take fewer documents by a source's weight, such as 0.01": "max_samples",
    "a weight here is how often a source is seen in an epoch; rewarm check shows the shares": (
        "mix_strategy interleave_probs"
    ),
    "the order of documents follows from the seed, always shuffled": "disable_shuffling",
    "code that comes with a model is never run": "trust_remote_code",
    "a secret has no place in a recipe: rewarm connections add hf": "hf_hub_token ms_hub_token om_hub_token hub_token",
    "the tokenizer is taken as it is; text of a document never becomes a control token": (
        "use_fast_tokenizer resize_vocab split_special_tokens add_tokens add_special_tokens new_special_tokens_config "
        "init_special_tokens"
    ),
    "the model is taken as it is": "rope_scaling",
    "name a folder or a hub id; another revision than main is fetched by hand": "model_revision",
    "Rewarm quantises by bitsandbytes, nf4 with double quantisation": (
        "quantization_method quantization_type double_quantization quantization_device_map"
    ),
    "Rewarm has TensorBoard, MLflow and W&B": "use_swanlab swanlab_*",
    "a run goes through its epochs; save_best_checkpoint publishes the best": "early_stopping_steps",
    "an adapter is no base model: merge it first": "adapter_name_or_path adapter_folder",
}


def convert(d: Draft, default_name: str) -> None:
    """Fill ``d.recipe`` from LLaMA-Factory's arguments.

    Raises:
        UserError: for what is no continual pretraining on text.
    """
    stage = d.given.get("stage", "sft")
    if stage != "pt":
        raise UserError(
            f"stage: {stage} is not available in this version; pretraining (stage: pt) is",
            remedy="import a configuration of stage pt, or train this one with LLaMA-Factory on the published model",
        )
    if d.given.get("train_from_scratch"):
        raise UserError("train_from_scratch: Rewarm continues a model that has been trained", remedy="take that out")
    d.tell("stage", "trainer", "pretraining")
    d.name(("run_name", "output_dir"), default_name)
    d.base_model("model_name_or_path")
    _data(d)
    trainer.training(d)
    _method(d)
    d.drop_rest(DROPPED)


def _data(d: Draft) -> None:
    sources: list[dict[str, Any]] = []
    panels: list[dict[str, Any]] = []
    for key, taken, path in (("dataset", sources, "data.sources"), ("eval_dataset", panels, "evaluation.panels")):
        for name in _list(d.given.get(key)):
            _add(d, name, taken)
        if taken:
            d.tell(key, path, [text["name"] for text in taken])
        d.drop(key, "none of these can be read")
    d.drop("dataset_dir", "the paths in the recipe say where the files lie")
    if not sources:
        sources.append({"name": "text", "path": "./corpus"})
        d.tell("data.sources", "data.sources", ["text"], "not in the file: put your text there, or mend its path")
    d.recipe["data"] = {"sources": sources}
    if panels:
        d.recipe["evaluation"] = {"panels": panels}
    if isinstance(share := d.given.get("val_size"), float) and 0 < share < 0.5:
        d.put("val_size", "data.held_out", share)
    d.drop("val_size", "data.held_out is a share of the documents, below 0.5, and there is always some")
    if d.given.get("template") == "llama3":
        d.put(
            "template", "data.document_tokens", {"eos": "<|end_of_text|>"}, "what ends a document under that template"
        )
    if d.given.get("packing") is False:
        d.tell("packing", "(always)", True, "documents are always packed, and none attends to another")
    for key in ("packing", "neat_packing"):
        d.drop(key, "always: documents are packed, none attends to another, no token is dropped")


def _list(value: Any) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value or []
    return [str(item).strip() for item in items]


def _add(d: Draft, name: str, taken: list[dict[str, Any]]) -> None:
    """The text that a name in dataset_info.json means."""
    folder = str(d.given.get("dataset_dir", "data"))
    where = f"dataset {name}"
    if folder == "ONLINE":
        text(d, name, [f"hf://datasets/{name}"], None, taken)
        return
    info = d.find(f"{folder}/dataset_info.json")
    if info is None:
        raise UserError(
            f"{where}: there is no {folder}/dataset_info.json, which says where it lies",
            where=d.folder,
            remedy="copy the data folder beside the file, or start in LLaMA-Factory's folder",
        )
    entry = _entry(info, name)
    columns = entry.get("columns") or {}
    if entry.get("formatting", "alpaca") != "alpaca" or entry.get("ranking"):
        raise UserError(
            f"{name} holds conversations or rankings; pretraining reads text", where=info, remedy="take it out"
        )
    path = _path(d, entry, info, where)
    if path is None:
        return
    text(d, name, [path], columns.get("prompt", "instruction"), taken)
    said = []
    if "prompt" not in columns or "query" in columns:
        said.append("only this field is a document; what LLaMA-Factory joins to it is not read")
    if path.endswith(".txt"):
        said.append("a .txt file is one document here, a document a line there: make it jsonl to keep them apart")
    said += [
        f"{key} is not read" for key in ("num_samples", "split", "subset") if entry.get(key) not in (None, "train")
    ]
    given = {key: entry[key] for key in entry if key.endswith(("url", "file_name")) or key in ("folder", "columns")}
    outcome: Any = "changed" if said else "mapped"
    d.notes.append(Note(where, given, outcome, f"source {taken[-1]['name']}", taken[-1]["path"], "; ".join(said)))


def _entry(info: Path, name: str) -> dict[str, Any]:
    try:
        known = json.loads(info.read_text(encoding="utf-8"))
        entry = known[name]
    except ValueError:
        raise UserError("is not JSON", where=info, remedy="mend it") from None
    except (KeyError, TypeError):
        raise UserError(f"names no dataset {name!r}", where=info, remedy="add it there, or take it out") from None
    if not isinstance(entry, dict):
        raise UserError(f"{name} is no description of a dataset", where=info, remedy="mend it there")
    return entry


def _path(d: Draft, entry: dict[str, Any], info: Path, where: str) -> str | None:
    if hub := entry.get("hf_hub_url"):
        return f"hf://datasets/{hub}" + (f"/{entry['folder']}" if entry.get("folder") else "")
    if cloud := entry.get("cloud_file_name"):
        return place(d, str(cloud), where)
    if "file_name" in entry:
        if not (there := info.parent / str(entry["file_name"])).exists():
            raise UserError(f"{where}: there is no such file", where=there, remedy="copy it there")
        return d.written(there)
    d.notes.append(Note(where, entry, "dropped", None, None, "no file and no data set of the Hugging Face hub"))
    return None


def _method(d: Draft) -> None:
    given = d.given.get("finetuning_type", "lora")
    lora = given in ("lora", "oft")
    why = "" if given in ("lora", "full") else f"Rewarm trains all parameters or LoRA; it has no {given}"
    kind = "lora" if lora else "full"
    if "finetuning_type" in d.given or not why:
        d.put("finetuning_type", "hyperparameters.finetuning_type", kind, why)
    if lora:
        rank = d.given.get("lora_rank", 8)
        target = d.given.get("lora_target", "all")
        d.put("lora_rank", "hyperparameters.lora_rank", rank)
        d.put("lora_alpha", "hyperparameters.lora_alpha", d.given.get("lora_alpha", 2 * rank))
        d.put("lora_dropout", "hyperparameters.lora_dropout", d.given.get("lora_dropout", 0.0))
        d.put("lora_target", "hyperparameters.target_modules", "all-linear" if target == "all" else _list(target))
        trainer.beside_adapters(d, "use_rslora", "additional_target")
    for key in ("lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_rslora", "additional_target"):
        d.drop(key, "finetuning_type is full")
    bits = d.given.get("quantization_bit")
    if bits in (4, 8):
        d.put("quantization_bit", "hyperparameters.quantization_bit", f"int{bits}")
    d.drop("quantization_bit", "Rewarm quantises to 4 or 8 bits")
    off = d.given.get("disable_gradient_checkpointing", False)
    d.put("disable_gradient_checkpointing", "hyperparameters.disable_gradient_checkpointing", off)
    d.drop("gradient_checkpointing", "disable_gradient_checkpointing says it")
    if d.given.get("flash_attn") == "fa2":
        d.put("flash_attn", "hyperparameters.flash_attention_v2", True)
    d.drop("flash_attn", "packed documents always take the fastest attention that there is")
    d.drop("train_from_scratch", "false, as always here")
