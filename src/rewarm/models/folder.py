"""Model folders before they are trusted: whole, free of code and pickles, of a size that their files bear out.

Everything here reads headers and JSON, never tensors (but for the hashes of a folder that has a manifest), and
nothing runs code that came with a model. What passes can be loaded; what does not is refused with a reason.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson

from rewarm.core.errors import ModelError
from rewarm.core.manifest import MANIFEST, verify
from rewarm.core.storage import sha256_file
from rewarm.models.shape import Tensor, check_family, check_shape, embedding_rows, text_part

P = ParamSpec("P")
R = TypeVar("R")
Progress = Callable[[str, float, float, str], None]

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MOST_JSON = 1 << 28  # bytes; the tokenizers with the largest vocabularies take 40 MB
_NOT_IDENTITY = {MANIFEST, "lineage.json"}
_SETTLED = 2_000_000_000  # ns; the clock of a file system may stand still for that long (FAT)


def _readable(look: Callable[Concatenate[Path, P], R]) -> Callable[Concatenate[Path, P], R]:
    """What the operating system refuses to read in a folder is the user's to mend, and no bug of ours."""

    @functools.wraps(look)
    def looked(folder: Path, /, *args: P.args, **options: P.kwargs) -> R:
        try:
            return look(folder, *args, **options)
        except OSError as error:
            raise ModelError(
                f"cannot be read: {error.strerror or error}",
                where=error.filename or folder,
                remedy="let this user read it (chmod, chown), or name a copy of the model",
            ) from error

    return looked


