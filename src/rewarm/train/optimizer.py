"""The optimizer, and what stands between a gradient and the weights: norm, clipping, loss scale, guard.

The fused optimizers of torch divide every gradient by ``grad_scale`` and do nothing at all where
``found_inf`` is 1, both read on the device. Clipping, un-scaling (fp16) and the guard against
non-finite values therefore cost no pass over the gradients and no wait of the host for the device.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, AdamW, Optimizer

from rewarm.models.ranks import world_size
from rewarm.recipe.hyperparameters import Hyperparameters


def build_optimizer(model: nn.Module, hyperparameters: Hyperparameters) -> Optimizer:
    """Fused AdamW (betas 0.9 and 0.95, eps 1e-8) or plain SGD over the parameters that train.

    Weight decay is decoupled and spares norms, biases, everything one-dimensional, and embeddings
    (a head tied to the embedding is the same parameter).
    """
    decayed, spared = parameter_groups(model)
    groups = [
        {"params": decayed, "weight_decay": hyperparameters.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = hyperparameters.learning_rate
    if keeps_gradients(hyperparameters):
        for parameter in (*decayed, *spared):
            parameter.grad = torch.zeros_like(parameter)
    if hyperparameters.optimizer == "sgd":
        return SGD(groups, lr=rate, fused=True)  # without momentum, decay in the gradient is decoupled decay
    return AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8, fused=True)


def keeps_gradients(hyperparameters: Hyperparameters) -> bool:
    """Whether gradients lie in one place for good, zeroed and not freed before an update.

    Those of adapters are small: made anew each time, between the large blocks of each layer, they break a CPU's
    heap into pieces (a tenth more memory). Several ranks share theirs by means of their own.
    """
    return hyperparameters.finetuning_type == "lora" and world_size() == 1


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that train, as (decayed, spared from decay)."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            spare = parameter.ndim < 2 or id(parameter) in embeddings
            (spared if spare else decayed).append(parameter)
    return decayed, spared


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients together, float32 scalar on their device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm  # of shards: over all ranks


def guarded_update(
    optimizer: Optimizer, rate: float, *, norm: Tensor, scale: Tensor, max_grad_norm: float, bad: Tensor
) -> None:
    """One update at learning rate ``rate``; none at all where ``bad`` is true.

    Args:
        norm: scalar, norm of the true gradients (the loss scale already divided out).
        scale: scalar, what the loss was multiplied by.
        max_grad_norm: gradients of a larger norm are shrunk to it; 0 is off.
        bad: boolean scalar on the device.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    shrink = (norm / max_grad_norm).clamp(min=1.0) if max_grad_norm else torch.ones_like(norm)
    optimizer.grad_scale = (scale * shrink).float()  # type: ignore[attr-defined]
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    if isinstance(optimizer, SGD):
        _step_on_parts(optimizer)
    else:
        optimizer.step()


def _step_on_parts(optimizer: SGD) -> None:
    """``optimizer.step()`` on what this rank holds: torch has no fused SGD for shards. Plain SGD keeps no state."""
    groups = [group["params"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["params"] = [_part(parameter) for parameter in group["params"]]
    optimizer.step()
    for group, params in zip(optimizer.param_groups, groups, strict=True):
        group["params"] = params


def _part(parameter: nn.Parameter) -> nn.Parameter:
    if not isinstance(parameter, DTensor):
        return parameter
    part = nn.Parameter(parameter.to_local().detach())  # the same memory
    part.grad = parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else None
    return part
