"""Tiny random models of real families, as folders on disk with a real tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 131
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # large enough for a mistake to show
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MakeModel = Callable[..., Path]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def save_tokenizer(folder: Path, size: int = VOCABULARY) -> None:
    words = ["<unk>", "<s>", "</s>", *(chr(33 + i) for i in range(94)), "Ġ"]
    words += [f"word{i}" for i in range(size - len(words))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template="{{ messages }}"
    ).save_pretrained(folder)


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """``make_model("llama", tie_word_embeddings=True, ...)``: the folder of a tiny random model."""

    def make(family: str = "llama", name: str = "base", dtype: torch.dtype = torch.float32, **values: Any) -> Path:
        folder = tmp_path / name
        config = AutoConfig.for_model(family, **{**SHAPE, **values})
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        for parameter in model.parameters():  # norms and biases that are 1 and 0 would hide mistakes
            if parameter.ndim == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)
        save_tokenizer(folder)
        return folder

    return make
