"""What the ranks of one training do together, and at the same moments; in a process by itself nothing needs doing."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """The number of this process among those that train together."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(tensor: Tensor) -> Tensor:
    """``tensor``, in place the sum over all ranks: equal on all of them to the last bit."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Of each flag, whether it is true on any rank. It goes by the host, so that no device is waited for."""
    if world_size() == 1:
        return flags
    return tuple(bool(count) for count in total(torch.tensor(flags, dtype=torch.float32)))


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` is true on any rank."""
    return any_of(flag)[0]


def first_says(value: int) -> int:
    """What rank 0 gave."""
    return int(total(torch.tensor(value if rank() == 0 else 0))) if world_size() > 1 else value
