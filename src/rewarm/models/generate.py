"""Text that a model writes after a prompt: the quickest look at what it has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rewarm.core.errors import UserError
from rewarm.models.causal import loading, quiet_transformers
from rewarm.models.folder import check_folder


def generate(
    folder: Path,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> str:
    """The continuation of ``prompt`` (without it) by the model in ``folder``, until it ends or the tokens do.

    The prompt is plain text: no chat template, no control tokens out of its characters.

    Args:
        temperature: 0 takes the likeliest token each time; above, tokens are drawn by ``seed``.

    Raises:
        ModelError: the folder cannot be used.
        UserError: the prompt is empty, and the model has no token to start from.
    """
    check_folder(folder)
    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=_dtype(device), use_safetensors=True, local_files_only=True
        ).to(device)
    with quiet_transformers():
        ids = tokenizer(prompt, return_tensors="pt", split_special_tokens=True)["input_ids"].long()
        if ids.shape[1] == 0 and tokenizer.bos_token_id is not None:
            ids = torch.tensor([[tokenizer.bos_token_id]])
        if ids.shape[1] == 0:
            raise UserError("the prompt is empty", remedy="write some words for the model to go on from")
        sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature > 0 else {}
        settings = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=ends_of_text(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            **sampling,
        )
        model.generation_config = settings  # not the base's, which may sample by rules of its own
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            ids = ids.to(device)
            written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    text: str = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    return text


def _dtype(device: torch.device | str) -> torch.dtype:
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


def ends_of_text(model: Any, tokenizer: Any) -> list[int] | None:
    """Every token that ends a text by the model's or the tokenizer's word, and <|endoftext|>."""
    named = [model.generation_config.eos_token_id, tokenizer.eos_token_id]
    ids = {token for entry in named for token in (entry if isinstance(entry, list) else [entry]) if token is not None}
    if (end := tokenizer.get_vocab().get("<|endoftext|>")) is not None:
        ids.add(end)
    return sorted(ids) or None
