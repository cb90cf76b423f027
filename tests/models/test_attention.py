"""Each kind of attention against the definition: one dense score matrix over the whole row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rewarm.core.errors import ModelError
from rewarm.models.attention import packed_attention, window_of_mask

LENGTHS = (5, 1, 9, 3)
N, HEADS, WIDTH = sum(LENGTHS), 4, 8


def dense(
    q: Tensor, k: Tensor, v: Tensor, window: int | None, softcap: float | None, sinks: Tensor | None, scaling: float
) -> Tensor:
    document = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    back = torch.arange(N)[:, None] - torch.arange(N)[None]
    visible = (document[:, None] == document[None]) & (back >= 0) & (back < (window or N))
    groups = HEADS // k.shape[1]
    scores = torch.einsum("hqd,hkd->hqk", q[0], k[0].repeat_interleave(groups, 0)) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~visible, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks[:, None, None].expand(HEADS, N, 1)], -1)
    weights = scores.softmax(-1)[..., :N]
    return torch.einsum("hqk,hkd->qhd", weights, v[0].repeat_interleave(groups, 0))[None]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(
    ("window", "softcap", "sinks"),
    [(None, None, False), (3, None, False), (1, None, False), (100, None, False), (None, 2.0, False), (3, 2.0, True)],
)
def test_equals_the_definition(kv_heads: int, window: int | None, softcap: float | None, sinks: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, N, WIDTH, requires_grad=True) for heads in (HEADS, kv_heads, kv_heads))
    extra = torch.randn(HEADS, requires_grad=True) if sinks else None
    cu = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    options = {"sliding_window": window, "softcap": softcap, "s_aux": extra, "scaling": 0.3}
    out, _ = packed_attention(nn.Identity(), q, k, v, cu_seqlens=cu, max_seqlen=9, lengths=LENGTHS, **options)
    want = dense(q, k, v, window, softcap, extra, 0.3)
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-6)
    leaves = [leaf for leaf in (q, k, v, extra) if leaf is not None]
    slope = torch.randn_like(want)
    for got, exact in zip(
        torch.autograd.grad((out * slope).sum(), leaves), torch.autograd.grad((want * slope).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-5)


def test_lengths_are_read_from_cu_seqlens_when_left_out() -> None:
    q, k, v = (torch.randn(1, 2, N, WIDTH) for _ in range(3))
    cu = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    given, _ = packed_attention(nn.Identity(), q, k, v, cu_seqlens=cu, max_seqlen=9, lengths=LENGTHS)
    read, _ = packed_attention(nn.Identity(), q, k, v, cu_seqlens=cu, max_seqlen=9)
    assert torch.equal(given, read)


@pytest.mark.parametrize(
    "options", [{}, {"cu_seqlens": torch.tensor([0, 4]), "position_bias": torch.zeros(1)}, {"is_causal": False}]
)
def test_refuses_what_it_does_not_compute(options: dict[str, object]) -> None:
    q = torch.randn(1, 2, 4, WIDTH)
    with pytest.raises(ModelError, match="packed documents"):
        packed_attention(nn.Identity(), q, q, q, **options)  # type: ignore[arg-type]


def test_masks_other_than_causal_and_sliding_are_refused() -> None:
    from transformers.masking_utils import (
        causal_mask_function,
        chunked_causal_mask_function,
        sliding_window_causal_mask_function,
    )

    assert window_of_mask(mask_function=causal_mask_function).item() == 0
    assert window_of_mask(mask_function=sliding_window_causal_mask_function(7), local_size=7).item() == 7
    with pytest.raises(ModelError, match="neither"):
        window_of_mask(mask_function=sliding_window_causal_mask_function(8), local_size=7)
    chunked = chunked_causal_mask_function(7, torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ModelError, match="neither"):
        window_of_mask(mask_function=chunked, local_size=7)
    with pytest.raises(ModelError, match="neither"):
        window_of_mask(mask_function=lambda b, h, q, k: q >= 0)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 3])
def test_flash_kernel_equals_the_definition(window: int | None) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, h, N, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for h in (4, 2, 2))
    cu = torch.tensor([0, *LENGTHS], device="cuda").cumsum(0).int()
    out, _ = packed_attention(nn.Identity(), q, k, v, cu_seqlens=cu, max_seqlen=9, sliding_window=window, scaling=0.125)
    leaves = [leaf.detach().float().cpu().requires_grad_() for leaf in (q, k, v)]
    want = dense(leaves[0], leaves[1], leaves[2], window, None, None, 0.125)
    torch.testing.assert_close(out.float().cpu(), want, rtol=0.02, atol=0.02)
    for got, exact in zip(
        torch.autograd.grad(out.float().sum(), [q, k, v]), torch.autograd.grad(want.sum(), leaves), strict=True
    ):
        torch.testing.assert_close(got.float().cpu(), exact, rtol=0.05, atol=0.05)
