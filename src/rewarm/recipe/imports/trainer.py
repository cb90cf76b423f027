"""The arguments of Hugging Face's Trainer, which LLaMA-Factory and Axolotl both stand on, as hyperparameters."""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

from rewarm.recipe.imports.draft import Draft

DEFAULTS = {
    "gradient_accumulation_steps": 1,
    "optim": "adamw_torch",
    "weight_decay": 0.0,
    "seed": 42,
    "save_steps": 500,
}
_SAME = "gradient_accumulation_steps learning_rate weight_decay max_grad_norm seed full_determinism max_sequence_length"


def training(d: Draft) -> None:
    """Everything about the training itself; the sources are in the recipe by then."""
    d.same(*_SAME.split(), per_device_train_batch_size="batch_size", save_total_limit="number_of_checkpoints")
    _length(d)
    _rate(d)
    _numbers(d)
    _moments(d)
    _sharding(d)
    words = listed(d.value("report_to"))
    if known := [word for word in words if word in ("tensorboard", "wandb", "mlflow")]:
        d.put("report_to", "trackers", known, "" if known == words else "Rewarm tells TensorBoard, MLflow and W&B")


def _length(d: Draft) -> None:
    """Epochs, which may be a fraction there; or steps, which here are tokens."""
    sources, values, why = d.recipe["data"]["sources"], d.recipe["hyperparameters"], ""
    epochs, steps = float(d.value("num_train_epochs")), d.value("max_steps") or -1
    whole = 1 if steps > 0 else max(1, math.ceil(epochs))
    if steps > 0:
        tokens = steps * values["batch_size"] * values["gradient_accumulation_steps"] * values["max_sequence_length"]
        why = f"{steps:,} updates are {tokens:,} tokens on one device, N times as many on N"
        if len(sources) == 1:
            sources[0]["tokens"] = tokens
            d.tell("max_steps", "data.sources[0].tokens", tokens, why)
        else:
            d.drop("max_steps", steps, f"a run ends after its epochs: set tokens of the sources; {why}")
        why = "max_steps goes before it"
    elif whole != epochs:
        for source in sources:
            source["weight"] = round(epochs / whole, 6)
        why = f"{epochs:g} epochs: {whole} in which each source is seen {epochs / whole:.3g} times"
    d.put("num_train_epochs", "epochs", whole, why)


def _rate(d: Draft) -> None:
    given, steps, ratio = (d.value(name) or 0 for name in ("lr_scheduler_type", "warmup_steps", "warmup_ratio"))
    kinds = {"linear": "linear", "cosine": "cosine", "constant": "constant", "warmup": "wsd", "polynomial": "linear"}
    if known := kinds.get(str(given).partition("_")[0]):
        why = (
            "" if given in (known, "constant_with_warmup") else "the nearest shape: no restarts, floors or powers here"
        )
        d.put("lr_scheduler_type", "lr_scheduler_type", known, why)
    if given == "constant":
        return
    if 0 < steps < 1:
        d.put("warmup_steps", "lr_warmup_ratio", float(steps), "below 1: a share")
    elif ratio and not steps:
        d.put("warmup_ratio", "lr_warmup_ratio", float(ratio))
    else:
        d.put("warmup_steps", "lr_warmup_steps", int(steps))


def _numbers(d: Draft) -> None:
    """The optimizer, and what is computed in."""
    given = str(d.value("optim"))
    plain = given in ("sgd", "adamw", "adamw_hf", "adamw_torch", "adamw_torch_fused")
    why = "" if plain else "Rewarm has AdamW, with states of 32 bits, and SGD"
    d.put("optim", "optimizer", "sgd" if given == "sgd" else "adamw", why)
    said = [name for name in ("bf16", "pure_bf16", "fp16") if d.value(name) is not None]
    for name in sorted(said, key=lambda name: not d.value(name))[:1]:  # what is on goes before what is off
        on = d.value(name)
        why = "the computation is in bf16, the weights stay in 32 bits" if on == "auto" or name == "pure_bf16" else ""
        d.put(name, "mixed_precision", name.removeprefix("pure_") if on else "none", why)


def _moments(d: Draft) -> None:
    """When checkpoints are written, and when held-out text is scored."""
    save, steps, every = str(d.value("save_strategy")), d.value("save_steps"), d.value("logging_steps") or 0
    score, counted = str(d.value("eval_strategy") or "no"), save == "steps" and steps >= 1
    known = counted or save in ("no", "epoch")
    why = "" if known else "Rewarm has no, epoch, and steps as a number; save_best_checkpoint keeps the best"
    d.put("save_strategy", "checkpoint_strategy", save if known else "epoch", why)
    if counted:
        d.put("save_steps", "checkpoint_steps", int(steps))
    d.put("eval_strategy", "eval_strategy", score)
    if score == "steps":
        d.put("eval_steps", "eval_steps", d.value("eval_steps") or every or 500)
    if every >= 1:
        d.put("logging_steps", "logging_steps", int(every))
    if d.value("load_best_model_at_end") and score == save != "no" and known:
        d.put("load_best_model_at_end", "save_best_checkpoint", True, "the best by held-out loss")


def _sharding(d: Draft) -> None:
    """The stage of ZeRO that a configuration of DeepSpeed says, or that of FSDP comes to."""
    found, config = d.value("deepspeed"), d.value("fsdp_config")
    name = next((name for name in ("deepspeed", "fsdp", "fsdp_config") if d.value(name)), "")
    more, words = config if isinstance(config, dict) else {}, str(d.value("fsdp"))
    freed = more.get("reshard_after_forward", more.get("fsdp_reshard_after_forward", True))
    stage = 2 if "grad_op" in words or not freed else 0 if "no_shard" in words or not name else 3
    if isinstance(found, str):  # where the file is not at hand, its name says the stage
        named = re.search(r"z(?:ero)?[_-]?(?:stage)?[_-]?([0-3])", found)
        path, found = d.find(found), {"zero_optimization": {"stage": int(named[1]) if named else 2}}
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8")) if path else found
    if found:
        stage = (found.get("zero_optimization") or {}).get("stage", 0)
    if stage:
        why = "sharded by PyTorch's FSDP2, without offloading; the rest of that configuration is not read"
        d.put(name, "distributed_backend", "deepspeed", why)
        d.put(name, "zero_stage", stage if stage in (1, 2, 3) else 2, why)


def adapters(d: Draft, target: Any) -> None:
    """LoRA, and what trains whole beside it, which Rewarm names by kind: embeddings (with the head) and norms."""
    d.same("lora_rank", "lora_alpha", "lora_dropout")
    d.put("lora_target", "target_modules", "all-linear" if target == "all" else listed(target))
    if d.value("use_rslora"):
        d.put("use_rslora", "use_rslora", True)
    names = listed(d.value("additional_target"))
    kinds = {one: "norms" if "norm" in one else "embeddings" for one in names if re.search("norm|emb|head|wte", one)}
    left = f"; not {', '.join(set(names) - kinds.keys())}" if len(kinds) < len(names) else ""
    if kinds:
        d.put("additional_target", "additional_target", sorted(set(kinds.values())), f"by kind, of two{left}")


def listed(value: Any) -> list[str]:
    """A list, or what commas separate."""
    items = value.split(",") if isinstance(value, str) else value or []
    return [str(item).strip() for item in items]
