"""Pass 2 over a slice: the documents that were kept, tokenized, as one shard of its source.

A shard is a folder that is known by what it is made of: the texts, what becomes of each, and the
tokenizer. It appears under its name when it is whole, so a killed build loses the shards in work and
no more, and a source that grew is tokenized where it grew.

    train/tokens.bin, train/documents.idx        documents to train on
    held_out/tokens.bin, held_out/documents.idx  those that are never trained on
    shard.json                                   its figures, who is held out, SHA-256 of each file
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rewarm.core.manifest import to_json
from rewarm.core.storage import sha256_bytes, staged_folder
from rewarm.data.dataset import HELD_OUT
from rewarm.data.documents import Reject
from rewarm.data.files import Meter
from rewarm.data.scan import Scan, clean, identity
from rewarm.data.signature import ChangedError
from rewarm.data.slices import Slice
from rewarm.data.steps import Rule
from rewarm.data.tokenizer import DocumentTokenizer, Ids

TRAIN, DUPLICATE, HELD, NEAR_DUPLICATE = 0, 1, 2, 3
"""What becomes of a document."""
RECORD, TRAINED = "shard.json", "train"
TOKENS, INDEX = "tokens.bin", "documents.idx"
_BATCH_BYTES = 1 << 19
_BATCH_DOCUMENTS = 512

Choice = npt.NDArray[np.uint8]


@dataclass
class Figures:
    """Of one shard."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0


class ShardWriter:
    """Writes documents behind one another, and counts and hashes what it writes."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        folder.mkdir(parents=True)
        self.figures, self._dtype, self._offsets = Figures(), dtype, array("Q", [0])
        self._folder, self._digest = folder, sha256()
        self._file: BinaryIO = (folder / TOKENS).open("wb")

    def add(self, documents: list[Ids], sizes: int) -> None:
        """Append documents whose texts have ``sizes`` bytes together."""
        if not documents:
            return
        data = np.concatenate(documents).astype(self._dtype).data
        self._file.write(data)
        self._digest.update(data)
        for ids in documents:
            self._offsets.append(self._offsets[-1] + len(ids))
        self.figures.documents += len(documents)
        self.figures.tokens = self._offsets[-1]
        self.figures.bytes += sizes

    def close(self) -> dict[str, Any]:
        """Finish the files; of each, its bytes and SHA-256."""
        self._file.close()
        index = np.array(self._offsets, "<u8").tobytes()
        (self._folder / INDEX).write_bytes(index)
        tokens = {"bytes": self.figures.tokens * self._dtype.itemsize, "sha256": self._digest.hexdigest()}
        return {TOKENS: tokens, INDEX: {"bytes": len(index), "sha256": sha256_bytes(index)}}


def tokenize_slice(
    part: Slice,
    scan: Scan,
    choice: Choice,
    rules: Sequence[Rule],
    tokenizer: DocumentTokenizer,
    folder: Path,
    staging: Path,
    report: Callable[[int], None],
) -> None:
    """Make the shard ``folder`` of a slice, in ``staging`` as long as it is not whole.

    Args:
        choice: TRAIN, DUPLICATE, HELD or NEAR_DUPLICATE for each document of the scan.

    Raises:
        ChangedError: if a document is not the one that was scanned.
    """
    ids: list[dict[str, Any]] = []
    waiting: tuple[list[int], list[int], Future[list[Ids]]] | None = None
    with staged_folder(folder, staging, flush=False) as staged, ThreadPoolExecutor(1) as encoder:
        train, held = ShardWriter(staged / TRAINED, tokenizer.dtype), ShardWriter(staged / HELD_OUT, tokenizer.dtype)

        def write(flags: list[int], sizes: list[int], encoded: list[Ids]) -> None:
            for flag, writer in ((TRAIN, train), (HELD, held)):
                chosen = [i for i, f in enumerate(flags) if f == flag]
                writer.add([encoded[i] for i in chosen], sum(sizes[i] for i in chosen))

        # encoding runs outside the interpreter's lock: read and write meanwhile
        for texts, flags, sizes in _batches(part, scan, choice, rules, ids, report):
            future = encoder.submit(tokenizer.encode_batch, texts)
            if waiting:
                write(waiting[0], waiting[1], waiting[2].result())
            waiting = (flags, sizes, future)
        if waiting:
            write(waiting[0], waiting[1], waiting[2].result())
        files = {f"{kind}/{n}": f for kind, w in ((TRAINED, train), (HELD_OUT, held)) for n, f in w.close().items()}
        figures = {TRAINED: asdict(train.figures), HELD_OUT: asdict(held.figures)}
        (staged / RECORD).write_bytes(to_json({**figures, "documents": ids, "files": files}))


def _batches(
    part: Slice,
    scan: Scan,
    choice: Choice,
    rules: Sequence[Rule],
    held: list[dict[str, Any]],
    report: Callable[[int], None],
) -> Iterator[tuple[list[str], list[int], list[int]]]:
    """The kept texts in batches, with what becomes of each and its bytes; those held out are noted in ``held``."""
    texts: list[str] = []
    flags: list[int] = []
    sizes: list[int] = []
    total = 0
    for flag, (text, size, mark, done) in zip(choice.tolist(), _kept(part, scan, rules), strict=True):
        if flag in (DUPLICATE, NEAR_DUPLICATE):
            continue
        if flag == HELD:
            held.append({"id": mark.hex(), "source": part.source, "bytes": size})
        texts.append(text)
        flags.append(flag)
        sizes.append(size)
        total += size
        if total >= _BATCH_BYTES or len(texts) >= _BATCH_DOCUMENTS:
            yield texts, flags, sizes
            texts, flags, sizes, total = [], [], [], 0
            report(done)
    if texts:
        yield texts, flags, sizes


def _kept(part: Slice, scan: Scan, rules: Sequence[Rule]) -> Iterator[tuple[str, int, bytes, int]]:
    """The documents that pass 1 kept, cleaned, with their bytes and identities, and the bytes read so far."""
    changing = [rule for rule in rules if rule.changes]  # what the others would say is known
    marks = (scan.ids[at].tobytes() for at in range(len(scan.ids)))
    first = done = 0
    for index, file in enumerate(part.files):
        if scan.errors[index] is not None:
            continue
        meter, kept = Meter(), scan.kept[first : first + scan.read[index]]
        position = 0
        for item in part.documents(index, meter):
            if isinstance(item, Reject):
                continue
            if position >= len(kept):
                raise ChangedError(file.uri)
            if kept[position]:
                text, mark = item.raw, next(marks)
                if changing or identity(data := text.encode()) != mark:  # most texts are in NFC already
                    (left,) = clean([item.text], changing)
                    if not isinstance(left, str) or identity(data := left.encode()) != mark:
                        raise ChangedError(file.uri)
                    text = left
                yield text, len(data), mark, done + meter.bytes
            position += 1
        if position != len(kept):
            raise ChangedError(file.uri)
        first += len(kept)
        done += file.signature[0]
