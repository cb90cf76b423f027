"""A dataset on disk: whole tokenized documents in memory-mapped shards, described by a manifest.

    datasets/HASH/manifest.json
                  SOURCE/tokens-00000.bin      little-endian uint16 or uint32 ids
                  SOURCE/documents-00000.idx   uint64 offsets into them, one more than documents
                  SOURCE/held_out/...          the same for documents that are never trained on
                  SOURCE/held_out.jsonl        {id, source, bytes} for each of those, in shard order
                  tokenizer.json               that of the base model, to look at what the ids say

Reading costs 8 bytes of memory a document (its length); everything else stays mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from tokenizers import Tokenizer

from rewarm.core.errors import DataError
from rewarm.core.manifest import read_manifest, verify

HELD_OUT = "held_out"
TOKENIZER = "tokenizer.json"
Tokens = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class SourceInfo:
    """The figures of one source. ``documents``, ``tokens`` and ``bytes`` count what is trained on."""

    name: str
    role: str  # source, replay or panel
    documents: int
    tokens: int
    bytes: int
    held_out_documents: int
    held_out_tokens: int
    held_out_bytes: int


class Documents:
    """The documents of some shards, by index; tokens include BOS and EOS as the dataset has them."""

    def __init__(
        self,
        folder: Path,
        shards: Sequence[str],
        dtype: npt.DTypeLike,
        ids: Sequence[str] = (),
        sizes: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.ids = list(ids)
        """Of held-out documents: the hash of each text, in hex."""
        self.bytes = np.zeros(0, np.int64) if sizes is None else sizes
        """Of held-out documents: UTF-8 bytes of each NFC text."""
        self._offsets = [_mapped(folder / f"documents-{shard}.idx", np.dtype("<u8")) for shard in shards]
        self._tokens = [_mapped(folder / f"tokens-{shard}.bin", np.dtype(dtype)) for shard in shards]
        self._first = np.cumsum([0, *(len(offsets) - 1 for offsets in self._offsets)])  # (shards + 1,)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document, (documents,)."""
        parts = [np.diff(offsets.astype(np.int64)) for offsets in self._offsets]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return int(self._first[-1])

    def tokens(self, index: int) -> Tokens:
        """All tokens of document ``index``, (length,), read-only."""
        return self.read(index, 0, None)

    def read(self, index: int, begin: int, end: int | None) -> Tokens:
        """Tokens ``begin`` to ``end`` (None: the last) of document ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        offsets = self._offsets[shard]
        local = index - int(self._first[shard])
        start, stop = int(offsets[local]), int(offsets[local + 1])
        found: Tokens = self._tokens[shard][start + begin : stop if end is None else min(start + end, stop)]
        return found


def _mapped(path: Path, dtype: np.dtype[Any]) -> Any:
    try:
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise DataError(f"its {size} bytes are not a whole number of {dtype.name} values", where=path)
        return np.memmap(path, dtype, "r") if size else np.zeros(0, dtype)  # an empty file cannot be mapped
    except FileNotFoundError:
        raise DataError("a file of the dataset is missing", where=path, remedy=f"delete {path.parent.parent}") from None


class Dataset:
    """An open dataset."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, folder: Path, verify: bool = True) -> Dataset:
        """Open ``folder``; ``verify`` compares every file's SHA-256 with the manifest, else only sizes.

        Raises:
            DataError: if there is no manifest, or a file is missing, cut or changed.
        """
        return cls(folder, _verified(folder, verify))

    @property
    def hash(self) -> str:
        return self.path.name

    @cached_property
    def sources(self) -> dict[str, SourceInfo]:
        """Sources, replay and panels by name, in the order of the recipe."""
        return {entry["name"]: _info(entry) for entry in self.manifest["sources"]}

    def train(self, source: str) -> Documents:
        """The documents of ``source`` that may be trained on."""
        entry = self._entry(source)
        return Documents(self.path / source, entry["shards"], self.manifest["dtype"])

    def held_out(self, source: str) -> Documents:
        """The documents of ``source`` that are only measured, with their ids and bytes."""
        entry = self._entry(source)
        lines = (self.path / source / f"{HELD_OUT}.jsonl").read_bytes().split(b"\n")
        records = [orjson.loads(line) for line in lines if line]
        sizes = np.array([record["bytes"] for record in records], np.int64)
        folder = self.path / source / HELD_OUT
        return Documents(folder, entry["held_out_shards"], self.manifest["dtype"], [r["id"] for r in records], sizes)

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of ids, control tokens included, for people to look at."""
        text: str = self._tokenizer.decode([int(value) for value in ids], skip_special_tokens=False)
        return text

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.path / TOKENIZER))

    def _entry(self, source: str) -> dict[str, Any]:
        for entry in self.manifest["sources"]:
            if entry["name"] == source:
                return dict(entry)
        raise DataError(f"the dataset has no source {source!r}; it has {', '.join(self.sources)}", where=self.path)


def _verified(folder: Path, hashes: bool) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if not isinstance(manifest.get("sources"), list) or "dtype" not in manifest:
        raise DataError("this manifest is not that of a dataset", where=folder)
    verify(folder, hashes=hashes)
    _require_sums(folder, manifest)
    return manifest


def _require_sums(folder: Path, manifest: dict[str, Any]) -> None:
    """Nothing vouches for the manifest itself: its counts must be those of the files."""
    width = np.dtype(manifest["dtype"]).itemsize
    for entry in manifest["sources"]:
        for kind, documents, tokens in (("", "accepted", "tokens"), (f"{HELD_OUT}/", HELD_OUT, "held_out_tokens")):
            here = f"{entry['name']}/{kind}"
            sizes = {
                name.removeprefix(here): file["bytes"]
                for name, file in manifest["files"].items()
                if name.startswith(here) and "/" not in name.removeprefix(here)
            }
            found = (
                sum(size // 8 - 1 for name, size in sizes.items() if name.endswith(".idx")),
                sum(size // width for name, size in sizes.items() if name.endswith(".bin")),
            )
            if found != (entry[documents], entry[tokens]):
                raise DataError(f"the manifest's counts of {entry['name']} are not those of its files", where=folder)


def _info(entry: dict[str, Any]) -> SourceInfo:
    fields = ("name", "role", "accepted", "tokens", "bytes", "held_out", "held_out_tokens", "held_out_bytes")
    return SourceInfo(*(entry[field] for field in fields))
