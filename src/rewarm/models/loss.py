"""Cross-entropy straight from hidden states, in chunks of tokens, so that the full logits never exist.

With a vocabulary of 128,256, the logits of 32,768 tokens are 16 GB in fp32, and their gradient as much again.
Here each chunk of logits becomes its share of the gradients at once, in the forward pass and in its own
memory; the backward pass only scales them. The matrix products are the same three as without chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rewarm.recipe.memory import LOGITS

IGNORED = -100


@dataclass(frozen=True)
class Head:
    """How hidden states become logits: ``softcap(scale * (hidden @ weight.T + bias))``."""

    weight: Tensor  # (V, d)
    bias: Tensor | None = None  # (V,)
    scale: float = 1.0
    softcap: float | None = None  # c * tanh(logits / c), as in Gemma 2


BySource = tuple[Tensor, Tensor]
"""Where each token is from, (N,) int64; and the sums of nats and targets by source, (2, sources), to add to."""


def linear_cross_entropy_sum(hidden: Tensor, head: Head, targets: Tensor, by_source: BySource | None = None) -> Tensor:
    """Sum of ``-log p(target)`` in nats over the targets that are not -100.

    Matrix products run in the autocast type where autocast is on, else in that of ``hidden``; softmax, sum
    and the gradient of the weight are fp32 at least.

    Args:
        hidden: (N, d).
        targets: (N,) int64.

    Returns:
        A scalar, differentiable once with respect to ``hidden`` and the head's weight and bias.
    """
    grad = torch.is_grad_enabled()
    wanted = tuple(grad and tensor is not None and tensor.requires_grad for tensor in (hidden, head.weight, head.bias))
    options = (head.weight, head.bias, targets, head.scale, head.softcap, wanted, by_source)
    loss: Tensor = _LinearCrossEntropy.apply(hidden, *options)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def linear_nll(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """``-log p(target)`` of each token in nats, (N,) fp32; 0 where the target is -100. Carries no gradient."""
    nll = torch.zeros(targets.shape, dtype=torch.float32, device=hidden.device)
    compute, exact = _types(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        weight, bias = head.weight.to(compute), None if head.bias is None else head.bias.to(exact)
        for rows in _chunks(len(targets), weight):
            logits = _logits(hidden[rows].to(compute), weight, bias, head.scale, head.softcap, exact)
            picked = _pick(logits, targets[rows])
            nll[rows] = torch.where(targets[rows] == IGNORED, 0.0, logits.logsumexp(-1) - picked)
    return nll


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        softcap: float | None,
        wanted: tuple[bool, bool, bool],
        by_source: BySource | None,
    ) -> Tensor:
        ctx.types = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            loss, ctx.grads = _loss_and_gradients(
                hidden, Head(weight, bias, scale, softcap), targets, wanted, by_source
            )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("the gradients of this loss were used up by an earlier backward pass")
        grads, ctx.grads = ctx.grads, None  # scaled in place: they are as large as the head
        scaled = (None if g is None else g.mul_(grad_loss).to(t) for g, t in zip(grads, ctx.types, strict=True))
        return (*scaled, *[None] * 5)


def _loss_and_gradients(
    hidden: Tensor, head: Head, targets: Tensor, wanted: tuple[bool, bool, bool], by_source: BySource | None
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    compute, exact = _types(hidden)
    weight, bias = head.weight.to(compute), None if head.bias is None else head.bias.to(exact)
    loss = torch.zeros((), dtype=exact, device=hidden.device)
    d_hidden = torch.zeros(hidden.shape, dtype=exact, device=hidden.device) if wanted[0] else None
    d_weight = torch.zeros(weight.shape, dtype=exact, device=hidden.device) if wanted[1] else None
    d_bias = torch.zeros(len(weight), dtype=exact, device=hidden.device) if wanted[2] else None
    buffer = None  # one for all chunks: fresh memory of this size costs the kernel time to clear it
    for rows in _chunks(len(targets), weight):
        valid = targets[rows] != IGNORED
        if buffer is None:
            buffer = torch.empty(len(valid) + 1, len(weight), dtype=compute, device=hidden.device)
        if hidden.device.type == "cpu" and not bool(valid.all()):  # on a GPU this would wait for the device
            rows = valid.nonzero().squeeze(1) + rows.start
            valid = valid[valid]
        x, target = hidden[rows].to(compute), targets[rows]
        logits = _logits(x, weight, bias, head.scale, head.softcap, exact, buffer[: len(x)])
        slope = (1 - (logits / head.softcap).square_()) if head.softcap is not None and any(wanted) else None
        nll, gradient = _softmax(logits, target)
        nll = torch.where(valid, nll, 0)
        loss += nll.sum()
        if by_source is not None:
            sources, sums = by_source
            sums.index_add_(1, sources[rows], torch.stack([nll, valid]).to(sums.dtype))
        if not any(wanted):
            continue
        gradient.scatter_add_(1, target.clamp_min(0)[:, None], gradient.new_full((len(target), 1), -1.0))
        if slope is not None:
            gradient.mul_(slope)
        # The scale and the mask go on the narrow side of each product, (rows, d) instead of (rows, V).
        narrow = (valid * head.scale).to(exact)[:, None]
        if d_bias is not None:
            d_bias += (gradient * narrow).sum(0)
        gradient = gradient.to(compute)
        if d_hidden is not None:
            d_hidden[rows] = (gradient @ weight) * narrow
        if d_weight is not None:
            _add_product(d_weight, gradient.T, (x * narrow).to(compute))
    return loss, (d_hidden, d_weight, d_bias)


def _types(hidden: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """The type of the matrix products, and that of everything which must not be rounded."""
    device = hidden.device.type
    compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return compute, torch.promote_types(compute, torch.float32)


def _chunks(n: int, weight: Tensor) -> Iterator[slice]:
    """Slices that cover ``range(n)`` in chunks of nearly one size, whose fp32 logits keep to the byte budget."""
    budget = LOGITS.get(weight.device.type, LOGITS["cuda"])
    most = max(1, budget // (4 * len(weight)))
    count = -(-n // most)
    for i in range(count):
        yield slice(n * i // count, n * (i + 1) // count)


def _logits(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
    exact: torch.dtype,
    out: Tensor | None = None,
) -> Tensor:
    """(rows, V). In the type of ``x`` where nothing but the product is to be done, else in ``exact``."""
    logits = torch.mm(x, weight.T, out=out)
    if bias is None and scale == 1.0 and softcap is None:
        return logits
    logits = logits.to(exact)
    if bias is not None:
        logits += bias
    if scale != 1.0:
        logits *= scale
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    return logits


def _pick(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit of each target, (rows,), in fp32 at least; that of token 0 where there is no target."""
    picked = logits.gather(1, targets.clamp_min(0)[:, None]).squeeze(1)
    return picked.to(torch.promote_types(logits.dtype, torch.float32))


def _softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """``-log p(target)`` (rows,) and all probabilities (rows, V), in fp32 at least. Overwrites ``logits``."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    if logits.is_cuda:  # one kernel reads the low precision and writes fp32: half the memory traffic
        log_p = torch.log_softmax(logits, -1, dtype=exact)
        return -_pick(log_p, targets), log_p.exp_()
    picked, logits = _pick(logits, targets), logits.to(exact)
    largest = logits.amax(1, keepdim=True)
    total = logits.sub_(largest).exp_().sum(1, keepdim=True)
    return (largest + total.log()).squeeze(1) - picked, logits.div_(total)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right``, with the sum in fp32 at least, whatever the type of the factors."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif left.is_cuda:
        total += torch.mm(left, right, out_dtype=total.dtype)
    else:
        total += left @ right
