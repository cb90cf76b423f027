"""Attention over documents that are packed into one row: a token sees those before it in its own segment only.

transformers models call the function that is registered here in place of their own, once a layer, and hand it
what ``CausalModel.forward`` gave them. On a GPU in bf16 or fp16 all segments run in one variable-length flash
kernel. Elsewhere each segment is a call of its own: seven times as fast on a CPU as one call with a dense mask,
which computes what it then throws away.

``checked_attention`` is the same for the trial run that each loaded model makes (``packing.py``): there the
model also builds its masks, so that the window of each layer can be compared with the mask it stands for.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from rewarm.core.errors import ModelError

PACKED = "rewarm_packed"
CHECKED = "rewarm_packed_checked"
_VARLEN_TAKES_GQA = "enable_gqa" in inspect.signature(varlen_attn).parameters  # from torch 2.12 on


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int = 0,
    lengths: tuple[int, ...] = (),
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment.

    Args:
        query: (1, H, N, D); key (1, KV, N, D) and value (1, KV, N, E), where KV divides H.
        cu_seqlens: (segments + 1,) int32, the bounds of the segments; ``max_seqlen`` their greatest length.
        lengths: the same as Python integers, of use wherever segments run one by one.
        sliding_window: a token sees itself and the ``sliding_window - 1`` tokens before it.
        softcap: scores become ``softcap * tanh(scores / softcap)`` (Gemma 2).
        s_aux: (H,) scores of the attention sinks (gpt-oss).

    Returns:
        (1, N, H, E), and None for the attention weights.

    Raises:
        ModelError: if the model asks for an attention that this is not.
    """
    if cu_seqlens is None or attention_mask is not None or position_bias is not None or is_causal is False:
        raise ModelError(
            f"{type(module).__name__} does not work on packed documents",
            remedy="use a decoder-only model of a common family, such as Llama, Qwen, Gemma or Mistral",
        )
    window = None if sliding_window is None or sliding_window >= max_seqlen else sliding_window
    if softcap is None and s_aux is None and (low := _flash_type(query, key, value)) is not None and dropout == 0.0:
        return _varlen(query.to(low), key.to(low), value.to(low), cu_seqlens, max_seqlen, scaling, window), None
    sizes = list(lengths) or cu_seqlens.diff().tolist()
    outputs = []
    # split, not slices: the backward pass of a slice fills a row of zeros for every segment.
    for q, k, v in zip(*(torch.split(x, sizes, 2) for x in (query, key, value)), strict=True):
        if softcap is None and s_aux is None:
            output = _segment(q, k, v, scaling, dropout, window)
        else:
            output = _explicit_segment(q, k, v, scaling, dropout, window, softcap, s_aux)
        outputs.append(output.transpose(1, 2))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1), None


def _flash_type(query: Tensor, key: Tensor, value: Tensor) -> torch.dtype | None:
    """The type to run the flash kernel in, or None where it cannot run."""
    if not query.is_cuda or query.shape[-1] != value.shape[-1] or query.shape[-1] % 8 or query.shape[-1] > 256:
        return None
    # Rotary embeddings computed in fp32 leave query and key in fp32 even under autocast.
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
    return dtype if dtype in (torch.bfloat16, torch.float16) else None


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, cu: Tensor, longest: int, scaling: float | None, window: int | None
) -> Tensor:
    """All segments in one kernel: (1, H, N, D) to (1, N, H, D)."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (N, H, D), as the projections left them
    options: dict[str, Any] = {}
    if q.shape[1] != k.shape[1]:
        if _VARLEN_TAKES_GQA:
            options["enable_gqa"] = True
        else:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    left = -1 if window is None else window - 1  # tokens before the query's own
    output = varlen_attn(q, k, v, cu, cu, longest, longest, scale=scaling, window_size=(left, 0), **options)
    return cast(Tensor, output)[None]


def _segment(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, dropout: float, window: int | None) -> Tensor:
    """One segment of L tokens, (1, H, L, D) to (1, H, L, E)."""
    long = window is not None and q.shape[2] > window
    return scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=_visible(q.shape[2], window, q.device) if long else None,
        is_causal=not long,
        scale=scaling,
        dropout_p=dropout,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _explicit_segment(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """The same by its definition, with all scores in memory: for what no fused kernel computes."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q @ k.transpose(2, 3)).float() * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~_visible(q.shape[2], window, q.device), float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    weights = scores.softmax(-1)[..., : q.shape[2]].to(v.dtype)
    return nn.functional.dropout(weights, dropout) @ v


def _visible(length: int, window: int | None, device: torch.device) -> Tensor:
    """(L, L) bool: whether the token of a row sees that of a column."""
    return _square(-(-length // 1024) * 1024, window, device)[:length, :length]


@functools.lru_cache(maxsize=8)  # every layer and every segment asks for a corner of the same few
def _square(length: int, window: int | None, device: torch.device) -> Tensor:
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return causal if window is None else causal.triu(1 - window)


def checked_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: Any
) -> tuple[Tensor, None]:
    """``packed_attention``, after comparing the layer's window with that of the mask which it was given.

    Raises:
        ModelError: if they differ.
    """
    asked = options.get("sliding_window")
    meant = None if attention_mask is None else int(attention_mask) or None
    if asked != meant:
        raise ModelError(f"{type(module).__name__} masks a window of {meant} tokens but passes on {asked}")
    return packed_attention(module, query, key, value, None, **options)


def window_of_mask(*, mask_function: Any, local_size: int | None = None, **_: Any) -> Tensor:
    """In place of a mask, the width of its sliding window: (1, 1, 1, 1) int64, 0 for none.

    Raises:
        ModelError: if the mask is no causal mask, with or without a sliding window.
    """
    far = 1_000_003  # no multiple of a chunk size, so that attention in chunks shows
    back = torch.tensor([-1, 0, 1, (local_size or far) - 1, local_size or far])  # tokens that the key lies behind
    query, key = torch.full_like(back, far), far - back
    visible = torch.stack(
        [mask_function(torch.tensor(0), torch.tensor(0), q, k) for q, k in zip(query, key, strict=True)]
    )
    if not torch.equal(visible, (back >= 0) & (back < (local_size or far + 1))):
        raise ModelError("its attention is neither plainly causal nor a sliding window")
    return torch.tensor(local_size or 0).view(1, 1, 1, 1)


AttentionInterface.register(PACKED, packed_attention)  # without a mask function of that name, no mask is built
AttentionInterface.register(CHECKED, checked_attention)
AttentionMaskInterface.register(CHECKED, window_of_mask)
