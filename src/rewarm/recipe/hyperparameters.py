"""The training hyperparameters, by the names, ranges and defaults of the platform our users know.

A JSON block pasted from there works unchanged. The default of each field is the platform's;
``resolve`` puts Rewarm's recommendation in its place where it has one. Whether a value was given
is kept by pydantic in ``model_fields_set``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from rewarm.core.config import Frozen

Positive = Annotated[int, Field(ge=1)]
Many = Annotated[int, Field(ge=1, le=1_000_000)]

# By program; LLaMA-Factory takes Hugging Face's names too. What is no bare name of ours says it in words.
_ELSEWHERE = {
    "LLaMA-Factory": {
        "cutoff_len": "max_sequence_length", "lora_target": "target_modules", "flash_attn": "flash_attention_v2",
    },
    "Hugging Face": {
        "bf16": "mixed_precision: bf16", "fp16": "mixed_precision: fp16", "optim": "optimizer",
        "block_size": "max_sequence_length", "max_length": "max_sequence_length",
        "max_seq_length": "max_sequence_length", "evaluation_strategy": "eval_strategy",
        "gradient_checkpointing": "disable_gradient_checkpointing (its opposite)",
        "load_best_model_at_end": "save_best_checkpoint", "num_train_epochs": "epochs",
        "per_device_train_batch_size": "batch_size", "save_steps": "checkpoint_steps",
        "save_strategy": "checkpoint_strategy", "save_total_limit": "number_of_checkpoints",
        "warmup_ratio": "lr_warmup_ratio", "warmup_steps": "lr_warmup_steps",
    },
    "Axolotl": {
        "adapter": "finetuning_type", "flash_attention": "flash_attention_v2", "lora_r": "lora_rank",
        "lora_target_linear": "target_modules: all-linear", "lora_target_modules": "target_modules",
        "lr_scheduler": "lr_scheduler_type", "micro_batch_size": "batch_size", "num_epochs": "epochs",
        "sequence_len": "max_sequence_length",
    },
}  # fmt: skip


def _logging_steps(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("must be at least 1, or -1 for every step")
    return value


def _eval_steps(value: int | float) -> int | float:
    if value < 1 and not 0 < value < 1:
        raise ValueError("must be at least 1, or between 0 and 1 for a share of all steps")
    if value >= 1 and value != int(value):
        raise ValueError("must be a whole number of steps when it is 1 or more")
    if value >= 2**63:
        raise ValueError("must fit into 64 bits")
    return value


def _checkpoint_path(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/") or not value:
        raise ValueError('must be "no", "last", or a path inside the run such as checkpoints/step-100')
    return value


def _stage(value: Any) -> Any:
    if isinstance(value, bool):  # to Python true is 1
        raise ValueError("must be 1, 2 or 3")
    return value


def _batch_size(value: Any) -> Any:
    if value == 0 and not isinstance(value, bool):
        raise ValueError("must be at least 1, or auto")
    return AUTO if value == "auto" else value


AUTO = 0
"""``batch_size: auto``, until ``resolve`` has put a number in its place."""


class Hyperparameters(Frozen):
    """The platform's 35 fields, the three that it documents besides, and two of LLaMA-Factory's for LoRA."""

    names_elsewhere: ClassVar[Mapping[str, str]] = {
        there: f"{program}'s {there} is {here} here"
        for program, names in _ELSEWHERE.items()
        for there, here in names.items()
    }

    # General
    batch_size: Annotated[
        int, BeforeValidator(_batch_size), PlainSerializer(lambda value: value or "auto", return_type=int | str)
    ] = Field(
        1,
        ge=AUTO,
        le=1_000_000,
        description="sequences per forward and backward pass on each device; auto: the most that fit, at the same "
        "sequences per update (gradient_accumulation_steps, taken as with batch_size 1)",
    )
    distributed_backend: Literal["ddp", "deepspeed"] = Field("ddp", description="the data-parallel engine")
    epochs: int = Field(1, ge=1, le=100_000, description="passes over the training data")
    finetuning_type: Literal["full", "lora"] = Field("lora", description="which parameters train")
    learning_rate: float = Field(1e-5, gt=0, lt=1, description="peak learning rate")
    max_sequence_length: Positive = Field(2048, description="tokens in a packed sequence")
    zero_stage: Annotated[Literal[1, 2, 3], BeforeValidator(_stage)] = Field(
        1, description="ZeRO sharding, with distributed_backend deepspeed"
    )
    resume_from_checkpoint: Annotated[str, AfterValidator(_checkpoint_path)] = Field(
        "last", description='"no", "last", or a path relative to the run'
    )
    # Training runtime
    disable_gradient_checkpointing: bool = Field(False, description="true turns activation recomputation off")
    flash_attention_v2: bool = Field(False, description="use the FlashAttention-2 kernel where it is installed")
    full_determinism: bool = Field(False, description="deterministic kernels only: reproducible, slower")
    gradient_accumulation_steps: Many = Field(4, description="micro-batches per update")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "wsd"] = Field(
        "linear", description="shape of the learning rate after the warm-up"
    )
    lr_warmup_steps: int = Field(0, ge=0, description="updates of linear warm-up from 0")
    lr_warmup_ratio: float = Field(0.0, ge=0, lt=1, description="share of all updates used for the warm-up")
    max_grad_norm: float = Field(1.0, ge=0, description="clip gradients to this norm; 0 is off")
    mixed_precision: Literal["bf16", "fp16", "none"] = Field("bf16", description="compute type")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimizer")
    quantization_bit: Literal["none", "int4", "int8"] = Field("none", description="quantise the frozen base")
    seed: int = Field(1309, ge=0, lt=2**63, description="random seed of order, dropout and initialisation")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    # LoRA
    additional_target: list[Literal["embeddings", "norms"]] = Field(
        default_factory=list, description="what trains whole beside the adapters: embeddings (with the head), norms"
    )
    lora_alpha: Positive = Field(32, description="LoRA scale")
    lora_dropout: float = Field(0.05, ge=0, le=1, description="dropout on LoRA inputs")
    lora_rank: int = Field(16, ge=1, le=65_536, description="rank of the LoRA matrices")
    merge_adapter: bool = Field(True, description="merge the adapter into the base at the end")
    target_modules: str | list[str] = Field("all-linear", description="modules that get LoRA")
    use_rslora: bool = Field(False, description="scale by alpha / sqrt(rank) in place of alpha / rank")
    # DPO
    dpo_label_smoothing: float = Field(0.0, ge=0, le=0.5, description="label smoothing of cDPO")
    pref_beta: float = Field(0.1, ge=0, le=1, description="beta of the preference loss")
    pref_ftx: float = Field(0.0, ge=0, le=10, description="weight of the added supervised loss")
    pref_loss: Literal["sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo"] = Field(
        "sigmoid", description="preference loss"
    )
    simpo_gamma: float = Field(0.5, gt=0, description="target reward margin of SimPO")
    # Others
    checkpoint_steps: Positive = Field(1000, description="updates between two checkpoints")
    checkpoint_strategy: Literal["no", "epoch", "steps"] = Field("epoch", description="when to write checkpoints")
    eval_steps: Annotated[int | float, AfterValidator(_eval_steps)] = Field(
        1000, description="updates between two evaluations; below 1, a share of all updates"
    )
    eval_strategy: Literal["no", "epoch", "steps"] = Field("epoch", description="when to evaluate")
    logging_steps: Annotated[int, AfterValidator(_logging_steps)] = Field(
        10, description="updates between two metric points; -1 is every update"
    )
    number_of_checkpoints: Positive = Field(5, description="checkpoints kept at the end")
    save_best_checkpoint: bool = Field(False, description="keep and publish the best by held-out loss")

    @model_validator(mode="before")
    @classmethod
    def _aliases(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = dict(value)
        if "deepspeed_zero_stage" in value:
            if "zero_stage" in value:
                raise ValueError("zero_stage and its alias deepspeed_zero_stage are both given")
            value["zero_stage"] = value.pop("deepspeed_zero_stage")
        if value.get("target_modules") in ("linear", "All linear"):
            value["target_modules"] = "all-linear"
        return value
