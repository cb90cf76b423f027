"""Whether config.json describes a causal language model, and the one whose weights lie beside it.

Judged by the headers of the weights and without torch, so that it is known before anything is allocated.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewarm.core.config import nearest
from rewarm.core.errors import ModelError

REMEDY = "use a decoder-only model of a common family, such as Llama, Qwen, Gemma or Mistral"
_NOT_TOGETHER = "fetch the model again: its configuration and its weights do not belong together"
_FAMILIES = "models/auto/modeling_auto.py"
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d{1,9})\.")
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_WIDTHS = ("hidden_size", "n_embd", "d_model", "vocab_size", "num_attention_heads", "n_head", "n_positions")
_OPTIONAL = (
    "intermediate_size",
    "moe_intermediate_size",
    "n_inner",
    "ffn_dim",
    "head_dim",
    "num_key_value_heads",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "num_nextn_predict_layers",
)


@dataclass(frozen=True)
class Tensor:
    """What a safetensors header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that describes the language model."""
    return config.get("text_config") or config


def check_family(path: Path, config: dict[str, Any]) -> None:
    """Refuse what transformers cannot load as a causal language model.

    Raises:
        ModelError: naming ``path``, the file that ``config`` comes from.
    """
    family, known = config.get("model_type"), _table(_FAMILIES, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    if family not in known:
        guess = nearest(str(family), known)
        raise ModelError(
            f"transformers knows no causal language model with model_type {family!r}"
            + (f"; the nearest is {guess!r}" if guess else ""),
            where=path,
            remedy=f"{REMEDY}; a family that is new may need a newer transformers",
        )
    encoder = family in _table(_FAMILIES, "MODEL_FOR_MASKED_LM_MAPPING_NAMES") and not config.get("is_decoder")
    if encoder or config.get("is_encoder_decoder"):
        kind = "an encoder" if encoder else "an encoder with a decoder"
        raise ModelError(f"{family} is {kind}, not a causal language model", where=path, remedy=REMEDY)


def check_shape(path: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse sizes that the weights do not have, before anything of those sizes is allocated.

    Raises:
        ModelError: naming ``path``, the file that ``config`` comes from.
    """
    text = text_part(config)
    least, layers = _depth(text, tensors)
    widest = max((side for tensor in tensors.values() for side in tensor.shape), default=0)
    limits = dict.fromkeys(_DEPTHS, (least, layers, "layers"))
    limits.update(dict.fromkeys(_WIDTHS, (1, widest, "as the longest side of a tensor")))
    limits.update(dict.fromkeys(_OPTIONAL, (0, widest, "as the longest side of a tensor")))
    for key, (least, most, what) in limits.items():
        value = text.get(key)
        if value is not None and not (type(value) is int and least <= value <= most):
            raise ModelError(
                f"{key} is {value!r}, but the weights have {most} {what}", where=path, remedy=_NOT_TOGETHER
            )
    for odd in (_odd_heads(text, tensors), _odd_value(text), _headless(config, tensors)):
        if odd:
            raise ModelError(odd, where=path, remedy=_NOT_TOGETHER)


def embedding_rows(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> int | None:
    """The tokens that the embedding has room for."""
    names = tuple(f".{name}.weight" for name in _EMBEDDINGS)
    found = [t.shape[0] for name, t in tensors.items() if f".{name}".endswith(names) and len(t.shape) == 2]
    return found[0] if found else text_part(config).get("vocab_size")


def _depth(text: dict[str, Any], tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """The fewest and the most layers that the configuration of these weights can name."""
    stacks: dict[str, int] = {}  # layers by what their names begin with: an image encoder has a stack of its own
    for name in tensors:
        if match := _LAYER.search(name):
            stack = name[: match.start()]
            stacks[stack] = max(stacks.get(stack, 0), int(match[1]) + 1)
    modules = [name.removesuffix(".weight").rpartition(".") for name in tensors]
    beside = [stacks[stack] for stack, _, last in modules if last in _EMBEDDINGS and stack in stacks]
    deepest = max(beside or stacks.values(), default=1)
    if not beside and len(stacks) > 1:
        return 1, deepest
    extra = text.get("num_nextn_predict_layers")  # DeepSeek and GLM count these on from the model's own
    return max(1, deepest - (extra if type(extra) is int and extra > 0 else 0)), deepest


def _odd_heads(text: dict[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    heads: int = text.get("num_attention_heads") or text.get("n_head") or 1
    groups, width = text.get("num_key_value_heads") or heads, text.get("head_dim") or 1
    if heads % groups:
        return f"num_attention_heads is {heads}, no multiple of the {groups} num_key_value_heads"
    for name, count in (("q_proj", heads), ("k_proj", groups)):
        rows = {t.shape[0] for key, t in tensors.items() if key.endswith(f".{name}.weight") and t.shape}
        if rows and all(row % (count * width) for row in rows):  # some families have layers of two widths
            return f"{count} heads" + (f" of {width}" if width > 1 else "") + f" do not fit {name} of {min(rows)} rows"
    hidden = text.get("hidden_size") or text.get("n_embd") or heads
    if width == 1 and hidden % heads and not any(".q_" in key for key in tensors):
        return f"{heads} heads do not divide a width of {hidden}"
    return None


def _odd_value(text: dict[str, Any]) -> str | None:
    known = _table("activations.py", "ACT2CLS")
    for key in _ACTIVATIONS:
        if (value := text.get(key)) is not None and value not in known:
            return f"{key} is {value!r}, which transformers does not know; it knows {', '.join(known)}"
    positions = text.get("max_position_embeddings")
    if positions is not None and not (type(positions) is int and positions > 0):
        return f"max_position_embeddings is {positions!r}, no number of tokens"
    return None


def _headless(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """A head of its own, promised and not there: it would be drawn at random."""
    tied = [part.get("tie_word_embeddings") for part in (config, text_part(config))]
    least = text_part(config).get("vocab_size")
    tables = [name for name, t in tensors.items() if len(t.shape) == 2 and least and t.shape[0] >= least]
    if False in tied and True not in tied and least and len(tables) < 2:
        return "tie_word_embeddings is false, but the weights hold no output head beside the embedding"
    return None


@functools.cache
def _table(file: str, name: str) -> list[str]:
    """The keys of a table in transformers' source, which is read: to import it would bring torch."""
    spec = importlib.util.find_spec("transformers")
    source = Path(spec.origin or "").parent / file if spec else Path(file)
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            if isinstance(node.value, ast.Dict):
                return [ast.literal_eval(key) for key in node.value.keys if key]
            pairs = ast.walk(node.value)  # OrderedDict([("name", ...), ...])
            return [ast.literal_eval(pair.elts[0]) for pair in pairs if isinstance(pair, ast.Tuple)]
    raise ImportError(f"this version of transformers has no {name} where rewarm looks for it")
