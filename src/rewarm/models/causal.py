"""A transformers model as the trainer and the evaluation see it: packed documents in, summed loss out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from rewarm.models.attention import PACKED
from rewarm.models.folder import check_folder
from rewarm.models.loss import Head, linear_cross_entropy_sum, linear_nll

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PackedBatch:
    """One micro-batch of N tokens as a single row of segments; see ``rewarm.data.batches.MicroBatch``."""

    input_ids: Tensor  # (N,) int64
    targets: Tensor  # (N,) int64, -100 where there is none
    position_ids: Tensor  # (N,) int64, from 0 in every segment
    cu_seqlens: Tensor  # (segments + 1,) int32
    max_seqlen: int
    n_targets: int
    lengths: tuple[int, ...] = ()  # tokens of each segment; read from cu_seqlens when left out

    def __post_init__(self) -> None:
        if not self.lengths:
            object.__setattr__(self, "lengths", tuple(self.cu_seqlens.diff().tolist()))

    @classmethod
    def of(cls, micro_batch: Any, device: torch.device | str) -> PackedBatch:
        """The arrays of a ``MicroBatch`` as tensors on ``device``."""
        names = ("input_ids", "targets", "position_ids", "cu_seqlens")
        tensors = {name: torch.from_numpy(getattr(micro_batch, name)) for name in names}
        lengths = tuple(tensors["cu_seqlens"].diff().tolist())
        if torch.device(device).type == "cuda":
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return cls(**moved, max_seqlen=micro_batch.max_seqlen, n_targets=micro_batch.n_targets, lengths=lengths)


class CausalModel(nn.Module):
    """A causal language model over packed documents."""

    def __init__(self, hf: PreTrainedModel) -> None:
        super().__init__()
        self.hf = hf

    @property
    def config(self) -> Any:
        return self.hf.config

    def forward(self, batch: PackedBatch, per_token: bool = False) -> Tensor:
        """Sum of the cross-entropy over the valid targets, in nats; with ``per_token`` each one's, (N,) fp32."""
        decoder = self.hf.get_decoder()
        hidden = decoder(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            cu_seqlens=batch.cu_seqlens,
            max_seqlen=batch.max_seqlen,
            lengths=batch.lengths,
        ).last_hidden_state[0]  # (N, d)
        head = self.hf.get_output_embeddings()
        loss = linear_nll if per_token else linear_cross_entropy_sum
        return loss(hidden, Head(head.weight, head.bias), batch.targets)

    @torch.no_grad()
    def token_nll(self, batch: PackedBatch) -> Tensor:
        """-log p(target) of each token in nats, (N,) fp32, 0 where there is no target. Carries no gradient."""
        return self(batch, per_token=True)

    def layers(self) -> nn.ModuleList:
        """The decoder layers, in order."""
        names = set(self.hf._no_split_modules or ())
        for module in self.hf.modules():
            if isinstance(module, nn.ModuleList) and len(module) and type(module[0]).__name__ in names:
                return module
        raise ValueError(f"no list of {names} in {type(self.hf).__name__}")

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each layer's activations in the backward pass instead of keeping them."""
        self.hf.gradient_checkpointing_enable({"use_reentrant": False})

    def n_parameters(self, trainable: bool = False) -> int:
        """Parameters, each tied one counted once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trainable)


def load_model(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> CausalModel:
    """The model in ``folder`` with its weights in ``dtype`` (fp32 master weights), on ``device``."""
    check_folder(folder)
    hf = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=PACKED,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    hf.config.use_cache = False
    return CausalModel(hf).to(device)