@_readable
def check_folder(folder: Path, *, hashes: bool = True, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Return the content of config.json of a folder that can be loaded safely.

    Args:
        hashes: compare the files of a folder that has a manifest by hash, not by size alone.
        tensors: what its weights hold, where they do not lie in the folder (``hub_tensors``).

    Raises:
        ModelError: files are missing, cut, changed since their manifest was written, pickles or quantised; the
            model wants to run code of its own; or the configuration does not fit the weights.
    """
    if not folder.is_dir():
        raise _no_folder(folder)
    config = _config(folder)
    _no_code(folder, config)
    check_family(folder / "config.json", config)
    if tensors is None:
        if (folder / MANIFEST).is_file() and isinstance(_json(folder / MANIFEST).get("files"), dict):
            _unchanged(folder, hashes)
        tensors = _tensors(folder)
    _not_quantised(folder, config, tensors)
    check_shape(folder / "config.json", config, tensors)
    _tokenizer_fits(folder, config, tensors)
    return config


def _no_folder(path: Path) -> ModelError:
    return ModelError("there is no such folder", where=path, remedy="name the folder that holds the model")


def _unchanged(folder: Path, hashes: bool) -> None:
    try:
        files = verify(folder, ModelError, hashes=False)["files"]
        for name in files if hashes else ():
            if _digest(folder / name) != files[name]["sha256"]:
                raise ModelError(
                    "its SHA-256 differs from the manifest: it was changed or damaged", where=folder / name
                )
    except ModelError as error:
        remedy = "fetch or publish the model again, or restore the folder from a backup"
        raise ModelError(error.what, where=error.where, remedy=remedy) from error


@_readable
def count_parameters(folder: Path, tensors: Mapping[str, Tensor] | None = None) -> int:
    """Parameters of a checked folder, by the headers of its weights; a tied head counts once."""
    tied = text_part(_config(folder)).get("tie_word_embeddings")
    sizes = {name: t.count for name, t in (_tensors(folder) if tensors is None else tensors).items()}
    return sum(size for name, size in sizes.items() if not (tied and name == "lm_head.weight"))


@_readable
def weights_dtype(folder: Path) -> str:
    """The type that most of a checked folder's numbers have, as safetensors names it: F32, BF16, ..."""
    counts = Counter[str]()
    for tensor in _tensors(folder).values():
        counts[tensor.dtype] += tensor.count
    return counts.most_common(1)[0][0]


@_readable
def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of weights, tokenizer and configuration: equal for equal models.

    A process reads a file again only once something has touched it.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        wanted = path.suffix in (".safetensors", ".json", ".model", ".jinja", ".txt") and path.is_file()
        if wanted and path.name not in _NOT_IDENTITY:
            whole.update(f"{_digest(path)}  {path.name}\n".encode())
    return whole.hexdigest()


def _digest(path: Path) -> str:
    state = path.stat()
    touched = max(state.st_mtime_ns, state.st_ctime_ns)  # the first can be set back, the second cannot
    if time.time_ns() - touched < _SETTLED:  # a second change might bear the time of the first
        return sha256_file(path)
    return _settled_digest(path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@functools.lru_cache(maxsize=4096)
def _settled_digest(path: Path, *_: int) -> str:
    return sha256_file(path)


def share(folder: Path) -> None:
    """Give weights the mode of config.json beside them: safetensors keeps a file to its owner, whatever the umask."""
    for path in folder.glob("*.safetensors"):
        shutil.copymode(next(folder.glob("*config.json")), path)


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
    config = _json(path)
    if not isinstance(config.get("text_config"), dict | None):
        raise _fetch_file("text_config is no JSON object", path)
    return config


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_JSON:
        raise _fetch_file(f"has {path.stat().st_size / 1e6:.0f} MB, too much for such a file", path)
    try:
        value = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise _fetch_file(f"is not JSON: {error}", path) from None
    if not isinstance(value, dict):
        raise _fetch_file("does not hold a JSON object", path)
    return value


def _no_code(folder: Path, config: dict[str, Any]) -> None:
    for path in sorted(path for path in folder.glob("*config.json") if path.is_file()):
        content = config if path.name == "config.json" else _json(path)
        if _has_key(content, "auto_map"):
            raise ModelError(
                "the model brings Python code of its own (auto_map), which is never run",
                where=path,
                remedy="if transformers itself knows this family, copy the folder and remove auto_map there; "
                "otherwise use another model",
            )


def _has_key(value: Any, key: str) -> bool:
    waiting = [value]
    while waiting:  # JSON may be nested deeper than functions
        value = waiting.pop()
        if isinstance(value, dict) and key in value:
            return True
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return False


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
    shards = _shards(folder)
    if (folder / INDEX).is_file() or (folder / WEIGHTS).is_file():
        for shard in shards:
            if not (folder / shard).is_file():
                raise _fetch_model("listed in the index but missing", folder / shard)
        return _whole(folder, [read_header(folder / shard) for shard in shards])
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise ModelError(
            f"its weights are pickles ({pickles[0]}), which can run code when they are loaded",
            where=folder,
            remedy="use a version of the model with .safetensors weights",
        )
    raise _fetch_model(f"there are no weights ({WEIGHTS} or {INDEX})", folder)


def _shards(folder: Path) -> list[str]:
    """The files that the weights are in, whether they lie there or not."""
    index = folder / INDEX
    if not index.is_file():
        return [WEIGHTS]
    placed = _json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
        raise _fetch_file("names no shards", index)
    for shard in placed.values():
        if Path(shard).name != shard or "\\" in shard or "\0" in shard or not shard.endswith(".safetensors"):
            raise _fetch_file(f"names {shard!r}, which is no .safetensors file beside it", index)
    return sorted(set(placed.values()))


def _whole(folder: Path, headers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    tensors = {name: tensor for header in headers for name, tensor in header.items()}
    if (index := folder / INDEX).is_file() and (absent := _json(index)["weight_map"].keys() - tensors.keys()):
        raise _fetch_model(f"{min(absent)!r} is in none of the shards", index)
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
    return _fetch_file(f"the file is damaged or cut: {why}", path)


def _fetch_file(what: str, where: Path) -> ModelError:
    return ModelError(what, where=where, remedy="fetch the file again")


def _fetch_model(what: str, where: Path) -> ModelError:
    return ModelError(what, where=where, remedy="fetch the model again")


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
    rows = embedding_rows(config, tensors)
    highest = _highest_token(path)
    if rows is not None and highest >= rows:
        raise ModelError(
            f"the tokenizer goes up to token {highest}, the embedding has {rows} rows",
            where=path,
            remedy="use the tokenizer that belongs to the model",
        )
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        ids = text_part(config).get(key)
        for token in ids if isinstance(ids, list) else [ids]:
            if rows is not None and isinstance(token, int) and token >= rows:
                raise _fetch_model(f"{key} is {token}, the embedding has {rows} rows", folder / "config.json")


def _highest_token(path: Path) -> int:
    content = _json(path)
    model, added = content.get("model"), content.get("added_tokens") or []
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list) or not vocabulary:
        raise _fetch_file("holds no vocabulary", path)
    ids: list[Any] = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    if isinstance(added, list):
        ids += [token.get("id") if isinstance(token, dict) else None for token in added]
    if not isinstance(added, list) or not all(isinstance(token, int) for token in ids):
        raise _fetch_file("its vocabulary is damaged", path)
    return int(max(ids))


# -- the hub ----------------------------------------------------------------------------------------------------


def is_folder(base_model: str) -> bool:
    """Whether it names a folder: what a name means must not depend on where the command was given."""
    return base_model.startswith((".", "/", "~"))


def fetch(
    base_model: str,
    progress: Progress = lambda what, done, total, unit: None,
    *,
    weights: bool = True,
    token: str | None = None,
) -> Path:
    """The folder of a base model: a folder as it is, a hub id (``organisation/name``) downloaded.

    Args:
        weights: download them, and not only what is small.
        token: for the hub.

    Raises:
        ModelError: see ``rewarm.models.download.download``.
    """
    if is_folder(base_model):
        return _existing(Path(base_model))
    from rewarm.models.download import download  # imported late: a folder needs no hub client

    return download(base_model, progress, weights=weights, token=token)


@_readable
def _existing(path: Path) -> Path:
    try:
        found = path.expanduser()
    except RuntimeError:  # there is no such user
        raise _no_folder(path) from None
    if not found.is_dir():
        raise _no_folder(found)
    return found


@_readable
def hub_tensors(
    folder: Path, base_model: str, progress: Progress, token: str | None = None
) -> dict[str, Tensor] | None:
    """What the weights of a hub id hold that were left at the hub; None where they lie in ``folder``.

    Raises:
        ModelError: see ``rewarm.models.download.read_headers``; or the headers are damaged.
    """
    shards = _shards(folder)
    if all((folder / shard).is_file() for shard in shards):
        return None
    from rewarm.models.download import read_headers  # imported late: a folder needs no hub client

    headers = read_headers(base_model, folder.name, shards, progress, token)
    entries = [_entries(Path(base_model, shard), header) for shard, header in headers.items()]
    return _whole(folder, [{name: tensor for name, _, _, tensor in header} for header in entries])
