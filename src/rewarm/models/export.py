"""A trained model as a Hugging Face folder, which plain ``AutoModelForCausalLM.from_pretrained`` loads.

Weights are written by transformers' own ``save_pretrained``: it drops a tied head, cuts shards and gives each
family the names of its files. Everything else is the base's, byte for byte where that is possible: tokenizer,
chat template, generation settings, licence, and the configuration but for the type of the weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from rewarm.core.errors import DataError
from rewarm.core.manifest import to_json, verify
from rewarm.core.storage import write_file
from rewarm.models.causal import CausalModel, load_model, quiet_transformers
from rewarm.models.folder import check_folder, share, weights_dtype
from rewarm.models.lora import add_lora, merged, save_adapter
from rewarm.models.pieces import Pieces
from rewarm.recipe.hyperparameters import Hyperparameters

SHARD = "5GB"
_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float32}
_COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.*",
    "generation_config.json",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)


def export(
    model: CausalModel | Mapping[str, Tensor], base: Path, target: Path, dtype: torch.dtype | None = None
) -> None:
    """Write ``model`` into ``target``, a folder that is empty or does not exist.

    A crash leaves an unfinished folder: fill a staged one (``core.storage.staged_folder``).

    Args:
        model: a model (with LoRA: its merged weights), or all its parameters by their names in ``CausalModel``.
        base: the folder that the model was loaded from.
        dtype: of the weights; unset, the base's own.

    Raises:
        DataError: the parameters are not those of the base.
    """
    config = check_folder(base)
    dtype = dtype or _DTYPES.get(weights_dtype(base), torch.bfloat16)
    named = merged(model) if isinstance(model, CausalModel) else model.items()
    with quiet_transformers():
        skeleton = _skeleton(base, named, dtype)
        target.mkdir(parents=True, exist_ok=True)
        skeleton.save_pretrained(target, max_shard_size=SHARD)
    (target / "generation_config.json").unlink(missing_ok=True)  # transformers' defaults, not the base's
    copy_settings(base, target)
    _write_config(target, config, skeleton, dtype)
    share(target)


def copy_settings(model: Path, target: Path) -> None:
    """Copy what a model is beside weights and configuration: tokenizer, chat template, generation settings, licence."""
    for pattern in _COPIED:
        for path in model.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, target / path.name)


def export_checkpoint(
    checkpoint: Path,
    base: Path,
    target: Path,
    hyperparameters: Hyperparameters,
    dtype: torch.dtype | None = None,
    *,
    base_name: str | None = None,
    trained_share: float = 1.0,
) -> None:
    """Write a checkpoint (``step-N``, the parameters that trained) and its base as one model; see ``export``.

    LoRA adapters are merged; with ``merge_adapter: false`` they also lie in ``target/adapter``, as peft has them.

    Args:
        base_name: what the adapter calls its base; unset, the folder, which other machines do not have.
        trained_share: below 1, a merge of so much of the trained weights with the base's (WiSE-FT, arXiv 2109.01903),
            of which no adapter is written.

    Raises:
        DataError: the checkpoint is damaged, or does not hold exactly the parameters that train in the base.
    """
    tensors = _trained(checkpoint)
    model = load_model(base)
    if hyperparameters.finetuning_type == "lora":
        add_lora(model, hyperparameters)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, tensor in tensors.items():
        parameter = parameters.pop(name, None)
        if parameter is None or parameter.shape != tensor.shape:
            raise DataError(f"holds {name!r}, unlike the base model in {base}", where=checkpoint)
        parameter.data = tensor.to(parameter.dtype)
    if parameters:
        raise DataError(f"lacks {len(parameters)} parameters, the first {next(iter(parameters))!r}", where=checkpoint)
    export(model if trained_share == 1 else _blend(model, load_model(base), trained_share), base, target, dtype)
    if trained_share == 1 and hyperparameters.finetuning_type == "lora" and not hyperparameters.merge_adapter:
        save_adapter(model, target / "adapter", base_name or str(base))


@torch.no_grad()
def _blend(trained: CausalModel, base: CausalModel, trained_share: float) -> dict[str, Tensor]:
    """``(1 - trained_share)`` times the base's weights and ``trained_share`` times the trained ones."""
    old = dict(merged(base))
    return {name: old[name].lerp(weight.to(old[name].dtype), trained_share) for name, weight in merged(trained)}


def _trained(checkpoint: Path) -> dict[str, Tensor]:
    verify(checkpoint)
    files = sorted(checkpoint.glob("model-rank*.safetensors"))
    if not files:
        raise DataError("there are no weights (model-rank*.safetensors)", where=checkpoint)
    pieces = Pieces(files)
    return {name: pieces.read(name) for name in sorted(pieces.names)}


def _skeleton(base: Path, named: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> Any:
    """The model's definition, without memory of its own, holding the given weights."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=dtype)
    state = {name.removeprefix("hf."): tensor.detach().to("cpu", dtype) for name, tensor in named}
    try:
        report = skeleton.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise DataError(f"the weights do not fit the base model: {error}", where=base) from error
    skeleton.tie_weights()
    absent = [name for name, parameter in skeleton.named_parameters() if parameter.is_meta]
    if absent or report.unexpected_keys:
        odd = f"lacks {absent[0]!r}" if absent else f"has {report.unexpected_keys[0]!r} more"
        raise DataError(f"the trained model {odd} than its base", where=base)
    return skeleton


def _write_config(target: Path, base: dict[str, Any], skeleton: Any, dtype: torch.dtype) -> None:
    """The base's own config.json with the type of these weights, not the one that this version would write."""
    written: dict[str, Any] = orjson.loads((target / "config.json").read_bytes())
    key = "torch_dtype" if "torch_dtype" in base else "dtype"
    config = {**base, key: str(dtype).removeprefix("torch."), "architectures": [type(skeleton).__name__]}
    config["transformers_version"] = written.get("transformers_version", base.get("transformers_version"))
    write_file(target / "config.json", to_json(config))
