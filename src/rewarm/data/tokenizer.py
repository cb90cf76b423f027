"""A base model's tokenizer as documents need it: plain text in, ids out, BOS and EOS once each.

The text of a document is never encoded as a control token, whatever it contains: special tokens are
not looked for in text, and neither are added tokens that only look like control tokens
(``<tool_call>``, ``[INST]``, ``<|python_tag|>``), which some tokenizers do not mark as special.
Added tokens for runs of white space stay what they are.

A long document is encoded in parts where that provably gives the same ids. ``tokenizers`` needs
about 160 bytes of memory for each byte of one text, and is faster on short ones. The common
pre-tokenizers (``_PATTERNS``) cut text into words by a regular expression whose matches are then
encoded one by one, and in each of those expressions

- a space is the first character of a match or stands inside a run of white space, so where a space
  follows something else, a match ends before it;
- a newline is the last character of a match or stands inside a run of white space, so a newline
  between two characters that are no white space ends a match, whichever alternative takes it;
- only ``\\s+(?!\\S)`` looks beyond its match, and for that one newline ``\\s+`` steps in.

So before such a space and behind such a newline a match ends in the whole text as in the part, and
the rest of the text is matched from there on as if it stood alone.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
_PART = 32_768
"""Characters from which a document is encoded in parts, and about what each part has."""
_GROUP = 1 << 19
"""Characters that are encoded together."""
_CUT = re.compile(r"(?<=\S)(?= )|(?<=\S\n)(?=\S)")
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2, also inside ByteLevel
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",  # Llama 3
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{_WORDS}|\p{{N}}|{_REST}",  # Qwen
}
_CONTROL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|<\|.*\|>", re.DOTALL)


class DocumentTokenizer:
    """Encodes whole documents. Build it with ``load``."""

    def __init__(self, loaded: _Loaded, bos_id: int | None, eos_id: int | None, digest: str) -> None:
        self.bos_id, self.eos_id, self.hash, self.vocab_size = bos_id, eos_id, digest, loaded.vocab_size
        self._tokenizer, self._in_parts = loaded.tokenizer, loaded.in_parts

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
        loaded, config = _load(folder, data), _config(folder)
        tokenizer = loaded.tokenizer
        bos = _named(tokenizer, given["bos"], "bos") if "bos" in given else _convention(tokenizer, config)
        eos = _named(tokenizer, given["eos"], "eos") if "eos" in given else _eos(tokenizer, config)
        facts = {"tokenizer": sha256_bytes(data), "bos": bos, "eos": eos}
        return cls(loaded, bos, eos, sha256_bytes(canonical(facts)))

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
        before = [] if self.bos_id is None else [array("I", [self.bos_id])]
        after = [] if self.eos_id is None else [array("I", [self.eos_id])]
        pieces = [_parts(text) if self._in_parts and len(text) > _PART else [text] for text in texts]
        arrays = iter(self._encode([part for parts in pieces for part in parts]))
        return [_joined([*before, *(next(arrays) for _ in parts), *after]) for parts in pieces]

    def _encode(self, texts: list[str]) -> list[array[int]]:
        """The ids of each text, in groups: an encoding takes far more memory than its ids."""
        found: list[array[int]] = []
        begin = size = 0
        for index, text in enumerate(texts):
            size += len(text)
            if size >= _GROUP or index == len(texts) - 1:
                encodings = self._tokenizer.encode_batch_fast(texts[begin : index + 1], add_special_tokens=False)
                found.extend(array("I", encoding.ids) for encoding in encodings)
                begin, size = index + 1, 0
        return found

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of a document's ids; a BOS in front and an EOS at the end are left out."""
        values = [int(value) for value in ids]
        if values and self.bos_id is not None and values[0] == self.bos_id:
            values = values[1:]
        if values and self.eos_id is not None and values[-1] == self.eos_id:
            values = values[:-1]
        text: str = self._tokenizer.decode(values, skip_special_tokens=False)
        return text


def _parts(text: str) -> list[str]:
    """The text cut at places that cannot change its ids."""
    parts, begin = [], 0
    while len(text) - begin > _PART and (cut := _CUT.search(text, begin + _PART)):
        parts.append(text[begin : cut.start()])
        begin = cut.start()
    return [*parts, text[begin:]]


def _joined(arrays: list[array[int]]) -> Ids:
    parts = [np.frombuffer(part, np.uint32) if part else np.zeros(0, np.uint32) for part in arrays]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _can_be_cut(value: dict[str, Any]) -> bool:
    """Whether a tokenizer is of the kind that the note at the top speaks about."""
    if value.get("normalizer") not in (None, {"type": "NFC"}) or value["model"].get("dropout"):
        return False
    pre = value.get("pre_tokenizer") or {}
    steps = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    by_words = False
    for step in steps:
        if step.get("type") == "ByteLevel":
            if step.get("add_prefix_space", True):
                return False
            by_words |= step.get("use_regex", True)
        elif step.get("type") == "Split":
            if step["behavior"] != "Isolated" or step["invert"] or step["pattern"].get("Regex") not in _PATTERNS:
                return False
            by_words = True
        elif step.get("type") != "Digits":
            return False
    # an added token that is looked for in text must neither reach over a cut nor care about its neighbours
    looked_for = [token for token in value.get("added_tokens") or [] if not token["special"]]
    return by_words and not any(
        token["lstrip"] or token["rstrip"] or token["single_word"] or re.search(r"\S |\n\S", token["content"])
        for token in looked_for
    )


def _read(folder: Path) -> bytes:
    try:
        return (folder / "tokenizer.json").read_bytes()
    except OSError as error:
        raise ModelError(
            f"the tokenizer cannot be read: {error.strerror}",
            where=folder / "tokenizer.json",
            remedy="use a model folder that holds tokenizer.json (AutoTokenizer.save_pretrained writes it)",
        ) from None


class _Loaded(NamedTuple):
    tokenizer: Tokenizer
    vocab_size: int
    in_parts: bool


def _load(folder: Path, data: bytes) -> _Loaded:
    """The tokenizer, told to find no control token in text, and what its JSON says besides."""
    try:
        value = orjson.loads(data)
        added = value.get("added_tokens") or []
        for token in added:
            if not token["special"] and _CONTROL.fullmatch(token["content"].strip()):
                token["special"] = True  # rather than dropped: that would shift the ids of those behind it
                data = b""
        tokenizer = Tokenizer.from_str((data or orjson.dumps(value)).decode())
        vocabulary = value["model"]["vocab"]  # asking the tokenizer for it takes 70 ms
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        size = 1 + max(*(token["id"] for token in added), max(ids, default=-1), -1)
        in_parts = _can_be_cut(value)
    except Exception as error:  # the Rust side raises Exception itself
        raise ModelError(f"the tokenizer is broken: {error}", where=folder / "tokenizer.json") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return _Loaded(tokenizer, size, in_parts)


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


def _eos(tokenizer: Tokenizer, config: dict[str, Any]) -> int | None:
    name = _content(config.get("eos_token"))
    return None if name is None else tokenizer.token_to_id(name)


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
