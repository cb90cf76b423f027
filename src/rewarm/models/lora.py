"""LoRA through peft: the base frozen, a pair of small matrices trained beside each of its linear layers.

Low-Rank Adaptation (arXiv 2106.09685): ``W x + (alpha / rank) B A x``, B starting at zero. The head and the
embedding get none: where they are tied, an adapter on one side would untie them without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import peft
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from rewarm.core.config import nearest
from rewarm.core.errors import UserError
from rewarm.models.causal import CausalModel, load_model
from rewarm.models.folder import share
from rewarm.recipe.hyperparameters import Hyperparameters

ADAPTER = "default"


def load_trainable(base: Path, hyperparameters: Hyperparameters, device: torch.device) -> CausalModel:
    """The model in ``base`` in training mode, with adapters and recomputed layers where the hyperparameters say so.

    Raises:
        ModelError: see ``load_model``. UserError: see ``add_lora``.
    """
    model = load_model(base, device=device, quantization=hyperparameters.quantization_bit)
    if hyperparameters.finetuning_type == "lora":
        add_lora(model, hyperparameters)
    if not hyperparameters.disable_gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.train()


def add_lora(model: CausalModel, hyperparameters: Hyperparameters) -> None:
    """Freeze ``model`` and give its linear layers adapters, which are all that trains then.

    The initial values come from torch's global generator. Adapters have the type of the weights beside them, and
    beside quantised ones fp32: small updates would be lost in less.

    With ``additional_target`` the embeddings (and the head) or the norms of the base train as well, as they are: a
    head that is tied stays tied. Rank-stabilised LoRA (``use_rslora``) is arXiv 2312.03732.

    Raises:
        UserError: ``target_modules`` names a module that the model does not have.
    """
    whole = _whole_modules(model, hyperparameters.additional_target)
    config = peft.LoraConfig(
        r=hyperparameters.lora_rank,
        lora_alpha=hyperparameters.lora_alpha,
        lora_dropout=hyperparameters.lora_dropout,
        target_modules=_targets(model, hyperparameters.target_modules),
        use_rslora=hyperparameters.use_rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    peft.inject_adapter_in_model(config, model.hf, ADAPTER)
    trained = {id(parameter) for module in whole for parameter in module.parameters(recurse=False)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or id(parameter) in trained)
        if "lora_" in name and getattr(model.hf, "is_quantized", False):
            parameter.data = parameter.data.float()
    model.train(model.training)  # peft's new dropout layers are in training mode, whatever the model is in


def linear_modules(model: CausalModel) -> list[str]:
    """The names that ``target_modules`` can hold, such as q_proj: of all linear layers but the head."""
    head = model.hf.get_output_embeddings()
    names = [name for name, part in model.hf.named_modules() if isinstance(part, nn.Linear) and part is not head]
    return sorted({name.rpartition(".")[2] for name in names})


def _targets(model: CausalModel, wanted: str | list[str]) -> list[str]:
    known = linear_modules(model)
    if wanted == "all-linear":
        return known
    names = wanted.split(",") if isinstance(wanted, str) else wanted
    names = [name.strip() for name in names]
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            raise UserError(
                f"{name!r} is no linear layer of this model"
                + (f"; did you mean {guess!r}?" if guess else "")
                + f" There are {', '.join(known)}",
                where="hyperparameters.target_modules",
                remedy="name some of these, or all-linear",
            )
    if not names:
        raise UserError("names no module", where="hyperparameters.target_modules", remedy="write all-linear")
    return names


def _whole_modules(model: CausalModel, wanted: list[Literal["embeddings", "norms"]]) -> list[nn.Module]:
    found: list[nn.Module] = []
    if "embeddings" in wanted:
        found += [model.hf.get_input_embeddings(), model.hf.get_output_embeddings()]
    if "norms" in wanted:
        found += [part for part in model.hf.modules() if "norm" in type(part).__name__.lower()]
    return found


def merged(model: CausalModel) -> Iterator[tuple[str, Tensor]]:
    """The weights by their names without adapters, each with what its adapter adds; ``model`` stays as it is.

    Names are transformers' own (without our ``hf.``); a tied weight comes once.
    """
    adapted = {name: part for name, part in model.hf.named_modules() if isinstance(part, LoraLayer)}
    for name, parameter in model.hf.named_parameters():
        if "lora_" in name:
            continue
        owner, _, last = name.rpartition(".base_layer.")
        weight = parameter.detach()
        if owner and last == "weight":
            with torch.no_grad():
                weight = weight + adapted[owner].get_delta_weight(ADAPTER)
        yield (f"{owner}.{last}" if owner else name), weight


def save_adapter(model: CausalModel, folder: Path, base: str) -> None:
    """Write the adapters as peft does: ``PeftModel.from_pretrained(base_model, folder)`` loads them.

    What trained whole beside them goes along as peft's ``modules_to_save``.

    Args:
        base: the hub id or folder of the base model, for adapter_config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": parameter.detach().cpu().clone()
        for name, parameter in model.hf.named_parameters(remove_duplicate=False)  # peft wants a tied head, too
        if parameter.requires_grad
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.hf.peft_config[ADAPTER]
    config.base_model_name_or_path, config.inference_mode = base, True
    whole = {name.split(".")[-2] for name in tensors if "lora_" not in name}
    config.modules_to_save = sorted(whole) or None
    head = model.head().weight
    config.ensure_weight_tying = head.requires_grad and head is model.hf.get_input_embeddings().weight
    config.save_pretrained(folder)
    share(folder)
