"""Pass 2 over a slice: the documents that were kept, tokenized, as one shard of its source.

The files of a shard get their names when they are whole; the record of the shard is written last,
so a shard without a record is made again, with the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rewarm.core.manifest import to_json
from rewarm.core.storage import TEMPORARY, write_file
from rewarm.data.dataset import HELD_OUT
from rewarm.data.documents import Reject
from rewarm.data.files import Meter
from rewarm.data.scan import ID_BYTES, Scan, identity
from rewarm.data.slices import ChangedError, Slice
from rewarm.data.tokenizer import DocumentTokenizer, Ids

TRAIN, DUPLICATE, HELD = 0, 1, 2
"""What becomes of a document."""
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
    """Writes documents behind one another; the files appear under their names in ``close``."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype[Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.figures, self._dtype, self._offsets = Figures(), dtype, [0]
        self._folder, self._name = folder, name
        self._file: BinaryIO = (folder / f"{TEMPORARY}tokens-{name}-{os.getpid()}").open("wb")

    def add(self, documents: list[Ids], sizes: int) -> None:
        """Append documents whose texts have ``sizes`` bytes together."""
        for ids in documents:
            self._file.write(ids.astype(self._dtype).data)
            self._offsets.append(self._offsets[-1] + len(ids))
        self.figures.documents += len(documents)
        self.figures.tokens = self._offsets[-1]
        self.figures.bytes += sizes

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.figures.documents == 0:
            Path(self._file.name).unlink()
            return
        Path(self._file.name).replace(self._folder / f"tokens-{self._name}.bin")
        write_file(self._folder / f"documents-{self._name}.idx", np.array(self._offsets, "<u8").tobytes())


def tokenize_slice(
    part: Slice,
    scan: Scan,
    choice: Choice,
    tokenizer: DocumentTokenizer,
    folder: Path,
    record: Path,
    report: Callable[[int], None],
) -> None:
    """Write ``folder/tokens-N.bin`` and ``folder/held_out/tokens-N.bin`` with their offsets, and the record.

    Args:
        choice: TRAIN, DUPLICATE or HELD for each document of the scan.

    Raises:
        ChangedError: if a document is not the one that was scanned.
    """
    name = f"{part.number:05d}"
    train, held = (ShardWriter(f, name, tokenizer.dtype) for f in (folder, folder / HELD_OUT))
    ids: list[dict[str, Any]] = []

    def write(batch: list[str], flags: list[int], sizes: list[int], encoded: list[Ids]) -> None:
        for flag, writer in ((TRAIN, train), (HELD, held)):
            chosen = [i for i, f in enumerate(flags) if f == flag]
            writer.add([encoded[i] for i in chosen], sum(sizes[i] for i in chosen))

    waiting: tuple[list[str], list[int], list[int], Future[list[Ids]]] | None = None
    with ThreadPoolExecutor(1) as encoder:  # encoding runs outside the interpreter's lock: read and write meanwhile
        for texts, flags, sizes in _batches(part, scan, choice, ids, report):
            future = encoder.submit(tokenizer.encode_batch, texts)
            if waiting:
                write(waiting[0], waiting[1], waiting[2], waiting[3].result())
            waiting = (texts, flags, sizes, future)
        if waiting:
            write(waiting[0], waiting[1], waiting[2], waiting[3].result())
    train.close()
    held.close()
    write_file(
        record,
        to_json({"shard": name, "train": asdict(train.figures), "held_out": asdict(held.figures), "documents": ids}),
    )


def _batches(
    part: Slice, scan: Scan, choice: Choice, held: list[dict[str, Any]], report: Callable[[int], None]
) -> Iterator[tuple[list[str], list[int], list[int]]]:
    """The kept texts in batches, with what becomes of each and its bytes; those held out are noted in ``held``."""
    texts: list[str] = []
    flags: list[int] = []
    sizes: list[int] = []
    known = scan.ids.tobytes()
    position = done = total = 0
    for index, file in enumerate(part.files):
        if scan.errors[index] is not None:
            continue
        meter, last = Meter(), position + scan.documents[index]
        for item in part.documents(index, meter):
            if isinstance(item, Reject):
                continue
            data = item.encode()
            mark = position * ID_BYTES
            if position >= last or identity(data) != known[mark : mark + ID_BYTES]:
                raise ChangedError(Path(file.path))
            flag = int(choice[position])
            position += 1
            if flag == DUPLICATE:
                continue
            if flag == HELD:
                held.append({"id": known[mark : mark + ID_BYTES].hex(), "source": part.source, "bytes": len(data)})
            texts.append(item)
            flags.append(flag)
            sizes.append(len(data))
            total += len(data)
            if total >= _BATCH_BYTES or len(texts) >= _BATCH_DOCUMENTS:
                yield texts, flags, sizes
                texts, flags, sizes, total = [], [], [], 0
                report(done + meter.bytes)
        if position != last:
            raise ChangedError(Path(file.path))
        done += file.signature[0]
    if texts:
        yield texts, flags, sizes
