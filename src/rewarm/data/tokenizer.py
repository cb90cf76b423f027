"""A base model's tokenizer as documents need it: plain text in, ids out, BOS and EOS once each.

The text of a document is never encoded as a control token, whatever it contains: special tokens are
not looked for in text, and neither are added tokens that only look like control tokens
(``<tool_call>``, ``[INST]``, ``<|python_tag|>``), which some tokenizers do not mark as special.
Added tokens for runs of white space stay what they are.

Ids are made by ``tokenizers``, or ten to forty times faster by ``fastokens`` where ``encoder.py`` has
found that it makes the same. The other one then makes those of a text that ``fastokens`` refuses,
which is one with a byte that the vocabulary lacks.

``tokenizers`` needs about 160 bytes of memory for each byte of a text, ``fastokens`` 4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastokens
import numpy as np
import numpy.typing as npt
import orjson
from tokenizers import Tokenizer

from rewarm.core.errors import DataError, ModelError
from rewarm.core.manifest import canonical
from rewarm.core.storage import sha256_bytes
from rewarm.data.steps.words import grouped

if TYPE_CHECKING:  # workers import this module, and pydantic costs them a quarter of a second
    from rewarm.recipe.recipe import DocumentTokens

Ids = npt.NDArray[np.uint32]
STOCK, FAST = "tokenizers", "fastokens"
"""The libraries that encode."""
_GROUP = 1 << 19
"""Characters that are encoded together."""
_CONTROL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|<\|.*\|>", re.DOTALL)


class DocumentTokenizer:
    """Encodes whole documents. Build it with ``load``, or in a worker from the ``spec`` of another one."""

    def __init__(self, definition: _Definition, bos_id: int | None, eos_id: int | None, encoder: str = STOCK) -> None:
        self.bos_id, self.eos_id, self.encoder, self.vocab_size = bos_id, eos_id, encoder, definition.vocab_size
        self.hash = sha256_bytes(canonical({"tokenizer": definition.sha256, "bos": bos_id, "eos": eos_id}))
        self._definition = definition

    @classmethod
    def load(cls, folder: Path, document_tokens: DocumentTokens | None = None) -> DocumentTokenizer:
        """The tokenizer of a Hugging Face folder, encoding with ``tokenizers``.

        BOS is added where the tokenizer's own convention adds it, EOS is the ``eos_token`` of
        ``tokenizer_config.json``; ``document_tokens`` overrides either, and null there means none.

        Raises:
            ModelError: if ``tokenizer.json`` is missing or broken.
            DataError: if ``document_tokens`` names a token that the tokenizer lacks.
        """
        given: dict[str, str | None] = {}
        if document_tokens is not None:
            given = {name: getattr(document_tokens, name) for name in document_tokens.model_fields_set}
        definition, config = _read(folder), _config(folder)
        bos = _named(definition, given["bos"], "bos") if "bos" in given else _convention(definition, config)
        eos = _named(definition, given["eos"], "eos") if "eos" in given else _configured(definition, config, "eos")
        return cls(definition, bos, eos)

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> DocumentTokenizer:
        """The tokenizer that a ``spec`` describes; only the library that it names is loaded.

        Raises:
            ModelError: if ``tokenizer.json`` is not what it was.
        """
        found = cls(_read(Path(spec["folder"])), spec["bos_id"], spec["eos_id"], spec["encoder"])
        if found.hash != spec["hash"]:
            raise ModelError("the tokenizer was changed meanwhile", where=spec["folder"], remedy="run again")
        return found

    @property
    def spec(self) -> dict[str, Any]:
        """What makes the same tokenizer in another process, as JSON holds it."""
        folder = str(self._definition.path.parent)
        ids = {"bos_id": self.bos_id, "eos_id": self.eos_id}
        return {"folder": folder, **ids, "hash": self.hash, "encoder": self.encoder}

    @property
    def added_tokens(self) -> list[str]:
        """The names of all tokens that are no part of the model's own vocabulary."""
        return list(self._definition.added)

    def with_encoder(self, encoder: str) -> DocumentTokenizer:
        """The same tokenizer, encoding with the other library."""
        return DocumentTokenizer(self._definition, self.bos_id, self.eos_id, encoder)

    @property
    def context_id(self) -> int:
        """What the first token of a scored document is conditioned on: BOS, else EOS.

        Raises:
            ModelError: if there is neither.
        """
        for token in (self.bos_id, self.eos_id):
            if token is not None:
                return token
        raise ModelError(
            "this tokenizer has neither a BOS nor an EOS token", remedy="name one in data.document_tokens.eos"
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest little-endian type that holds every id."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, with BOS before and EOS after it where there are such."""
        if self.encoder == FAST:
            return self._encode_fast(texts)
        before, after = ([] if i is None else [np.array([i], np.uint32)] for i in (self.bos_id, self.eos_id))
        found: list[Ids] = []
        for some in grouped(texts, len, _GROUP):  # an encoding takes far more memory than its ids
            encodings = self._definition.stock.encode_batch_fast(some, add_special_tokens=False)
            found += [np.concatenate([*before, np.array(one.ids, np.uint32), *after]) for one in encodings]
        return found

    def _encode_fast(self, texts: Sequence[str]) -> list[Ids]:
        fast = self._definition.fast
        try:
            ids, offsets = fast.encode_batch_flat(list(texts), add_special_tokens=False, split_special_tokens=True)
        except ValueError:  # `tokenizers` leaves out the byte that has no token
            if len(texts) == 1:
                return self.with_encoder(STOCK).encode_batch(texts)
            half = len(texts) // 2
            return [*self._encode_fast(texts[:half]), *self._encode_fast(texts[half:])]
        ends = np.frombuffer(offsets, "<u8").astype(np.int64)
        around = [(ends[:-1], self.bos_id), (ends[1:], self.eos_id)]
        places = [place for place, token in around if token is not None]
        tokens = [token for _, token in around if token is not None]
        flat: Ids = np.frombuffer(ids, "<u4")
        if tokens:  # in the order of documents: an empty one has both of its tokens in one place
            flat = np.insert(flat, np.stack(places, axis=1).ravel(), np.tile(tokens, len(texts)))
            ends = ends + len(tokens) * np.arange(len(ends))
        return [flat[begin:end] for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of a document's ids; a BOS in front and an EOS at the end are left out."""
        values = [int(value) for value in ids]
        if values and self.bos_id is not None and values[0] == self.bos_id:
            values = values[1:]
        if values and self.eos_id is not None and values[-1] == self.eos_id:
            values = values[:-1]
        text: str = self._definition.stock.decode(values, skip_special_tokens=False)
        return text


@dataclass
class _Definition:
    """What ``tokenizer.json`` says, without the parts that would find control tokens in text.

    Building either library's tokenizer of it takes up to seconds, and is done when it is first used.
    """

    path: Path
    sha256: str
    text: str
    ids: dict[str, int]  # of all tokens
    added: dict[str, int]  # of those that are no part of the model's own vocabulary
    adds: dict[str, Any] | None  # its post-processor

    @property
    def vocab_size(self) -> int:
        return 1 + max(self.ids.values(), default=-1)

    @cached_property
    def stock(self) -> Tokenizer:
        try:
            tokenizer = Tokenizer.from_str(self.text)
        except Exception as error:  # the Rust side raises Exception itself
            raise ModelError(f"the tokenizer is broken: {error}", where=self.path) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        return tokenizer

    @cached_property
    def fast(self) -> fastokens.Tokenizer:
        tokenizer = fastokens.Tokenizer.from_json_str(self.text)
        tokenizer.no_truncation()
        return tokenizer


def _read(folder: Path) -> _Definition:
    path = folder / "tokenizer.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the tokenizer cannot be read: {error.strerror}",
            where=path,
            remedy="use a model folder that holds tokenizer.json (AutoTokenizer.save_pretrained writes it)",
        ) from None
    digest = sha256_bytes(data)
    try:
        value = orjson.loads(data)
        added = value.get("added_tokens") or []
        for token in added:
            if not token["special"] and _CONTROL.fullmatch(token["content"].strip()):
                token["special"] = True  # rather than dropped: that would shift the ids of those behind it
                data = b""
        text = (data or orjson.dumps(value)).decode()
        own = value["model"]["vocab"]
        ids = own if isinstance(own, dict) else {token: index for index, (token, _) in enumerate(own)}
        names = {token["content"]: token["id"] for token in sorted(added, key=lambda token: token["id"])}
        return _Definition(path, digest, text, ids | names, names, value.get("post_processor"))
    except Exception as error:  # whatever a broken file may hold
        raise ModelError(f"the tokenizer is broken: {error}", where=path) from None


def _config(folder: Path) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            value = orjson.loads((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, orjson.JSONDecodeError) as error:
            raise ModelError(f"cannot be read: {error}", where=folder / name) from None
        if isinstance(value, dict):
            merged.update(value)
    return merged


def _configured(definition: _Definition, config: dict[str, Any], which: str) -> int | None:
    """The id of a token that the configuration names: by its text, or in an object with ``content``."""
    token = config.get(f"{which}_token")
    name = token.get("content") if isinstance(token, dict) else token
    return definition.ids.get(name) if isinstance(name, str) else None


def _convention(definition: _Definition, config: dict[str, Any]) -> int | None:
    """The id that the tokenizer itself would put before a text, if any."""
    adds = config.get("add_bos_token")
    if adds is not None:
        return _configured(definition, config, "bos") if adds else None
    word = max(definition.ids.values(), default=0) + 1  # of a vocabulary of one word, with the same post-processor
    tiny = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": word}, "unk_token": "a"}}
    try:
        tokenizer = Tokenizer.from_str(orjson.dumps(tiny | {"post_processor": definition.adds}).decode())
    except Exception as error:  # the Rust side raises Exception itself
        raise ModelError(f"the tokenizer is broken: {error}", where=definition.path) from None
    first: int = tokenizer.encode("a", add_special_tokens=True).ids[0]
    return None if first == word else first


def _named(definition: _Definition, name: str | None, field: str) -> int | None:
    if name is None:
        return None
    found = definition.ids.get(name)
    if found is None:
        known = sorted(definition.added)[:20]
        raise DataError(
            f"the tokenizer has no token {name!r}",
            where=f"data.document_tokens.{field}",
            remedy=f"use one of its added tokens: {', '.join(known)}" if known else "use a token of its vocabulary",
        )
    return found
