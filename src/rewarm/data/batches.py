"""Rows of the plan as arrays, step by step: the loader's whole state is the number of the step.

Step k takes global rows [k * B, (k + 1) * B) with B = batch_size * accumulation * world_size, of which
micro-batch m of rank r takes ``batch_size`` rows from (m * world_size + r) * batch_size on. The last
step may have fewer; then every rank has equally many micro-batches, if need be one of padding alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rewarm.data.plan import Piece, Plan

IGNORED = -100


@dataclass(frozen=True)
class MicroBatch:
    """Rows laid end to end; a segment is a stretch of one document within one row."""

    input_ids: npt.NDArray[np.int64]  # (N,)
    targets: npt.NDArray[np.int64]  # (N,) the next token of the same document, or -100
    position_ids: npt.NDArray[np.int64]  # (N,) from 0 in every segment
    cu_seqlens: npt.NDArray[np.int32]  # (segments + 1,) where segments begin
    max_seqlen: int
    n_targets: int
    sources: npt.NDArray[np.int64]  # (N,) which of the plan's sources a token is from; padding is said to be of 0


@dataclass(frozen=True)
class Batch:
    """What one rank computes in one optimizer step, and the figures of the global batch."""

    micro_batches: list[MicroBatch]
    n_targets: int  # over all ranks
    tokens: int  # over all ranks, without padding
    rows: tuple[int, int]  # of all ranks, half-open


class Batches:
    """The batches of one rank. ``pad`` fills every micro-batch to batch_size * sequence_length tokens."""

    def __init__(
        self,
        plan: Plan,
        batch_size: int,
        accumulation: int,
        rank: int = 0,
        world_size: int = 1,
        pad: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of world size {world_size}")
        self.plan, self.batch_size, self.accumulation = plan, batch_size, accumulation
        self.rank, self.world_size, self.pad = rank, world_size, pad
        self.rows_per_step = batch_size * accumulation * world_size

    @property
    def steps(self) -> int:
        return -(-self.plan.total_rows // self.rows_per_step)

    def rows(self, step: int) -> tuple[int, int]:
        """The global rows of a step, half-open."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        first = step * self.rows_per_step
        return first, min(first + self.rows_per_step, self.plan.total_rows)

    def documents(self, step: int) -> list[tuple[str, int]]:
        """The documents (source, index) that stand in a step, over all ranks."""
        return self.plan.rows_of(*self.rows(step))

    def read(self, step: int) -> Batch:
        """The batch of a step, from 0 to ``steps`` - 1."""
        first, last = self.rows(step)
        stride = self.batch_size * self.world_size
        starts = range(first + self.rank * self.batch_size, first - (first - last) // stride * stride, stride)
        tokens, n_targets = self.plan.count(first, last)
        micro_batches = [self._micro_batch(start, min(start + self.batch_size, last)) for start in starts]
        return Batch(micro_batches, n_targets, tokens, (first, last))

    def _micro_batch(self, first: int, last: int) -> MicroBatch:
        pieces = [piece for row in range(first, last) for piece in self.plan.pieces(row)]
        sizes = [piece.end - piece.begin for piece in pieces]
        used = sum(sizes)
        # a rank that has no rows left still has to take part in the collectives of the others
        filler = self.batch_size * self.plan.sequence_length - used if self.pad else int(used == 0)
        if filler:
            sizes.append(filler)
        inputs = np.zeros(used + filler, np.int64)
        targets = np.full(used + filler, IGNORED, np.int64)
        positions = np.zeros(used + filler, np.int64)
        sources = np.zeros(used + filler, np.int64)
        starts = np.cumsum([0, *sizes])
        for piece, start in zip(pieces, starts, strict=False):
            self._fill(piece, inputs[start:], targets[start:])
            sources[start : start + piece.end - piece.begin] = piece.source
        for start, size in zip(starts, sizes, strict=False):
            positions[start : start + size] = np.arange(size)
        n_targets = int((targets != IGNORED).sum())
        return MicroBatch(inputs, targets, positions, starts.astype(np.int32), max(sizes), n_targets, sources)

    def _fill(self, piece: Piece, inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> None:
        size = piece.end - piece.begin
        tokens = self.plan.documents[piece.source].read(piece.document, piece.begin, piece.end + 1)
        inputs[:size] = tokens[:size]
        targets[: len(tokens) - 1] = tokens[1:]  # reaches into the next row of the same document


def prefetch(batches: Batches, start: int, depth: int = 2) -> Iterator[tuple[int, Batch]]:
    """Batches from step ``start`` to the last, read ahead by a thread.

    The position to save is that of the last step taken from the iterator; what was read ahead does
    not count. An error in the thread is raised here.
    """
    ready: queue.Queue[tuple[int, Batch] | BaseException | None] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: tuple[int, Batch] | BaseException | None) -> None:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for step in range(start, batches.steps):
                if closed.is_set():
                    return
                put((step, batches.read(step)))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=read, name="rewarm-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
