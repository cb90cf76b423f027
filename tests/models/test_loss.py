"""The chunked loss against torch's own cross-entropy over full logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rewarm.models import loss
from rewarm.models.loss import Head, linear_cross_entropy_sum, linear_nll

N, D, V = 37, 16, 211


def reference(hidden: Tensor, head: Head, targets: Tensor, reduction: str = "sum") -> Tensor:
    logits = torch.nn.functional.linear(hidden, head.weight, head.bias) * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction=reduction)


def inputs(dtype: torch.dtype, bias: bool = False) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    offset = torch.randn(V, dtype=dtype, requires_grad=True) if bias else None
    targets = torch.randint(0, V, (N,))
    targets[[3, 4, 5, 20, N - 1]] = -100
    return hidden, weight, offset, targets


@pytest.fixture(params=[4 * V * 5, 1 << 30], ids=["chunks of 5", "one chunk"], autouse=True)
def chunk_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss.LOGITS, "cpu", request.param)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("bias", "scale", "softcap"), [(False, 1.0, None), (True, 0.25, None), (True, 1.5, 3.0), (False, 1.0, 30.0)]
)
def test_value_and_gradients(dtype: torch.dtype, bias: bool, scale: float, softcap: float | None) -> None:
    hidden, weight, offset, targets = inputs(dtype, bias)
    head = Head(weight, offset, scale, softcap)
    leaves = [leaf for leaf in (hidden, weight, offset) if leaf is not None]
    ours = linear_cross_entropy_sum(hidden, head, targets)
    theirs = reference(hidden, head, targets)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    assert ours.item() == pytest.approx(theirs.item(), rel=tolerance)
    mine = torch.autograd.grad(ours / 32, leaves)
    for got, want in zip(mine, torch.autograd.grad(theirs / 32, leaves), strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance * 10, atol=tolerance)
    torch.testing.assert_close(
        linear_nll(hidden, head, targets),
        reference(hidden, head, targets, "none").float(),
        rtol=1e-5,
        atol=1e-5,
    )


def test_accumulates_over_micro_batches_with_a_tied_weight() -> None:
    _, weight, _, targets = inputs(torch.float32)
    ids = torch.randint(0, V, (N,))
    for half in (slice(0, 20), slice(20, N)):
        hidden = torch.nn.functional.embedding(ids[half], weight)
        (linear_cross_entropy_sum(hidden, Head(weight), targets[half]) / 32).backward()
    ours, weight.grad = weight.grad, None
    (reference(torch.nn.functional.embedding(ids, weight), Head(weight), targets) / 32).backward()
    torch.testing.assert_close(ours, weight.grad, rtol=1e-5, atol=1e-6)


def test_autocast_computes_products_in_bf16_and_sums_in_fp32() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    want = torch.autograd.grad(reference(hidden, Head(weight), targets), [hidden, weight])
    with torch.autocast("cpu", torch.bfloat16):
        value = linear_cross_entropy_sum(hidden, Head(weight), targets)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(reference(hidden, Head(weight), targets).item(), rel=0.01)
    for got, exact in zip(torch.autograd.grad(value, [hidden, weight]), want, strict=True):
        assert got.dtype == torch.float32
        assert (got - exact).norm() < 0.02 * exact.norm()


def test_a_frozen_head_gets_no_gradient_and_no_grad_mode_builds_none() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    weight.requires_grad_(False)
    linear_cross_entropy_sum(hidden, Head(weight), targets).backward()
    assert weight.grad is None and hidden.grad is not None
    with torch.no_grad():
        assert not linear_cross_entropy_sum(hidden, Head(weight), targets).requires_grad


def test_without_any_target_the_loss_and_its_gradients_are_zero() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    value = linear_cross_entropy_sum(hidden, Head(weight), torch.full_like(targets, -100))
    value.backward()
    assert value.item() == 0 and hidden.grad is not None and not hidden.grad.any() and not weight.grad.any()


def test_huge_logits_stay_finite() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    value = linear_cross_entropy_sum(hidden * 1e4, Head(weight), targets)
    value.backward()
    assert torch.isfinite(value) and hidden.grad is not None and torch.isfinite(hidden.grad).all()


def test_a_second_backward_pass_is_refused() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    value = linear_cross_entropy_sum(hidden, Head(weight), targets)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used up"):
        value.backward()


def test_the_sums_by_source_are_exact_and_change_no_bit() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    sources = torch.arange(N) % 3
    sums = torch.zeros(2, 4, dtype=torch.float64)
    plain = linear_cross_entropy_sum(hidden, Head(weight), targets)
    value = linear_cross_entropy_sum(hidden, Head(weight), targets, (sources, sums))
    assert torch.equal(plain, value)
    for one, two in zip(
        torch.autograd.grad(plain, (hidden, weight)), torch.autograd.grad(value, (hidden, weight)), strict=True
    ):
        assert torch.equal(one, two)
    nll = linear_nll(hidden, Head(weight), targets).double()
    for source in range(4):
        mine = (sources == source) & (targets != -100)
        assert sums[0, source].item() == pytest.approx(nll[mine].sum().item(), rel=1e-6)
        assert sums[1, source] == mine.sum()
