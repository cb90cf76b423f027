"""The arguments of Hugging Face's Trainer, which LLaMA-Factory and Axolotl both stand on, as hyperparameters."""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

from rewarm.recipe.imports.draft import Draft

SAME = {
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "seed": "seed",
    "full_determinism": "full_determinism",
    "max_sequence_length": "max_sequence_length",
}
_SCHEDULES = {
    "linear": ("linear", ""),
    "cosine": ("cosine", ""),
    "constant": ("constant", ""),
    "constant_with_warmup": ("constant", ""),
    "warmup_stable_decay": ("wsd", "the same shape under a shorter name; its decay is Rewarm's"),
    "polynomial": ("linear", "a polynomial of power 1, their default, is a line"),
    "cosine_with_restarts": ("cosine", "Rewarm's cosine has no restarts"),
    "cosine_with_min_lr": ("cosine", "Rewarm's cosine ends at 0"),
    "cosine_warmup_with_min_lr": ("cosine", "Rewarm's cosine ends at 0"),
}

DROPPED = {
    "Rewarm's AdamW has betas 0.9 and 0.95, epsilon 1e-8 and no other arguments": (
        "adam_beta1 adam_beta2 adam_epsilon optim_args optim_target_modules"
    ),
    "Rewarm's schedules have no arguments": "lr_scheduler_kwargs",
    "how batches reach the device is decided by Rewarm; no token is dropped, and the order follows from the seed": (
        "dataloader_* remove_unused_columns label_names length_column_name train_sampling_strategy group_by_length "
        "accelerator_config ignore_data_skip average_tokens_across_devices data_seed"
    ),
    "how ranks talk to each other is decided by Rewarm": "ddp* parallelism_config local_rank master_addr master_port",
    "where it pays, Rewarm compiles and takes the fastest kernels by itself": (
        "torch_compile* use_liger_kernel enable_liger_kernel liger_kernel_config tf32 use_cache torch_empty_cache_steps"
    ),
    "gradient checkpointing has one form; disable_gradient_checkpointing turns it off": (
        "gradient_checkpointing_kwargs use_reentrant_gc"
    ),
    "evaluation has its own batches: held-out text is scored in bits per byte, before, during and after": (
        "per_device_eval_batch_size eval_delay eval_on_start eval_accumulation_steps eval_do_concat_batches "
        "eval_use_gather_object prediction_loss_only batch_eval_metrics include_for_metrics bf16_full_eval "
        "fp16_full_eval do_eval do_predict metric_for_best_model greater_is_better compute_accuracy "
        "predict_with_generate generation_* sortish_sampler eval_num_beams eval_on_each_dataset"
    ),
    "every record holds speed, memory, loss and rate at each metric point": (
        "logging_strategy logging_first_step logging_nan_inf_filter logging_dir log_level log_level_replica "
        "log_on_each_node disable_tqdm include_num_input_tokens_seen include_tokens_per_second include_tkps "
        "include_effective_tokens_per_second plot_loss print_param_status skip_memory_metrics debug profiler_* "
        "profile_modules enable_torch_profiler project"
    ),
    "checkpoints are whole, checked and resumable, always": (
        "save_only_model save_on_each_node save_safetensors enable_jit_checkpoint "
        "restore_callback_states_from_checkpoint overwrite_output_dir"
    ),
    "a checkpoint of another program cannot be resumed; name its exported model as base_model": (
        "resume_from_checkpoint auto_resume_from_checkpoints"
    ),
    "Rewarm publishes to its own Model Hub, and uploads nothing": "push_to_hub hub_* trackio_*",
    "the loss is plain cross-entropy of the next token": "label_smoothing_factor neftune_* noisy_embedding_alpha",
    "batch_size: auto finds the largest that fits": "auto_find_batch_size",
    "infrastructure.devices says where the run goes": "use_cpu no_cuda device device_map",
    "a run goes through all its stages": "do_train",
}
"""What has no field in a recipe: the reason, and the names (with ``*``)."""


def training(d: Draft) -> None:
    """Everything about the training itself; the sources are in the recipe by then."""
    for name, hyperparameter in SAME.items():
        d.same(name, hyperparameter)
    _length(d)
    _rate(d)
    _optimizer(d)
    _precision(d)
    _checkpoints(d)
    _evaluations(d)
    _sharding(d)
    _trackers(d)


