"""Axolotl's YAML (its schema of July 2026) for pretraining and completion data sets."""

from __future__ import annotations

from typing import Any

from rewarm.core.errors import UserError
from rewarm.recipe.imports import trainer
from rewarm.recipe.imports.draft import Draft, Note, place, text

NAMES = {
    "per_device_train_batch_size": "micro_batch_size",
    "max_sequence_length": "sequence_len",
    "num_train_epochs": "num_epochs",
    "lr_scheduler_type": "lr_scheduler",
    "optim": "optimizer",
    "pure_bf16": "bfloat16",
}
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_sequence_length": 512,
    "num_train_epochs": 1.0,
    "lr_scheduler_type": "cosine",
    "optim": "adamw_torch_fused",
    "weight_decay": 0.0,
    "seed": 42,
    "bf16": "auto",
    "warmup_ratio": 0.03,
    "save_strategy": "epoch",
    "save_total_limit": 4,
    "eval_strategy": "no",
}
DROPPED = trainer.DROPPED | {
    "pretraining reads text: no chats, prompts, tools or images": (
        "chat_template* eot_tokens default_system_message train_on_inputs max_prompt_len image_* role_boundaries "
        "processor_* freeze_mm_modules do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_*"
    ),
    "of another stage than pretraining": (
        "rl_beta dpo_* orpo_alpha simpo_gamma cpo_alpha kto_* rpo_alpha trl vllm ebft reward_model "
        "process_reward_model center_rewards_coefficient num_labels precompute_ref_log_probs use_eaft eaft_*"
    ),
    "Rewarm has AdamW and SGD, one rate for all parameters, and schedules without arguments": (
        "adam_epsilon2 adam_beta3 dion_* qgalore_* torchdistx_path embedding_lr* lr_groups lr_quadratic_warmup "
        "cosine_min_lr_ratio cosine_constant_lr_ratio lr_div_factor jagged_restart_* relora*"
    ),
    "Rewarm trains all parameters or plain LoRA": (
        "lora_model_dir lora_fan_in_fan_out lora_target_parameters lora_rank_pattern lora_alpha_pattern peft peft_* "
        "lora_on_cpu qlora_sharded_model_loading gptq bnb_config_kwargs loraplus_* unfrozen_parameters lisa_* "
        "qat quantization use_onebitllms merge_method"
    ),
    "an adapter is merged into the model that is published; merge_adapter: false keeps it apart": "merge_lora",
    "documents are always packed into full sequences; none attends to another, no token is dropped": (
        "sample_packing sample_packing_* eval_sample_packing pad_to_* pretrain_multipack_* multipack_real_batches "
        "batch_flattening pretraining_sample_concatenation excess_length_strategy max_packed_sequence_len"
    ),
    "the whole of a document is read, however short": "min_sample_len",
    "the order of documents follows from the seed, always shuffled": "shuffle_* curriculum_sampling",
    "exact duplicates are always dropped": "dataset_exact_deduplication",
    "datasets are read as a stream, tokenized once, and found again by their content": (
        "dataset_* streaming* skip_prepare_dataset num_dataset_shards_to_save push_dataset_to_hub preprocess_iterable "
        "is_preprocess total_num_tokens total_supervised_tokens"
    ),
    "Rewarm's own engine trains, by the fastest attention and kernels that there are": (
        "xformers_attention sdp_attention flex_* flash_attn* flash_optimum sage_attention eager_attention "
        "attn_implementation gemma4_* large_head_attention sdpa_varlen fused_attn_kernel experts_implementation "
        "scaling_softmax* lora_*_kernel chunked_cross_entropy* tiled_mlp* llama4_* use_kernels s2_attention "
        "quantize_moe_experts plugins liger_* cut_cross_entropy trainer_cls fp8* deepcompile use_pose pose_*"
    ),
    "all held-out text is scored at the sequence length of the training": (
        "eval_sequence_len eval_batch_size eval_table_size eval_max_new_tokens"
    ),
    "rewarm models generate does that on the published model": (
        "generate_samples num_generation_samples generation_* gradio_*"
    ),
    "checkpoints are written by checkpoint_strategy, into the run's folder": "save_first_step dynamic_checkpoint",
    "several devices: infrastructure.devices; tensors and sequences are not split": (
        "dp_* sequence_parallel_degree context_parallel_size heads_k_stride ring_attn_func tensor_parallel_size "
        "world_size use_ray ray_* resources_per_worker fsdp_version fsdp_final_state_dict_type"
    ),
    "gradient checkpointing has one form, and nothing is offloaded": (
        "selective_checkpointing activation_offloading layer_offloading gc_steps gc_collect_steps max_memory "
        "gpu_memory_limit low_cpu_mem_usage"
    ),
    "weights and optimizer are of 32 bits, whatever the computation": "float16 float32 fp32_norms fp32_norm_classes",
    "the model is taken as it is": (
        "base_model_config model_type type_of_model cls_model_config is_*_derived_model model_quantization_config* "
        "overrides_of_model_* model_config model_kwargs rope_scaling reinit_weights experimental_skip_move_to_device"
    ),
    "name a folder or a hub id; another revision than main is fetched by hand": "revision_of_model model_revision",
    "the tokenizer is taken as it is; text of a document never becomes a control token": (
        "tokenizer_* special_tokens tokens added_tokens_overrides resize_token_embeddings_to_32x "
        "mean_resizing_embeddings shrink_embeddings embeddings_skip_upcast fix_untrained_tokens"
    ),
    "code that comes with a model is never run": "trust_remote_code",
    "a secret has no place in a recipe: rewarm connections add hf": "hf_use_auth_token comet_api_key",
    "Rewarm has TensorBoard, MLflow and W&B; each takes its settings from its own environment": (
        "wandb_* mlflow_* hf_mlflow_log_artifacts use_comet comet_* use_trackio use_otel_metrics otel_* use_swanlab "
        "swanlab_*"
    ),
    "a non-finite or leaping loss is Rewarm's own guard's matter": "loss_watchdog_*",
    "a run goes through its epochs; save_best_checkpoint publishes the best": "early_stopping_patience",
    "about the file itself": "strict axolotl_config_path ddp",
}
_TEXT_TYPES = (None, "completion", "pretrain")
_FORMATS = ("json", "csv", "parquet", "text", "arrow")


