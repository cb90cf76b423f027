"""Model folders before they are trusted: whole, free of code and pickles, of a size that their files bear out.

Everything here reads headers and JSON, never tensors (but for the hashes of a folder that has a manifest), and
nothing runs code that came with a model. What passes can be loaded; what does not is refused with a reason.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.config import nearest
from rewarm.core.errors import ModelError
from rewarm.core.manifest import MANIFEST, verify
from rewarm.core.storage import sha256_file

Progress = Callable[[str, float, float, str], None]

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MOST_JSON = 1 << 28  # bytes; the tokenizers with the largest vocabularies take 40 MB
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_WIDTHS = ("hidden_size", "n_embd", "d_model", "vocab_size", "num_attention_heads", "n_head")
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
)
_NOT_IDENTITY = {MANIFEST, "lineage.json"}


@dataclass(frozen=True)
class Tensor:
    """What a safetensors header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def check_folder(folder: Path, *, hashes: bool = True) -> dict[str, Any]:
    """Return the content of config.json of a folder that can be loaded safely.

    Args:
        hashes: compare the files of a folder that has a manifest by hash, not by size alone.

    Raises:
        ModelError: files are missing, cut, changed since their manifest was written, pickles or quantised; the
            model wants to run code of its own; or the configuration does not fit the weights.
    """
    if not folder.is_dir():
        raise ModelError("there is no such folder", where=folder, remedy="correct base_model")
    config = _config(folder)
    _no_code(folder, config)
    if (folder / MANIFEST).is_file() and isinstance(_json(folder / MANIFEST).get("files"), dict):
        verify(folder, ModelError, hashes=hashes)
    tensors = _tensors(folder)
    _not_quantised(folder, config, tensors)
    _plausible(folder / "config.json", _text(config), tensors)
    _known_family(folder / "config.json", config)
    _tokenizer_fits(folder, _text(config), tensors)
    return config


def count_parameters(folder: Path) -> int:
    """Parameters of a checked folder, by the headers of its weights; a tied head counts once."""
    tensors = _tensors(folder)
    if _text(_config(folder)).get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    return sum(tensor.count for tensor in tensors.values())


def weights_dtype(folder: Path) -> str:
    """The type that most of a checked folder's numbers have, as safetensors names it: F32, BF16, ..."""
    counts = Counter[str]()
    for tensor in _tensors(folder).values():
        counts[tensor.dtype] += tensor.count
    return counts.most_common(1)[0][0]


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of weights, tokenizer and configuration: equal for equal models."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".model", ".jinja", ".txt") and path.name not in _NOT_IDENTITY:
            whole.update(f"{sha256_file(path)}  {path.name}\n".encode())
    return whole.hexdigest()


# -- configuration ----------------------------------------------------------------------------------------------


def _config(folder: Path) -> dict[str, Any]:
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            "this is an adapter, not a model",
            where=folder,
            remedy="merge it into its base model, save the result, and name that folder",
        )
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            "there is no config.json", where=folder, remedy="name the folder that holds the Hugging Face model"
        )
    return _json(path)


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_JSON:
        raise ModelError(f"has {path.stat().st_size / 1e6:.0f} MB, too much for such a file", where=path)
    try:
        value = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ModelError(f"is not JSON: {error}", where=path, remedy="fetch the file again") from None
    if not isinstance(value, dict):
        raise ModelError("does not hold a JSON object", where=path, remedy="fetch the file again")
    return value


def _text(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that describes the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _no_code(folder: Path, config: dict[str, Any]) -> None:
    for path in sorted(folder.glob("*config.json")):
        content = config if path.name == "config.json" else _json(path)
        if _has_key(content, "auto_map"):
            raise ModelError(
                "the model brings Python code of its own (auto_map), which is never run",
                where=path,
                remedy="if transformers itself knows this family, copy the folder and remove auto_map there; "
                "otherwise use another model",
            )


def _has_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_has_key(inner, key) for inner in value.values())
    return isinstance(value, list) and any(_has_key(inner, key) for inner in value)