def _length(d: Draft) -> None:
    """Epochs, which may be a fraction there; or steps, which here are tokens."""
    sources = d.recipe["data"]["sources"]
    epochs, steps = float(d.value("num_train_epochs")), d.value("max_steps") or -1
    if steps > 0:
        values = d.recipe["hyperparameters"]
        update = values["batch_size"] * values["gradient_accumulation_steps"] * values["max_sequence_length"]
        why = f"{steps:,} updates of {update:,} tokens on one device; on N, make it N times as many"
        if len(sources) == 1:
            sources[0]["tokens"] = steps * update
            d.tell("max_steps", "data.sources[0].tokens", steps * update, why)
        else:
            d.drop(
                "max_steps", f"a run ends after its epochs: set tokens of the sources, in all {steps * update:,}: {why}"
            )
        d.put("num_train_epochs", "hyperparameters.epochs", 1, "max_steps goes before it")
        return
    whole = max(1, math.ceil(epochs))
    for source in sources if whole != epochs else ():
        source["weight"] = round(epochs / whole, 6)
    why = (
        f"{epochs:g} epochs: {whole} in which each source is seen {epochs / whole:.3g} times" if whole != epochs else ""
    )
    d.put("num_train_epochs", "hyperparameters.epochs", whole, why)
    d.drop("max_steps", "not above 0: the epochs count")


def _rate(d: Draft) -> None:
    schedule = str(d.value("lr_scheduler_type"))
    known, why = _SCHEDULES.get(schedule, (None, ""))
    if known is None:
        d.drop("lr_scheduler_type", "Rewarm has linear, cosine, constant and wsd, and takes what it recommends")
    else:
        d.put("lr_scheduler_type", "hyperparameters.lr_scheduler_type", known, why)
    steps, ratio = d.value("warmup_steps") or 0, d.value("warmup_ratio") or 0.0
    if schedule == "constant":
        for name in ("warmup_steps", "warmup_ratio"):
            d.drop(name, "their constant schedule has no warm-up (constant_with_warmup has)")
    elif steps >= 1:
        d.put("warmup_steps", "hyperparameters.lr_warmup_steps", int(steps))
        d.drop("warmup_ratio", "warmup_steps goes before it")
    elif steps or ratio:
        name = "warmup_steps" if steps else "warmup_ratio"
        d.put(name, "hyperparameters.lr_warmup_ratio", float(steps or ratio), "below 1: a share" if steps else "")
        d.drop("warmup_steps", "warmup_ratio says it")
    else:
        d.put("warmup_steps", "hyperparameters.lr_warmup_steps", 0)
        d.drop("warmup_ratio", "0: no warm-up")


def _optimizer(d: Draft) -> None:
    given = str(d.value("optim"))
    if given in ("sgd", "adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw"):
        d.put("optim", "hyperparameters.optimizer", "sgd" if given == "sgd" else "adamw")
    else:
        why = (
            "AdamW with states of 32 bits" if given.startswith(("adamw", "paged_adamw")) else "Rewarm has AdamW and SGD"
        )
        d.put("optim", "hyperparameters.optimizer", "adamw", why)


def _precision(d: Draft) -> None:
    bf16, fp16, pure = (d.value(name) for name in ("bf16", "fp16", "pure_bf16"))
    path = "hyperparameters.mixed_precision"
    if bf16:
        d.put("bf16", path, "bf16", "" if bf16 is True else "the computation is in bf16, the weights stay in 32 bits")
    elif pure:
        d.put("pure_bf16", path, "bf16", "the computation is in bf16, but the weights stay in 32 bits")
    elif fp16:
        d.put("fp16", path, "fp16")
    elif bf16 is not None or fp16 is not None:
        d.put("fp16" if bf16 is None else "bf16", path, "none")
    for name in ("bf16", "fp16", "pure_bf16"):
        d.drop(name, "mixed_precision says it")


def _checkpoints(d: Draft) -> None:
    strategy, steps = str(d.value("save_strategy")).lower(), d.value("save_steps")
    if strategy == "steps" and isinstance(steps, float) and 0 < steps < 1:
        strategy = "epoch"
        d.drop("save_steps", "a share of all steps; Rewarm counts updates, so checkpoints come with each epoch")
    known = strategy in ("no", "epoch", "steps")
    why = "" if known else "there is no such word here; save_best_checkpoint keeps the best"
    d.put("save_strategy", "hyperparameters.checkpoint_strategy", strategy if known else "epoch", why)
    if strategy == "steps":
        d.put("save_steps", "hyperparameters.checkpoint_steps", int(steps))
    d.drop("save_steps", f"save_strategy is {strategy}")
    d.same("save_total_limit", "number_of_checkpoints")


