"""Text that a model writes after a prompt: the quickest look at what it has learned.

A prompt is plain text: no chat template is ever rendered, and no characters become control tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.core.errors import UserError
from rewarm.models.causal import loading, quiet_transformers
from rewarm.models.folder import check_folder


@dataclass(frozen=True)
class Writer:
    """A model with what it needs to write. Build it with ``load_writer``."""

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    device: torch.device

    @property
    def positions(self) -> int | None:
        """Tokens that the model can look back on, where its configuration says so."""
        known = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return known if isinstance(known, int) else None


@dataclass
class Completion:
    """What was written so far. ``finish`` is None until it has ended: by itself or a stop text, or by the limit."""

    prompt_tokens: int
    tokens: int = 0
    finish: Literal["stop", "length"] | None = None


def load_writer(folder: Path, device: torch.device | str = "cpu", hashes: bool = True) -> Writer:
    """The model in ``folder``: fp32 on a CPU, bf16 on CUDA. Raises ``ModelError`` where it cannot be used."""
    check_folder(folder, hashes=hashes)
    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
    ends = frozenset(ends_of_text(model, tokenizer) or ())
    return Writer(model.to(device).eval(), tokenizer, ends, torch.device(device))


def complete(
    writer: Writer,
    prompt: str,
    *,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
) -> tuple[Completion, Iterator[str]]:
    """The continuation of ``prompt`` (without it), piece by piece as it is written, and what is known of it meanwhile.

    Args:
        temperature: 0 takes the likeliest token each time; above, tokens are drawn by ``seed``.
        top_p: draw among the likeliest tokens of this probability; 1: all.
        stop: texts before which it ends.

    Raises:
        UserError: the prompt is empty, and the model has no token to start from; or both are too long for it.
    """
    with quiet_transformers():
        ids: list[int] = list(writer.tokenizer(prompt, split_special_tokens=True)["input_ids"])
    if not ids and writer.tokenizer.bos_token_id is not None:
        ids = [writer.tokenizer.bos_token_id]
    if not ids:
        raise UserError("the prompt is empty", remedy="write some words for the model to go on from")
    if writer.positions is not None and len(ids) + max_tokens > writer.positions:
        raise UserError(
            f"the prompt has {len(ids)} tokens; with {max_tokens} more it exceeds the {writer.positions} that the "
            "model can look back on",
            remedy="shorten the prompt, or ask for fewer tokens",
        )
    done = Completion(len(ids))
    draws = _draws(seed, max_tokens) if temperature > 0 else None

    def choose_next(logits: Tensor) -> int:
        if draws is None:
            return int(logits.argmax())
        return int(choose(logits[None], draws[done.tokens][None].to(logits.device), temperature, top_p))

    return done, _until(stop, _pieces(writer, _tokens(writer, ids, max_tokens, choose_next, done)), done)


def generate(folder: Path, prompt: str, *, device: torch.device | str = "cpu", **settings: Any) -> str:
    """The whole continuation of ``prompt`` by the model in ``folder``; see ``complete`` for the settings."""
    return "".join(complete(load_writer(folder, device), prompt, **settings)[1])


@torch.inference_mode()
def _tokens(
    writer: Writer, ids: list[int], limit: int, choose_next: Callable[[Tensor], int], done: Completion
) -> Iterator[int]:
    """The tokens that follow ``ids``, until the model ends the text or the limit is reached."""
    known, cache = len(writer.tokenizer), None
    new = torch.tensor([ids], device=writer.device)
    while done.tokens < limit:
        out = writer.model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token, cache = choose_next(out.logits[0, -1, :known].float()), out.past_key_values
        if token in writer.ends:
            done.finish = "stop"
            return
        done.tokens += 1
        yield token
        new = torch.tensor([[token]], device=writer.device)
    done.finish = "length"


def _pieces(writer: Writer, tokens: Iterator[int]) -> Iterator[str]:
    """What each token adds to the text; "" while it has but a part of a character.

    Only the last few tokens are decoded again each time: what stands before them no longer changes.
    """
    ids: list[int] = []
    begin = told = 0  # of the tokens that are decoded again, and of those that were told
    for token in tokens:
        ids.append(token)
        before, now = _text(writer, ids[begin:told]), _text(writer, ids[begin:])
        if now.endswith("\ufffd"):
            yield ""
            continue
        yield now[len(before) :]
        begin, told = told, len(ids)
    rest = _text(writer, ids[begin:])[len(_text(writer, ids[begin:told])) :]
    yield rest.rstrip("\ufffd")  # a character that the limit has cut


def _text(writer: Writer, ids: list[int]) -> str:
    text: str = writer.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _until(stop: Sequence[str], pieces: Iterator[str], done: Completion) -> Iterator[str]:
    """The pieces up to the first of the stop texts; what may be the beginning of one is held back."""
    held = ""
    for piece in pieces:
        held += piece
        if found := [at for text in stop if (at := held.find(text)) >= 0]:
            done.finish = "stop"
            yield held[: min(found)]
            return
        back = max((n for text in stop for n in range(1, len(text)) if held.endswith(text[:n])), default=0)
        yield held[: len(held) - back]
        held = held[len(held) - back :]
    yield held


def _draws(seed: int, count: int) -> Tensor:
    """``count`` numbers in [0, 1): the same for ever, as the order of training is (Philox)."""
    digest = hashlib.sha256(f"completion\0{seed}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return torch.from_numpy(generator.random(count))


def choose(logits: Tensor, draws: Tensor, temperature: float, top_p: float) -> Tensor:
    """The token at the point ``draws`` of each row's cumulated probabilities, (B, V) and (B,) to (B,)."""
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        unlikely = ordered.cumsum(-1) - ordered >= top_p  # what comes before them is enough
        unlikely[:, 0] = False
        probabilities = torch.zeros_like(ordered).scatter(-1, index, ordered.masked_fill(unlikely, 0.0))
    upto = probabilities.double().cumsum(-1)  # in fp32 the last of 100,000 sums would be off by whole tokens
    chosen = torch.searchsorted(upto, (draws * upto[:, -1])[:, None], right=True)[:, 0]
    return chosen.clamp_max(logits.shape[-1] - 1)


def ends_of_text(model: Any, tokenizer: Any) -> list[int] | None:
    """Every token that ends a text by the model's or the tokenizer's word, and <|endoftext|>."""
    named = [model.generation_config.eos_token_id, tokenizer.eos_token_id]
    ids = {token for entry in named for token in (entry if isinstance(entry, list) else [entry]) if token is not None}
    if (end := tokenizer.get_vocab().get("<|endoftext|>")) is not None:
        ids.add(end)
    return sorted(ids) or None
