"""A small valid recipe, and the JSON block of the reference platform's published run."""

from __future__ import annotations

import pytest

REFERENCE_JSON = """{
"batch_size": 8,
"checkpoint_steps": 1000,
"checkpoint_strategy": "epoch",
"disable_gradient_checkpointing": false,
"distributed_backend": "ddp",
"dpo_label_smoothing": 0,
"epochs": 2,
"eval_steps": 1000,
"eval_strategy": "epoch",
"finetuning_type": "full",
"flash_attention_v2": false,
"full_determinism": false,
"gradient_accumulation_steps": 16,
"learning_rate": 0.00004,
"logging_steps": 10,
"lora_alpha": 32,
"lora_dropout": 0.05,
"lora_rank": 16,
"lr_scheduler_type": "linear",
"lr_warmup_steps": 0,
"max_grad_norm": 1,
"max_sequence_length": 2048,
"mixed_precision": "bf16",
"number_of_checkpoints": 1,
"optimizer": "adamw",
"pref_beta": 0.1,
"pref_ftx": 0,
"pref_loss": "sigmoid",
"quantization_bit": "none",
"save_best_checkpoint": false,
"seed": 1309,
"simpo_gamma": 0.5,
"target_modules": "all-linear",
"weight_decay": 0,
"zero_stage": 1
}"""


@pytest.fixture
def minimal() -> str:
    return "name: a\nbase_model: org/model\ndata:\n  sources:\n    - {name: law, path: law.jsonl}\n"


@pytest.fixture
def reference(minimal: str) -> str:
    return minimal + "hyperparameters: " + REFERENCE_JSON + "\n"
