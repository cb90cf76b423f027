"""A base model's tokenizer as documents need it: plain text in, ids out, BOS and EOS once each.

The text of a document is never encoded as a control token, whatever it contains: special tokens are
not looked for in text, and neither are added tokens that only look like control tokens
(``<tool_call>``, ``[INST]``, ``<|python_tag|>``), which some tokenizers do not mark as special.
Added tokens for runs of white space stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson
from tokenizers import Tokenizer

from rewarm.core.errors import DataError, ModelError
from rewarm.core.manifest import canonical
from rewarm.core.storage import sha256_bytes

if TYPE_CHECKING:  # workers import this module, and pydantic costs them a quarter of a second
    from rewarm.recipe.recipe import DocumentTokens

Ids = npt.NDArray[np.uint32]
_CONTROL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|<\|.*\|>", re.DOTALL)


class DocumentTokenizer:
    """Encodes whole documents. Build it with ``load``."""

    def __init__(self, tokenizer: Tokenizer, bos_id: int | None, eos_id: int | None, digest: str) -> None:
        self.bos_id, self.eos_id, self.hash = bos_id, eos_id, digest
        self.vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, document_tokens: DocumentTokens | None = None) -> DocumentTokenizer:
        """The tokenizer of a Hugging Face folder.

        BOS is added where the tokenizer's own convention adds it, EOS is the ``eos_token`` of
        ``tokenizer_config.json``; ``document_tokens`` overrides either, and null there means none.

        Raises:
            ModelError: if ``tokenizer.json`` is missing or broken.
            DataError: if ``document_tokens`` names a token that the tokenizer lacks.
        """
        given = (
            {}
            if document_tokens is None
            else {n: getattr(document_tokens, n) for n in document_tokens.model_fields_set}
        )
        return cls.from_names(folder, given)

    @classmethod
    def from_names(cls, folder: Path, given: dict[str, str | None]) -> DocumentTokenizer:
        """``load``, with the given ones of ``bos`` and ``eos`` as a dictionary."""
        data = _read(folder)
        tokenizer = _quiet(folder, data)
        config = _config(folder)
        if "bos" in given:
            bos = _named(tokenizer, given["bos"], "bos")
        else:
            bos = _convention(tokenizer, config)
        if "eos" in given:
            eos = _named(tokenizer, given["eos"], "eos")
        else:
            name = _content(config.get("eos_token"))
            eos = None if name is None else tokenizer.token_to_id(name)
        facts = {"tokenizer": sha256_bytes(data), "bos": bos, "eos": eos}
        return cls(tokenizer, bos, eos, sha256_bytes(canonical(facts)))

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

    def encode_plain(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, without BOS and EOS."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, with BOS before and EOS after it where there are such."""
        before = np.array([] if self.bos_id is None else [self.bos_id], np.uint32)
        after = np.array([] if self.eos_id is None else [self.eos_id], np.uint32)
        return [np.concatenate([before, ids, after]) for ids in self.encode_plain(texts)]

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of a document's ids; a BOS in front and an EOS at the end are left out."""
        values = [int(value) for value in ids]
        if values and self.bos_id is not None and values[0] == self.bos_id:
            values = values[1:]
        if values and self.eos_id is not None and values[-1] == self.eos_id:
            values = values[:-1]
        text: str = self._tokenizer.decode(values, skip_special_tokens=False)
        return text


def _read(folder: Path) -> bytes:
    try:
        return (folder / "tokenizer.json").read_bytes()
    except OSError as error:
        raise ModelError(
            f"the tokenizer cannot be read: {error.strerror}",
            where=folder / "tokenizer.json",
            remedy="use a model folder that holds tokenizer.json (AutoTokenizer.save_pretrained writes it)",
        ) from None


def _quiet(folder: Path, data: bytes) -> Tokenizer:
    """The tokenizer, told to find no control token in text."""
    try:
        value = orjson.loads(data)
        for token in value.get("added_tokens") or []:
            # marked as special rather than dropped: dropping one would shift the ids of those behind it
            token["special"] = bool(token["special"] or _CONTROL.fullmatch(token["content"].strip()))
        tokenizer = Tokenizer.from_str(orjson.dumps(value).decode())
    except Exception as error:  # the Rust side raises Exception itself
        raise ModelError(f"the tokenizer is broken: {error}", where=folder / "tokenizer.json") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


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


def _content(token: Any) -> str | None:
    """A token in tokenizer_config.json is its text, or an object with ``content``."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _convention(tokenizer: Tokenizer, config: dict[str, Any]) -> int | None:
    """The id that the tokenizer itself would put before a text, if any."""
    adds = config.get("add_bos_token")
    name = _content(config.get("bos_token"))
    if adds is not None:
        return tokenizer.token_to_id(name) if adds and name is not None else None
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    return whole[0] if len(whole) > len(plain) and whole[: len(plain)] != plain else None


def _named(tokenizer: Tokenizer, name: str | None, field: str) -> int | None:
    if name is None:
        return None
    found = tokenizer.token_to_id(name)
    if found is None:
        known = sorted(token.content for token in tokenizer.get_added_tokens_decoder().values())[:20]
        raise DataError(
            f"the tokenizer has no token {name!r}",
            where=f"data.document_tokens.{field}",
            remedy=f"use one of its added tokens: {', '.join(known)}" if known else "use a token of its vocabulary",
        )
    return int(found)
