"""The chat vector: what an instruct model was taught beyond its base, added to the base trained further (2310.04799).

Weights are ``trained + (instruct - base)``, tensor by tensor: never more is in memory than one file that is written.
Tokenizer, chat template and generation settings are the instruct model's, so the result chats as that does.
"""

from __future__ import annotations

from pathlib import Path

import orjson
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from rewarm.core.errors import ModelError
from rewarm.core.manifest import to_json
from rewarm.core.storage import write_file
from rewarm.models.export import copy_settings
from rewarm.models.folder import share
from rewarm.models.pieces import Pieces

SHARD = 1 << 30
"""Bytes of a file of weights, from which on the next begins."""
_TURN_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def check_instruct(instruct: Path, base: Path) -> None:
    """Whether the one was made from the other: the same tensors, and every token of the base under its number.

    Raises:
        ModelError: if not, with what differs.
    """
    ours, theirs = _weights(base), _weights(instruct)
    for name in sorted(ours.names):
        found = _find(theirs, name)
        if found is None or theirs.shape(found) != ours.shape(name):
            has = "has none" if found is None else f"has one of {list(theirs.shape(found))}"
            raise ModelError(
                f"not an instruct model of this base: of {name} {list(ours.shape(name))} it {has}",
                where=f"evaluation.instruct_model: {instruct}",
                remedy="name the instruct model that was made from base_model, with the same vocabulary",
            )
    known = Tokenizer.from_file(str(instruct / "tokenizer.json")).get_vocab()
    for token, number in Tokenizer.from_file(str(base / "tokenizer.json")).get_vocab(with_added_tokens=False).items():
        if known.get(token) != number:
            raise ModelError(
                f"its tokenizer is not the base's: token {number} is not {token!r} there",
                where=f"evaluation.instruct_model: {instruct}",
                remedy="name the instruct model that was made from base_model, with the same vocabulary",
            )


@torch.no_grad()
def add_chat_vector(trained: Path, base: Path, instruct: Path, target: Path) -> None:
    """Write ``trained + (instruct - base)`` into the folder ``target``; all are folders as ``export`` writes them.

    Raises:
        ModelError: a tensor is in one of them only.
    """
    new, old, taught = _weights(trained), _weights(base), _weights(instruct)
    places: dict[str, str] = {}
    shard: dict[str, Tensor] = {}

    def flush() -> None:
        file = f"model-{len(set(places.values())) + 1:05d}.safetensors"
        save_file(shard, target / file, {"format": "pt"})
        places.update(dict.fromkeys(shard, file))
        shard.clear()

    for name in sorted(new.names):
        if (before := _find(old, name)) is None or (after := _find(taught, name)) is None:
            raise ModelError(f"the chat vector lacks {name}", where=instruct)
        weight = new.read(name)
        vector = taught.read(after).float() - old.read(before).float()
        shard[name] = (weight.float() + vector).to(weight.dtype).contiguous()
        if sum(tensor.nbytes for tensor in shard.values()) >= SHARD:
            flush()
    if shard:
        flush()
    write_file(target / "model.safetensors.index.json", to_json({"metadata": {}, "weight_map": places}))
    copy_settings(instruct, target)
    config, theirs = (orjson.loads((folder / "config.json").read_bytes()) for folder in (trained, instruct))
    config |= {key: theirs[key] for key in _TURN_ENDS if key in theirs}
    write_file(target / "config.json", to_json(config))
    share(target)


def _weights(folder: Path) -> Pieces:
    return Pieces(sorted(folder.glob("*.safetensors")))


def _find(pieces: Pieces, name: str) -> str | None:
    """The tensor's name there: some folders leave out what all names begin with."""
    if name in pieces.names:
        return name
    alike = [n for n in pieces.names if name.endswith(f".{n}") or n.endswith(f".{name}")]
    return alike[0] if len(alike) == 1 else None
