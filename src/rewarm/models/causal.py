"""A transformers model as training and evaluation see it: packed documents in, the summed loss out.

The definition of the model stays transformers' own. What is ours: the attention (``attention.py``), the head
with its loss (``loss.py``), fp32 master weights, and the refusal of whatever would be trained wrongly
(``folder.py`` before loading, ``packing.py`` after).
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from rewarm.core.errors import ModelError, ResourceError, UserError
from rewarm.models.attention import PACKED
from rewarm.models.folder import check_folder
from rewarm.models.loss import Head, linear_cross_entropy_sum, linear_nll
from rewarm.models.packed import PackedBatch as PackedBatch
from rewarm.models.packing import cause, check_packing
from rewarm.models.shape import REMEDY

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Tensors that some files hold beside the model, and that it does without; all else would be lost in the export.
_HARMLESS = re.compile(
    r"rotary_emb\.inv_freq$"  # computed from the configuration
    r"|\.(attn|attention)\.((masked_)?bias|causal_mask)$"  # the causal mask, in old files of GPT-2 and its heirs
    r"|^(model\.)?mtp"  # layers that predict the tokens after the next one: a help in pretraining and for speed
)


class CausalModel(nn.Module):
    """A causal language model over packed documents."""

    def __init__(self, hf: PreTrainedModel) -> None:
        super().__init__()
        self.hf = hf

    def forward(self, batch: PackedBatch, per_token: bool = False) -> Tensor:
        """Cross-entropy of the valid targets in nats: their sum, or with ``per_token`` each one, (N,) fp32.

        The head runs in here, too, and not in the caller, because a sharded model gathers its weight here only.
        """
        hidden = self.hf.get_decoder()(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            cu_seqlens=batch.cu_seqlens,
            max_seqlen=batch.max_seqlen,
            # A compiled layer would be compiled again for every new set of lengths; the flash kernel needs none.
            lengths=() if batch.cu_seqlens.is_cuda and torch.is_autocast_enabled("cuda") else batch.lengths,
        ).last_hidden_state[0]  # (N, d)
        if per_token:
            return linear_nll(hidden, self.head(), batch.targets)
        by_source = None
        if batch.sources is not None and batch.by_source is not None:
            by_source = batch.sources, batch.by_source
        return linear_cross_entropy_sum(hidden, self.head(), batch.targets, by_source)

    @torch.no_grad()
    def token_nll(self, batch: PackedBatch) -> Tensor:
        """``-log p(target)`` of each token in nats, (N,) fp32; 0 where there is no target.

        Carries no gradient, and always scores in evaluation mode, without dropout.
        """
        training = self.training
        if training:
            self.eval()
        nll: Tensor = self(batch, per_token=True)
        if training:
            self.train()
        return nll

    @property
    def config(self) -> Any:
        return self.hf.config

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def vocab_size(self) -> int:
        return len(self.head().weight)

    def head(self) -> Head:
        """The output embedding, with what its family does to the logits (checked by the trial run)."""
        linear, config = self.hf.get_output_embeddings(), self.config.get_text_config()
        # Cohere multiplies the logits, Granite divides them, Gemma 2 and its heirs cap them.
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        return Head(linear.weight, linear.bias, scale, getattr(config, "final_logit_softcapping", None))

    def layers(self) -> nn.ModuleList:
        """The decoder layers, in order: what is compiled, recomputed or sharded one by one."""
        names = set(self.hf._no_split_modules or ())
        for module in self.hf.get_decoder().modules():
            if not isinstance(module, nn.ModuleList) or not len(module):
                continue
            if type(module[0]).__name__.removeprefix("FSDP") in names:  # which sharding puts before the name
                return module
        raise ModelError(f"{type(self.hf).__name__} does not say what its layers are")

    def enable_gradient_checkpointing(self) -> None:
        """Keep only the input of each layer in training mode, and compute the rest again in the backward pass."""
        options = {"use_reentrant": False, "preserve_rng_state": self.has_dropout()}
        if hasattr(self.hf, "activation_checkpointing_enable"):  # the newer name
            self.hf.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        else:
            self.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)

    def has_dropout(self) -> bool:
        """Whether anything in the model is random in training mode."""
        modules = any(isinstance(module, nn.Dropout) and module.p > 0 for module in self.modules())
        rates = self.config.get_text_config().to_dict().items()
        return modules or any("drop" in key and isinstance(rate, float) and rate > 0 for key, rate in rates)


def load_model(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    quantization: Literal["none", "int4", "int8"] = "none",
) -> CausalModel:
    """The model in ``folder``, in evaluation mode, with weights of ``dtype`` (fp32: master weights) on ``device``.

    Args:
        quantization: of the linear layers but for the head, by bitsandbytes: int4 is NF4 with its scales quantised
            too (QLoRA, arXiv 2305.14314), int8 is LLM.int8() (arXiv 2208.07339). Such weights do not train.

    Raises:
        ModelError: the folder cannot be trusted (``check_folder``), transformers cannot load it whole, or its
            family cannot be trained on packed documents (``check_packing``).
    """
    check_folder(folder, hashes=False)  # reading it all once more is left to who finds the model
    with loading(folder):
        hf, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=PACKED,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, where the message can name them
            **_quantized(quantization, device),
        )
    _refuse_partial(folder, hf, report)
    _refuse_half_tied(folder, hf)
    model = CausalModel(hf).eval()
    try:
        check_packing(model)
    except ModelError as error:
        raise ModelError(error.what, where=folder, remedy=error.remedy) from error
    return model if quantization != "none" else model.to(device)


def _quantized(kind: str, device: torch.device | str) -> dict[str, Any]:
    """The options of ``from_pretrained`` for a quantised base, which is quantised on its way to the device."""
    if kind == "none":
        return {}
    kinds: dict[str, dict[str, Any]] = {
        "int8": {"load_in_8bit": True},
        "int4": {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.bfloat16,
        },
    }
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # else a line for every product
    return {"quantization_config": BitsAndBytesConfig(**kinds[kind]), "device_map": {"": device}}


def _refuse_partial(folder: Path, hf: PreTrainedModel, report: dict[str, Any]) -> None:
    """Weights that do not fill the model would leave some of it random; what they hold more would be lost."""
    odd = sorted(f"{name!r} is {list(is_)}, not {list(want)}" for name, is_, want in report["mismatched_keys"])
    for names, what in (
        (report["missing_keys"], "weights are missing"),
        (odd, "weights have a shape that config.json does not give them"),
        (_unexpected(hf, report["unexpected_keys"]), "weights belong to no part of the model that config.json gives"),
        (
            [name for name, p in hf.named_parameters() if not p.isfinite().all()],
            "weights are damaged (NaN or infinite)",
        ),
    ):
        if names:
            raise ModelError(
                f"{len(names)} {what}: the first is {min(names)}",
                where=folder,
                remedy="fetch the model again, or use another one",
            )


def _unexpected(hf: PreTrainedModel, names: set[str]) -> list[str]:
    text = hf.config.get_text_config()
    depth, more = getattr(text, "num_hidden_layers", 0), getattr(text, "num_nextn_predict_layers", None) or 0
    extra = tuple(f"model.layers.{depth + n}." for n in range(more))  # as ``mtp``, counted on from the model's own
    return [name for name in names if not _HARMLESS.search(name) and not name.startswith(extra)]


def _refuse_half_tied(folder: Path, hf: PreTrainedModel) -> None:
    """A head of its own in a model that says its head is the embedding would be trained, and lost in the export."""
    head, embedding = hf.get_output_embeddings(), hf.get_input_embeddings()
    tied = getattr(hf.config.get_text_config(), "tie_word_embeddings", False)
    if tied and head is not None and head.weight is not embedding.weight:
        raise ModelError(
            "config.json ties the head to the embedding, but the weights hold a head of their own",
            where=folder,
            remedy="copy the folder and set tie_word_embeddings to false in config.json",
        )


@contextlib.contextmanager
def loading(folder: Path) -> Iterator[None]:
    """transformers at work on ``folder``: quiet, and its errors as ours."""
    with quiet_transformers():
        try:
            yield
        except Exception as error:  # whatever a foreign library makes of a foreign file
            raise _unloadable(folder, error) from error


def _unloadable(folder: Path, error: Exception) -> UserError:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return ResourceError("the model does not fit into memory", where=folder, remedy="use a smaller model")
    return ModelError(
        f"transformers cannot load it: {cause(error)}",
        where=folder,
        remedy=f"fetch the model again, or {REMEDY}",
    )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own warnings and progress bars, which would run through ours."""
    theirs = transformers.utils.logging
    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()