def _known_family(path: Path, config: dict[str, Any]) -> None:
    family, known = config.get("model_type"), _families()
    if family not in known:
        guess = nearest(str(family), known)
        raise ModelError(
            f"transformers knows no model_type {family!r}" + (f"; the nearest is {guess!r}" if guess else ""),
            where=path,
            remedy="update transformers, or use a model of a family that it knows",
        )


def _families() -> list[str]:
    """Every model_type that transformers knows. Imported late, and from where it takes no torch if possible."""
    for module in ("auto_mappings", "configuration_auto"):
        try:
            return list(importlib.import_module(f"transformers.models.auto.{module}").CONFIG_MAPPING_NAMES)
        except (ImportError, AttributeError):
            continue
    raise ImportError("this version of transformers lists no model families where rewarm looks for them")


def _plausible(path: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse sizes that the weights do not have, before anything of those sizes is allocated."""
    layers = 1 + max((int(m[1]) for name in tensors if (m := _LAYER.search(name))), default=0)
    widest = max((side for tensor in tensors.values() for side in tensor.shape), default=0)
    limits = dict.fromkeys(_DEPTHS, (1, layers, "layers"))
    limits.update(dict.fromkeys(_WIDTHS, (1, widest, "as the longest side of a tensor")))
    limits.update(dict.fromkeys(_OPTIONAL, (0, widest, "as the longest side of a tensor")))
    for key, (least, most, what) in limits.items():
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ModelError(
                f"{key} is {value!r}, but the weights have {most} {what}",
                where=path,
                remedy="fetch the model again: its configuration and its weights do not belong together",
            )


def _not_quantised(folder: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    odd = next((t.dtype for n, t in tensors.items() if t.dtype not in _FLOATS and not n.endswith("position_ids")), None)
    if config.get("quantization_config") or odd not in (None, "BOOL", "I64"):
        raise ModelError(
            "the weights are quantised" + (f" ({odd})" if odd else ""),
            where=folder,
            remedy="use the unquantised model (bf16, fp16 or fp32)",
        )


# -- weights ----------------------------------------------------------------------------------------------------


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's weights, from checked headers."""
    if (folder / INDEX).is_file():
        return _sharded(folder)
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise ModelError(
            f"its weights are pickles ({pickles[0]}), which can run code when they are loaded",
            where=folder,
            remedy="use a version of the model with .safetensors weights",
        )
    raise ModelError(f"there are no weights ({WEIGHTS} or {INDEX})", where=folder, remedy="fetch the model again")


def _sharded(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX
    placed = _json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
        raise ModelError("names no shards", where=index, remedy="fetch the file again")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(placed.values())):
        if Path(shard).name != shard or "\\" in shard or "\0" in shard or not shard.endswith(".safetensors"):
            raise ModelError(f"names {shard!r}, which is no .safetensors file beside it", where=index)
        if not (folder / shard).is_file():
            raise ModelError("listed in the index but missing", where=folder / shard, remedy="fetch the model again")
        tensors.update(read_header(folder / shard))
    if absent := placed.keys() - tensors.keys():
        raise ModelError(f"{min(absent)!r} is in none of the shards", where=index, remedy="fetch the model again")
    return tensors


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, once its header and its size agree to the byte.

    Raises:
        ModelError: the file is a pickle, is cut, or its header is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
            raise ModelError(
                "is a pickle under the name of safetensors: it can run code when it is loaded",
                where=path,
                remedy="use a version of the model with true .safetensors weights",
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, 100_000_000):  # the limit of the format itself
            raise _cut(path, f"its header claims {length} bytes, the file has {size}")
        try:
            header = orjson.loads(file.read(length))
        except orjson.JSONDecodeError as error:
            raise _cut(path, f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _cut(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    tensors, end = {}, 0
    for name, first, last, tensor in sorted(_entries(path, header), key=lambda entry: entry[1:3]):
        bits = _BITS.get(tensor.dtype)
        if first != end or last < first or (bits is not None and (last - first) * 8 != bits * tensor.count):
            raise _cut(path, f"the place of {name!r} does not fit its shape")
        tensors[name], end = tensor, last
    if end != size - 8 - length:
        raise _cut(path, f"its tensors need {8 + length + end} bytes, the file has {size}")
    return tensors


def _entries(path: Path, header: dict[str, Any]) -> Iterator[tuple[str, int, int, Tensor]]:
    for name, entry in header.items():
        try:
            (first, last), shape = entry["data_offsets"], tuple(entry["shape"])
            if not all(isinstance(number, int) and number >= 0 for number in (first, last, *shape)):
                raise ValueError
            yield name, first, last, Tensor(str(entry["dtype"]), shape)
        except (KeyError, TypeError, ValueError):
            raise _cut(path, f"its entry {name!r} is damaged") from None


def _cut(path: Path, why: str) -> ModelError:
    return ModelError(f"the file is damaged or cut: {why}", where=path, remedy="fetch the file again")


# -- tokenizer --------------------------------------------------------------------------------------------------


def _tokenizer_fits(folder: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Every token has a row in the embedding."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        old = [name for name in ("tokenizer.model", "spiece.model", "vocab.json") if (folder / name).is_file()]
        raise ModelError(
            f"there is no tokenizer.json, only {old[0]}" if old else "there is no tokenizer (tokenizer.json)",
            where=folder,
            remedy="write one with transformers: "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
            if old
            else "fetch the model again, with its tokenizer",
        )
    rows = _embedding_rows(config, tensors)
    highest = _highest_token(path)
    if rows is not None and highest >= rows:
        raise ModelError(
            f"the tokenizer goes up to token {highest}, the embedding has {rows} rows",
            where=path,
            remedy="use the tokenizer that belongs to the model",
        )
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        ids = config.get(key)
        for token in ids if isinstance(ids, list) else [ids]:
            if rows is not None and isinstance(token, int) and token >= rows:
                raise ModelError(
                    f"{key} is {token}, the embedding has {rows} rows",
                    where=folder / "config.json",
                    remedy="fetch the model again",
                )


def _embedding_rows(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> int | None:
    names = (".embed_tokens.weight", ".wte.weight", ".word_embeddings.weight", ".embed_in.weight")
    found = [t.shape[0] for name, t in tensors.items() if f".{name}".endswith(names) and len(t.shape) == 2]
    return found[0] if found else config.get("vocab_size")


def _highest_token(path: Path) -> int:
    content = _json(path)
    model, added = content.get("model"), content.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list) or not vocabulary:
        raise ModelError("holds no vocabulary", where=path, remedy="fetch the file again")
    ids: list[Any] = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    ids += [token.get("id") for token in added or () if isinstance(token, dict)]
    if not all(isinstance(token, int) for token in ids):
        raise ModelError("its vocabulary is damaged", where=path, remedy="fetch the file again")
    return int(max(ids))


# -- the hub ----------------------------------------------------------------------------------------------------


def fetch(base_model: str, progress: Progress = lambda what, done, total, unit: None) -> Path:
    """The folder of a base model: a folder as it is, a hub id (``organisation/name``) downloaded.

    A folder starts with ``.``, ``/`` or ``~``: what a name means must not depend on where the command was given.

    Raises:
        ModelError: see ``rewarm.models.download.download``.
    """
    if base_model.startswith((".", "/", "~")):
        path = Path(base_model).expanduser()
        if not path.is_dir():
            raise ModelError("there is no such folder", where=path, remedy="correct base_model")
        return path
    from rewarm.models.download import download  # imported late: a folder needs no hub client

    return download(base_model, progress)
