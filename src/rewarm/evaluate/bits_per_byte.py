"""Bits per byte of held-out text: what a model pays, on average, to predict one byte of it.

The sum of the negative log-likelihoods (nats) of all tokens of a text, over ln 2 times its UTF-8
bytes. It does not depend on the tokenizer, so a base and its successors compare even where the
vocabulary changed; it must not be compared across languages. Whole documents are scored: one that
is longer than the window by a sliding window in which each token is scored exactly once and,
behind the first window, with at least half a window of context. The first token is conditioned on
the tokenizer's BOS (or else EOS), which is itself never scored; nor is EOS, which is not text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rewarm.core.errors import ModelError
from rewarm.models.causal import CausalModel, PackedBatch
from rewarm.models.ranks import rank, total, world_size

Item = dict[str, Any]
Progress = Callable[[str, float, float, str], None]
Tokens = NDArray[np.int64]

_NO_TARGET = -100


class Documents(Protocol):
    """What is scored: the held-out documents of a source, as ``Dataset.held_out`` gives them."""

    @property
    def ids(self) -> Sequence[str]:
        """Hash of each document's text, in hex."""

    @property
    def bytes(self) -> Sequence[int] | NDArray[np.int64]:
        """UTF-8 bytes of each document's text."""

    def __len__(self) -> int: ...

    def tokens(self, index: int, /) -> NDArray[Any]:
        """The document's token ids, with BOS and EOS where the tokenizer has them."""


@dataclass(frozen=True)
class _Window:
    """One segment of a forward pass: ``targets[i]`` follows ``inputs[i]``, or is -100."""

    document: int  # index into the documents that are scored
    inputs: Tokens  # (n,)
    targets: Tokens  # (n,)


def bits_per_byte(items: Iterable[Item]) -> float:
    """Sum of nats over (ln 2 x sum of bytes) of ``items``, each with ``nll`` and ``bytes``."""
    scores = [(float(item["nll"]), int(item["bytes"])) for item in items]
    return math.fsum(nll for nll, _ in scores) / (math.log(2) * sum(size for _, size in scores))


def window_of(max_sequence_length: int, config: Any) -> int:
    """The window to score with: the training length, as far as the model has positions for it."""
    return min(max_sequence_length, getattr(config, "max_position_embeddings", None) or max_sequence_length)


def choose(documents: Documents, max_bytes: int, among: int | None = None) -> list[int]:
    """The documents that a budget of ``max_bytes`` pays for: whole ones, in the order of their ids.

    With ``among``, a larger budget, only of those that it pays for.

    The ids are hashes of the texts, so this is a random sample that never changes. A document
    larger than the whole budget is passed over; if all are, the smallest is taken alone, so that
    something is always scored.
    """
    sizes = np.asarray(documents.bytes, dtype=np.int64)
    order = choose(documents, among) if among else sorted(range(len(documents)), key=lambda i: documents.ids[i])
    fitting = [i for i in order if sizes[i] <= max_bytes]
    if not fitting:
        return sorted(order, key=lambda i: sizes[i])[:1]
    paid = int(np.searchsorted(np.cumsum(sizes[fitting]), max_bytes, side="right"))
    return fitting[:paid]