def convert(d: Draft, default_name: str) -> None:
    """Fill ``d.recipe`` from Axolotl's keys.

    Raises:
        UserError: for what is no continual pretraining on text.
    """
    for key in ("rl", "reward_model", "process_reward_model"):
        if d.given.get(key):
            raise UserError(
                f"{key}: {d.given[key]} is not available in this version; pretraining is", remedy="import a pretraining"
            )
    if d.given.get("reinit_weights"):
        raise UserError("reinit_weights: Rewarm continues a model that has been trained", remedy="take that out")
    d.name(("wandb_name", "mlflow_run_name", "output_dir"), default_name)
    d.base_model("base_model")
    _data(d)
    _derived(d)
    trainer.training(d)
    _method(d)
    d.drop_rest(DROPPED)


def _data(d: Draft) -> None:
    sources: list[dict[str, Any]] = []
    panels: list[dict[str, Any]] = []
    for key, taken in (("datasets", sources), ("pretraining_dataset", sources), ("test_datasets", panels)):
        given = d.given.get(key) or []
        for number, entry in enumerate([given] if isinstance(given, str | dict) else given):
            _add(d, f"{key}[{number}]", {"path": entry} if isinstance(entry, str) else entry, taken)
        if given:
            path = "evaluation.panels" if taken is panels else "data.sources"
            d.tell(key, path, [one["name"] for one in taken])
    if not sources:
        sources.append({"name": "text", "path": "./corpus"})
        d.tell("data.sources", "data.sources", ["text"], "not in the file: put your text there, or mend its path")
    d.recipe["data"] = {"sources": sources}
    if panels:
        d.recipe["evaluation"] = {"panels": panels}
    if isinstance(share := d.given.get("val_set_size"), float) and 0 < share < 0.5:
        d.put("val_set_size", "data.held_out", share)
    d.drop("val_set_size", "data.held_out is a share of the documents, below 0.5, and there is always some")
    if d.given.get("sample_packing") is False:
        d.tell("sample_packing", "(always)", True, "documents are always packed, and none attends to another")


def _add(d: Draft, where: str, entry: dict[str, Any], taken: list[dict[str, Any]]) -> None:
    if not isinstance(entry, dict) or not entry.get("path"):
        raise UserError(f"{where}: needs a path", remedy="name a file, a folder or a data set of the hub")
    if (kind := entry.get("type")) not in _TEXT_TYPES and not str(kind).startswith("completion:"):
        raise UserError(
            f"{where}: type {kind if isinstance(kind, str) else 'with a prompt'} is supervised; only text is read",
            remedy="keep data sets of type completion or pretrain",
        )
    path, files, revision = str(entry["path"]), entry.get("data_files") or [], entry.get("revision")
    files = [files] if isinstance(files, str) else files
    if path in _FORMATS and files:
        found = [place(d, str(file), where) for file in files]
    else:
        root = place(d, path, where)
        if root is not None and root.startswith("hf://") and revision:
            root += f"@{revision}"
        found = [f"{root}/{file}" for file in files] if root and files else [root]
    paths = [path for path in found if path is not None]
    if not paths:
        return
    column = entry.get("field") or entry.get("text_column") or (str(kind).partition(":")[2] or None)
    text(d, str(entry.get("name") or path.rpartition("/")[2].partition(".")[0]), paths, column, taken)
    read = {"path", "data_files", "type", "field", "text_column", "revision", "ds_type"}
    said = [f"{key} is not read" for key, value in entry.items() if key not in read and value and value != "train"]
    if any("*" not in path and path.startswith("hf://") for path in paths):
        said.append("every file of the data set is read; add a folder or *.parquet to path for a part of it")
    if all(path.endswith(".txt") for path in paths):
        said.append("a .txt file is one document here, a document a line there")
    outcome: Any = "changed" if said else "mapped"
    d.notes.append(Note(where, entry, outcome, f"source {taken[-1]['name']}", taken[-1]["path"], "; ".join(said)))


