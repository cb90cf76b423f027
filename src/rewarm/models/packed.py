"""A micro-batch as tensors: documents, or parts of them, one behind the other in a single row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """One micro-batch of N tokens as a row of segments; see ``rewarm.data.batches.MicroBatch``."""

    input_ids: Tensor  # (N,) int64
    targets: Tensor  # (N,) int64, -100 where there is none
    position_ids: Tensor  # (N,) int64, from 0 in every segment
    cu_seqlens: Tensor  # (segments + 1,) int32, from 0 to N
    max_seqlen: int
    n_targets: int
    lengths: tuple[int, ...] = ()  # tokens of each segment: read from cu_seqlens, once, when left out
    sources: Tensor | None = None  # (N,) int64, where each token is from
    by_source: Tensor | None = None  # (2, sources) float64: the forward pass adds nats and targets to it

    def __post_init__(self) -> None:
        if not self.lengths and not self.cu_seqlens.is_cuda:
            object.__setattr__(self, "lengths", _lengths(self.cu_seqlens))

    @classmethod
    def of(cls, micro_batch: Any, device: torch.device | str, by_source: Tensor | None = None) -> PackedBatch:
        """The arrays of a ``MicroBatch`` on ``device``; on a GPU the copy runs beside the computation."""
        names = ("input_ids", "targets", "position_ids", "cu_seqlens", "sources")
        tensors = {name: torch.from_numpy(getattr(micro_batch, name)) for name in names}
        lengths = _lengths(tensors["cu_seqlens"])
        if torch.device(device).type == "cuda":
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return cls(
            **moved,
            max_seqlen=micro_batch.max_seqlen,
            n_targets=micro_batch.n_targets,
            lengths=lengths,
            by_source=by_source,
        )


def _lengths(cu_seqlens: Tensor) -> tuple[int, ...]:
    return tuple(cu_seqlens.diff().tolist())
