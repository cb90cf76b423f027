"""Groups, clipping, un-scaling and the guard, against the plain arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.optimizer import build_optimizer, gradient_norm, guarded_update, parameter_groups


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.inner = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


@pytest.fixture
def model() -> Small:
    torch.manual_seed(3)
    made = Small()
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    return made


def update(model: Small, *, scale: float = 1.0, clip: float = 0.0, bad: bool = False, **changes: Any) -> None:
    optimizer = build_optimizer(model, Hyperparameters(finetuning_type="full", **changes))
    norm = gradient_norm(model.parameters()) / scale
    guarded_update(optimizer, 0.01, norm=norm, scale=torch.tensor(scale), max_grad_norm=clip, bad=torch.tensor(bad))


def test_decay_spares_norms_biases_and_embeddings(model: Small) -> None:
    decayed, spared = parameter_groups(model)
    assert {id(p) for p in decayed} == {id(model.inner.weight), id(model.head.weight)}
    assert len(spared) == 4 and not any(p is model.frozen for p in [*decayed, *spared])


def test_a_head_tied_to_the_embedding_is_spared(model: Small) -> None:
    model.head.weight = model.embedding.weight
    assert [id(p) for p in parameter_groups(model)[0]] == [id(model.inner.weight)]


def test_adamw_is_the_reference_update(model: Small) -> None:
    weight, gradient = model.inner.weight.detach().double(), model.inner.weight.grad.double()
    update(model, weight_decay=0.1)
    moved = weight * (1 - 0.01 * 0.1) - 0.01 * gradient / (gradient.abs() + 1e-8)  # the first step of Adam
    torch.testing.assert_close(model.inner.weight.detach().double(), moved, rtol=1e-5, atol=1e-7)


def test_sgd_is_the_reference_update(model: Small) -> None:
    weight, gradient = model.inner.weight.detach().clone(), model.inner.weight.grad.clone()
    update(model, optimizer="sgd", weight_decay=0.1)
    torch.testing.assert_close(model.inner.weight.detach(), weight * (1 - 0.01 * 0.1) - 0.01 * gradient)


@pytest.mark.parametrize(("scale", "clip"), [(1.0, 0.5), (1024.0, 0.0), (1024.0, 0.5), (1.0, 1e6)])
def test_clipping_and_unscaling_shrink_the_gradient_and_nothing_else(model: Small, scale: float, clip: float) -> None:
    weight, gradient = model.inner.weight.detach().clone(), model.inner.weight.grad.clone()
    norm = float(gradient_norm(model.parameters()))
    assert norm == pytest.approx(
        sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    )
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad *= scale
    update(model, scale=scale, clip=clip, optimizer="sgd")
    factor = min(1.0, clip / norm) if clip else 1.0
    torch.testing.assert_close(model.inner.weight.detach(), weight - 0.01 * factor * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_bad_gradient_moves_nothing(model: Small, optimizer: str) -> None:
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model.head.weight.grad[0, 0] = float("nan")
    update(model, bad=True, optimizer=optimizer, weight_decay=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
