"""Texts that a model writes from nothing: samples of what it knows, for replay where its training data is closed.

Each begins from the one token that stands before every document and goes on as the model believes (temperature 1,
no cut of the unlikely: Huang et al. 2024, arXiv 2403.01244, and 2605.26097 for samples without a prompt), until
the model ends it. Text number n is decided by the seed and n: which texts are written side by side changes nothing
but the rounding of the model's own sums.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rewarm.models.generate import Writer, choose
from rewarm.recipe.recipe import Generate

_PAUSE = re.compile(r"""\n|[.!?।]["'”’»)\]]*\s|[。！？]""")


class Sample(NamedTuple):
    text: str
    tokens: int  # of the text, as the tokenizer encodes it again


@torch.inference_mode()
def sample(
    writer: Writer, start: int, numbers: range, settings: Generate, told: Callable[[int], None] = lambda tokens: None
) -> list[Sample]:
    """The texts with these numbers behind the token ``start``, written side by side.

    ``told`` hears after each token how many were written.

    A text that is broken off after ``max_tokens`` is cut back to its last full sentence, so that replay does not
    teach the model to end in the middle of one. A text may be empty.
    """
    limit = min(settings.max_tokens, (writer.positions or settings.max_tokens + 1) - 1)
    ends = {start, writer.tokenizer.bos_token_id, *writer.ends} - {None}
    stops = torch.tensor(sorted(ends), device=writer.device)
    draws = torch.stack([_draws(settings.seed, number, limit) for number in numbers]).to(writer.device)  # (B, L)
    written = torch.zeros(draws.shape, dtype=torch.long, device=writer.device)
    lengths = torch.zeros(len(numbers), dtype=torch.long, device=writer.device)
    alive = torch.arange(len(numbers), device=writer.device)  # rows of the texts that have not ended
    last, cache = torch.full_like(alive, start), None
    for step in range(limit):
        out = writer.model(input_ids=last[:, None], past_key_values=cache, use_cache=True)
        logits = out.logits[:, -1, : len(writer.tokenizer)]
        last = choose(logits, draws[alive, step], settings.temperature, settings.top_p)
        cache, going = out.past_key_values, ~torch.isin(last, stops)
        if not going.all():
            kept = going.nonzero()[:, 0]
            alive, last = alive[kept], last[kept]
            if not len(alive):
                break
            cache.batch_select_indices(kept)
        written[alive, step] = last
        lengths[alive] += 1
        told(len(alive))
    return _texts(writer.tokenizer, [row[:n] for row, n in zip(written.tolist(), lengths.tolist(), strict=True)], limit)


def _draws(seed: int, number: int, count: int) -> Tensor:
    """``count`` numbers in [0, 1) for a text: the same for ever, as the order of training is (Philox)."""
    digest = hashlib.sha256(f"text\0{seed}\0{number}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return torch.from_numpy(generator.random(count))


def _texts(tokenizer: Any, rows: list[list[int]], limit: int) -> list[Sample]:
    decoded = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    texts = []
    for text, row in zip(decoded, rows, strict=True):
        pauses = [match.end() for match in _PAUSE.finditer(text)] if len(row) == limit else []
        texts.append((text[: pauses[-1]] if pauses else text.rstrip("\ufffd")).strip())
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [Sample(text, len(ids)) for text, ids in zip(texts, encoded, strict=True)]