def _evaluations(d: Draft) -> None:
    strategy, steps = str(d.value("eval_strategy")).lower(), d.value("eval_steps")
    d.put("eval_strategy", "hyperparameters.eval_strategy", strategy)
    if strategy == "steps":
        d.put("eval_steps", "hyperparameters.eval_steps", steps or d.value("logging_steps") or 500)
    d.drop("eval_steps", f"eval_strategy is {strategy}")
    if isinstance(every := d.value("logging_steps"), float) and 0 < every < 1:
        d.drop("logging_steps", "a share of all steps; Rewarm counts updates")
    else:
        d.same("logging_steps", "logging_steps")
    if d.value("load_best_model_at_end"):
        if strategy != "no" and strategy == d.recipe["hyperparameters"]["checkpoint_strategy"]:
            d.put("load_best_model_at_end", "hyperparameters.save_best_checkpoint", True, "the best by held-out loss")
        else:
            d.drop("load_best_model_at_end", "needs checkpoints and evaluations at the same moments")
    d.drop("load_best_model_at_end", "false: the last weights are published, as always")


def _sharding(d: Draft) -> None:
    deepspeed, fsdp, config = d.value("deepspeed"), d.value("fsdp"), d.value("fsdp_config")
    stage, name = None, "deepspeed"
    if deepspeed:
        stage = _zero_stage(d, deepspeed)
    elif fsdp or config:
        name = "fsdp" if fsdp else "fsdp_config"
        words = str(fsdp).lower()
        more = config if isinstance(config, dict) else {}
        freed = more.get("reshard_after_forward", more.get("fsdp_reshard_after_forward", True))
        stage = 2 if "grad_op" in words or freed is False else 0 if "no_shard" in words else 3
    if stage:
        d.put(
            name, "hyperparameters.distributed_backend", "deepspeed", "sharding by PyTorch's FSDP2, without offloading"
        )
        d.put(name, "hyperparameters.zero_stage", stage, "the stage; the rest of that configuration is not read")
    for each in ("deepspeed", "fsdp", "fsdp_config"):
        d.drop(each, "nothing is sharded there" if stage == 0 else "zero_stage says how the states are sharded")


def _zero_stage(d: Draft, deepspeed: Any) -> int:
    """The ZeRO stage of a configuration; where the file is not at hand, by its name."""
    found: Any = deepspeed
    if isinstance(deepspeed, str):
        path = d.find(deepspeed)
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8")) if path else None
        if not isinstance(found, dict):
            named = re.search(r"z(?:ero)?[_-]?(?:stage)?[_-]?([0-3])", deepspeed)
            return int(named[1]) if named else 2
    stage = (found.get("zero_optimization") or {}).get("stage", 0)
    return stage if stage in (0, 1, 2, 3) else 2


def _trackers(d: Draft) -> None:
    given = d.value("report_to") or []
    words = [given] if isinstance(given, str) else list(given)
    if known := [word for word in words if word in ("tensorboard", "wandb", "mlflow")]:
        why = "" if known == words else "Rewarm tells TensorBoard, MLflow and W&B"
        d.put("report_to", "trackers", known, why)
    d.drop("report_to", "no tracker that Rewarm tells: it has TensorBoard, MLflow and W&B")


def beside_adapters(d: Draft, scaled: str, whole: str) -> None:
    """The scale by the root of the rank, and what trains whole beside the adapters; named by their keys."""
    if d.given.get(scaled):
        d.put(scaled, "hyperparameters.use_rslora", True)
    d.drop(scaled, "false, as always")
    names = d.given.get(whole) or []
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    kinds = {
        name: "norms" if "norm" in name else "embeddings" for name in names if re.search("norm|emb|head|wte", name)
    }
    if kinds:
        left = [name for name in names if name not in kinds]
        why = "by kind: embeddings (with the head) and norms" + (f"; not {', '.join(left)}" if left else "")
        d.put(whole, "hyperparameters.additional_target", sorted(set(kinds.values())), why)
    d.drop(whole, "beside adapters, embeddings and norms can train whole")