def _derived(d: Draft) -> None:
    """What its own words for batches, saves and evaluations mean in the Trainer's."""
    given, found = d.given, dict[str, Any]()
    if (whole := given.get("batch_size")) and not given.get("gradient_accumulation_steps"):
        found["gradient_accumulation_steps"] = steps = max(1, whole // (given.get("micro_batch_size") or 1))
        d.tell("batch_size", "hyperparameters.gradient_accumulation_steps", steps, "the whole batch / micro_batch_size")
    d.drop("batch_size", "micro_batch_size and gradient_accumulation_steps say it")
    if given.get("warmup_steps") is not None:
        found["warmup_ratio"] = 0.0
    for word in ("save", "eval"):
        if given.get(f"{word}_steps"):
            found[f"{word}_strategy"] = "steps"
    if saves := given.get("saves_per_epoch"):
        found["save_strategy"] = "epoch"
        why = "" if saves == 1 else "each epoch; more often by checkpoint_strategy: steps"
        d.tell("saves_per_epoch", "hyperparameters.checkpoint_strategy", "epoch", why)
    if times := given.get("evals_per_epoch"):
        share = 1 / (times * max(1.0, float(given.get("num_epochs") or 1)))
        found |= {"eval_strategy": "steps", "eval_steps": share} if share < 1 else {"eval_strategy": "epoch"}
        d.tell("evals_per_epoch", "hyperparameters.eval_steps", share, "the same, as a share of all updates")
    for key in ("saves_per_epoch", "evals_per_epoch"):
        d.drop(key, "0: none")
    if old := given.get("evaluation_strategy"):
        found["eval_strategy"] = old
        d.tell("evaluation_strategy", "hyperparameters.eval_strategy", old)
    used = [name for name in ("tensorboard", "wandb", "mlflow") if given.get(f"use_{name}")]
    if given.get("wandb_project") and given.get("use_wandb") is None:
        used.append("wandb")
        d.tell("wandb_project", "trackers", "wandb", "the project is taken from WANDB_PROJECT")
    for name in ("tensorboard", "wandb", "mlflow"):
        if given.get(f"use_{name}"):
            d.tell(f"use_{name}", "trackers", name)
        d.drop(f"use_{name}", "not used")
    found["report_to"] = used
    d.defaults |= found
    d.derived |= found.keys()


def _method(d: Draft) -> None:
    adapter = d.given.get("adapter")
    if adapter not in (None, "lora", "qlora"):
        raise UserError(f"adapter: Rewarm has lora, not {adapter}", remedy="take lora, or none to train all parameters")
    kind = "lora" if adapter else "full"
    why = "the base in 4 bits is quantization_bit: int4" if adapter == "qlora" else ""
    d.put("adapter", "hyperparameters.finetuning_type", kind, why)
    if adapter:
        given = d.given.get("lora_target_modules")
        d.put("lora_r", "hyperparameters.lora_rank", d.given.get("lora_r") or 8)
        d.put("lora_alpha", "hyperparameters.lora_alpha", d.given.get("lora_alpha") or 8)
        d.put("lora_dropout", "hyperparameters.lora_dropout", float(d.given.get("lora_dropout") or 0.0))
        if d.given.get("lora_target_linear") or not given:
            d.put("lora_target_linear", "hyperparameters.target_modules", "all-linear")
            d.drop("lora_target_modules", "lora_target_linear: all of them")
        else:
            d.put("lora_target_modules", "hyperparameters.target_modules", [given] if isinstance(given, str) else given)
        trainer.beside_adapters(d, "peft_use_rslora", "lora_modules_to_save")
        d.drop("peft_use_dora", "Rewarm has plain LoRA, no DoRA")
    for key in (
        "lora_r",
        "lora_alpha",
        "lora_dropout",
        "lora_target_linear",
        "lora_target_modules",
        "lora_modules_to_save",
    ):
        d.drop(key, "there is no adapter" if not adapter else "false: lora_target_modules names them")
    for key, bits in (("load_in_4bit", "int4"), ("load_in_8bit", "int8")):
        if d.given.get(key) and adapter:
            d.put(key, "hyperparameters.quantization_bit", bits)
        d.drop(key, "not quantised" if not d.given.get(key) else "only a base under an adapter is quantised")
    given = d.given.get("gradient_checkpointing")
    why = "its opposite" if given in (None, True, False) else f"its opposite; nothing is offloaded ({given})"
    off = not given
    d.put("gradient_checkpointing", "hyperparameters.disable_gradient_checkpointing", off, why)
    if d.given.get("flash_attention"):
        d.put("flash_attention", "hyperparameters.flash_attention_v2", True)
    d.drop("flash_attention", "packed documents always take the fastest attention that there is")
