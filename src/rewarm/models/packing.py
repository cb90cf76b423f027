"""The trial run of a loaded model: packed as we train it against plain as its authors wrote it.

Families differ in their heads (scaled, soft-capped), attention (windows, sinks) and layers (a recurrent state
runs on from one document into the next). A mistake in any of these trains a damaged model without a word. So
each loaded model predicts two short documents twice, and is refused unless both agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rewarm.core.errors import ModelError
from rewarm.models.attention import CHECKED, PACKED
from rewarm.models.packed import PackedBatch
from rewarm.models.shape import REMEDY

if TYPE_CHECKING:
    from rewarm.models.causal import CausalModel

LENGTHS = (7, 5)


@torch.no_grad()
def check_packing(model: CausalModel) -> None:
    """Compare ``model`` on a packed row of two documents with its plain self on each, for every token.

    Raises:
        ModelError: if they differ, if the family cannot run packed, or if the weights give no finite numbers.
    """
    family = getattr(model.config, "model_type", type(model.hf).__name__)
    training, finite = model.training, True
    model.eval()
    try:
        ids = torch.randint(0, model.vocab_size, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1309))
        ids = ids.to(model.head().weight.device)
        documents = torch.split(ids, list(LENGTHS))
        plain = torch.cat([_plain_nll(model, document) for document in documents])
        finite = bool(torch.isfinite(plain).all())
        if not finite:
            raise ModelError("its weights are damaged: they give no finite numbers")
        model.hf.set_attn_implementation(CHECKED)
        model.token_nll(_packed(documents[:1]))  # one document: its masks can be read off
        model.hf.set_attn_implementation(PACKED)
        packed = model.token_nll(_packed(documents))
    except ModelError as error:
        if not finite:
            raise ModelError(error.what, remedy="fetch the model again") from error
        raise ModelError(f"{family} models cannot be trained here: {error.what}", remedy=REMEDY) from error
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError) as error:
        raise ModelError(f"{family} models cannot be trained here: {cause(error)}", remedy=REMEDY) from error
    finally:
        model.hf.set_attn_implementation(PACKED)
        model.train(training)
    exact = model.dtype == torch.float32 and not getattr(model.hf, "is_quantized", False)
    tolerance = 1e-3 if exact else 0.1
    if not torch.allclose(packed, plain, rtol=tolerance, atol=tolerance):
        worst = (packed - plain).abs().max().item()
        raise ModelError(
            f"{family} models cannot be trained here: documents packed into one row are predicted differently"
            f" from single ones (by up to {worst:.2g} nats)",
            remedy=REMEDY,
        )


def cause(error: BaseException) -> str:
    """What a foreign error says, up to the first line that does not only announce the next."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    said = next((n for n, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    return f"{type(error).__name__}: {' '.join(lines[:said])}"


def _plain_nll(model: CausalModel, ids: Tensor) -> Tensor:
    """-log p of each next token by the model's own forward pass and eager attention, (N,), 0 for the last."""
    model.hf.set_attn_implementation("eager")
    logits = model.hf(input_ids=ids[None], use_cache=False).logits[0].float()
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return torch.cat([nll, nll.new_zeros(1)])


def _packed(documents: tuple[Tensor, ...]) -> PackedBatch:
    device = documents[0].device
    lengths = torch.tensor([0] + [len(document) for document in documents], device=device)
    none = torch.tensor([-100], device=device)
    return PackedBatch(
        input_ids=torch.cat(documents),
        targets=torch.cat([part for document in documents for part in (document[1:], none)]),
        position_ids=torch.cat([torch.arange(len(document), device=device) for document in documents]),
        cu_seqlens=lengths.cumsum(0).to(torch.int32),
        max_seqlen=int(lengths.max()),
        n_targets=int(lengths.sum()) - len(documents),
    )