def score_documents(
    model: CausalModel,
    documents: Documents,
    *,
    context_id: int | None,
    bos_id: int | None,
    eos_id: int | None,
    window: int,
    max_bytes: int,
    among: int | None = None,
    device: torch.device,
    progress: Progress = lambda what, done, total, unit: None,
    what: str = "score",
    forward_tokens: int | None = None,
) -> list[Item]:
    """Score the documents that ``max_bytes`` pays for: ``{id, nll (nats), bytes}`` each, in order of id.

    Ranks that train together share the forward passes out; each gets all the scores.

    Args:
        context_id: the token that a document's first token is conditioned on. None, for a tokenizer
            with neither BOS nor EOS, charges ln(vocabulary size) for the first token instead.
        among: see ``choose``.
        window: the most tokens that the model sees at once, see ``window_of``.
        forward_tokens: bound of one forward pass, in which windows of several documents share the
            room; 16,384 on an accelerator and 2,048 on a CPU unless given.

    Raises:
        ModelError: if the model gives a likelihood that is not a number.
    """
    if window < 2:
        raise ValueError("a window has at least 2 tokens")
    room = max(window, forward_tokens or (2048 if device.type == "cpu" else 16384))
    chosen = choose(documents, max_bytes, among)
    texts = [_text(documents.tokens(i), bos_id, eos_id) for i in chosen]
    sizes = [int(documents.bytes[i]) for i in chosen]
    nll = np.zeros(len(chosen))  # float64
    was_training = model.training
    model.eval()  # no dropout
    try:
        progress(what, 0, sum(sizes), "bytes")
        windows = (w for i, text in enumerate(texts) for w in _windows(i, text, context_id, window))
        groups = _grouped(windows, room)
        while turn := list(itertools.islice(groups, world_size())):  # a pass for each rank
            mine = turn[min(rank(), len(turn) - 1)]  # one that has none left takes part: the model may be sharded
            values = _score(model, mine, device)
            for part, value in zip(mine, values, strict=True) if rank() < len(turn) else ():
                nll[part.document] += value
            progress(what, sum(sizes[: turn[-1][-1].document]), sum(sizes), "bytes")
    finally:
        model.train(was_training)
    nll = total(torch.from_numpy(nll)).numpy()
    if context_id is None:
        nll += math.log(model.config.vocab_size)
    items: list[Item] = [
        {"id": str(documents.ids[i]), "nll": float(n), "bytes": b} for i, n, b in zip(chosen, nll, sizes, strict=True)
    ]
    for item in items:
        if not math.isfinite(item["nll"]):
            raise ModelError(
                f"the model gives a likelihood that is not a number for the document {item['id'][:16]}",
                remedy="the weights are broken: take an earlier checkpoint, or a lower learning rate",
            )
    progress(what, sum(sizes), sum(sizes), "bytes")
    return items


def _text(tokens: NDArray[Any], bos_id: int | None, eos_id: int | None) -> Tokens:
    """A document's tokens without the control tokens around them."""
    ids = np.asarray(tokens, dtype=np.int64)
    if bos_id is not None and len(ids) and ids[0] == bos_id:
        ids = ids[1:]
    if eos_id is not None and len(ids) and ids[-1] == eos_id:
        ids = ids[:-1]
    return ids


def _windows(document: int, text: Tokens, context_id: int | None, window: int) -> Iterator[_Window]:
    """The windows of one document; over all of them each token is a target once."""
    if context_id is None:
        inputs, targets = text[:-1], text[1:]
    else:
        inputs, targets = np.concatenate(([context_id], text[:-1])), text
    end = min(window, len(targets))  # of what is scored so far
    if end:
        yield _Window(document, inputs[:end], targets[:end])
    while end < len(targets):
        stop = min(end + window // 2, len(targets))
        new = targets[stop - window : stop].copy()
        new[: end - stop] = _NO_TARGET
        yield _Window(document, inputs[stop - window : stop], new)
        end = stop


def _grouped(windows: Iterable[_Window], room: int) -> Iterator[list[_Window]]:
    """Windows in their order, as many at a time as ``room`` tokens hold."""
    group: list[_Window] = []
    used = 0
    for window in windows:
        if group and used + len(window.inputs) > room:
            yield group
            group, used = [], 0
        group.append(window)
        used += len(window.inputs)
    if group:
        yield group


def _score(model: CausalModel, group: Sequence[_Window], device: torch.device) -> list[float]:
    """The nats that each window's targets cost, from one forward pass in which no window sees another."""
    lengths = [len(window.inputs) for window in group]
    ends = np.cumsum([0, *lengths])
    targets = np.concatenate([window.targets for window in group])
    batch = PackedBatch(
        input_ids=torch.from_numpy(np.concatenate([window.inputs for window in group])).to(device),
        targets=torch.from_numpy(targets).to(device),
        position_ids=torch.cat([torch.arange(n) for n in lengths]).to(device),
        cu_seqlens=torch.from_numpy(ends.astype(np.int32)).to(device),
        max_seqlen=max(lengths),
        n_targets=int((targets != _NO_TARGET).sum()),
    )
    nll = model.token_nll(batch).double().cpu()
    return [float(nll[start:end].sum()) for start, end in itertools.pairwise(ends)]
