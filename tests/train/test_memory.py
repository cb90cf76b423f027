"""What a training is said to take, and what a process that trains takes: within a tenth (LoRA, recomputing: 15 %)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rewarm.recipe.facts import ModelFacts
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.memory import memory_bytes

SMALL = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 768, "num_attention_heads": 4}
MIDDLE = {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1408, "num_attention_heads": 8}
SMOLLM2 = {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "num_attention_heads": 9}
CUDA_LIBRARIES = 470_000_000
"""What torch's CUDA build takes more than its CPU build, also where it trains on a CPU."""
FULL, LORA = {"finetuning_type": "full"}, {"finetuning_type": "lora"}


@pytest.mark.skipif(sys.platform != "linux", reason="the estimate knows what Linux's heap wastes")
@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        (SMALL, {**FULL, "batch_size": 2}),
        (SMALL, {**LORA, "batch_size": 2}),
        *(
            pytest.param(shape, {**kind, "batch_size": batch, "disable_gradient_checkpointing": off},
                         marks=pytest.mark.nightly)
            for shape in (SMALL, MIDDLE, SMOLLM2) for kind in (FULL, LORA) for batch in (1, 4) for off in (True, False)
        ),
    ],
    ids=str,
)  # fmt: skip
def test_memory_is_as_estimated(base: Path, tmp_path: Path, shape: dict[str, Any], changes: dict[str, Any]) -> None:
    vocabulary = 49152 if shape is SMOLLM2 else 8000
    config = LlamaConfig(
        **shape, num_key_value_heads=shape["num_attention_heads"] // (3 if shape is SMOLLM2 else 2),
        vocab_size=vocabulary, tie_word_embeddings=True, max_position_embeddings=2048,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    for file in base.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    given = {
        "max_sequence_length": 512, "gradient_accumulation_steps": 2, "mixed_precision": "none",
        "disable_gradient_checkpointing": True, **changes,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.train.memory_used", str(tmp_path), json.dumps(given)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    facts = ModelFacts.of(json.loads((tmp_path / "config.json").read_text()))
    estimated = memory_bytes(facts, Hyperparameters.model_validate(given))
    # Under LoRA the heap falls into pieces: one and the same command took 757 and 837 MB; docs/recipe.md says so.
    lora, recompute = changes["finetuning_type"] == "lora", not given["disable_gradient_checkpointing"]
    estimated += CUDA_LIBRARIES if torch.version.cuda else 0
    assert estimated == pytest.approx(int(done.stdout), rel=0.15 if lora and recompute else 0.1)
