"""The order of training: which tokens stand in which row, as a pure function of dataset and seed.

Each source is an endless stream of passes over its documents, each pass permuted anew. Epoch e takes
from every stream the documents from where epoch e-1 ended until as many tokens have come as the
mixture wants by its end; the documents of all sources are then shuffled together, laid end to end
and cut into as few rows of at most ``sequence_length`` tokens as will do, all equally long. Nothing
is dropped: a document that does not fit goes on in the next row. Where the mixture changes to that
of the annealing, within an epoch, the epoch has two such parts.

Permutations come from numpy's ``Generator(Philox).permutation``, keyed by SHA-256 of what they are
for. numpy keeps Philox's stream forever and changes ``permutation`` only with a note in its release.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rewarm.core.errors import DataError
from rewarm.data.dataset import Dataset, Documents
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.mixture import Mixture, build_mixture
from rewarm.recipe.recipe import Recipe

Integers = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Tokens ``begin`` to ``end`` of a document of ``length`` tokens; ``source`` indexes ``Plan.names``."""

    source: int
    document: int
    begin: int
    end: int
    length: int


class _Part(NamedTuple):
    source: npt.NDArray[np.uint16]  # (documents,) index into Plan.names
    document: npt.NDArray[np.uint32]  # (documents,) index into that source
    ends: Integers  # (documents,) tokens of the part up to and with this document


def permutation(count: int, *key: object) -> Integers:
    """A permutation of ``range(count)`` that depends on ``key`` alone."""
    digest = hashlib.sha256("\0".join(str(part) for part in key).encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return generator.permutation(count)


def sizes_of(dataset: Dataset) -> dict[str, int]:
    """Tokens to train on, of each source."""
    return {name: source.tokens for name, source in dataset.sources.items()}


def build_plan(recipe: Recipe, dataset: Dataset, values: Hyperparameters) -> Plan:
    """Which documents a run of ``recipe`` trains on, in which order; ``values`` are all filled in."""
    mixture = build_mixture(recipe.data, sizes_of(dataset))
    return Plan(dataset, mixture, values.epochs, values.max_sequence_length, values.seed)


class Plan:
    """Rows of tokens over all epochs.

    Args:
        dataset: whose documents that may be trained on are meant; held-out ones never come.
        mixture: tokens of each source in an epoch, and over the last part of the run.
        epochs: how many; ``sequence_length``: tokens of a row; ``seed``: of every shuffle.

    Raises:
        DataError: if a source has no tokens to train on.
    """

    def __init__(self, dataset: Dataset, mixture: Mixture, epochs: int, sequence_length: int, seed: int) -> None:
        self.dataset, self.sequence_length, self.seed, self.epochs = dataset, sequence_length, seed, epochs
        self.names = tuple(mixture.tokens)
        self.documents: tuple[Documents, ...] = tuple(dataset.train(name) for name in self.names)
        self._totals = [int(documents.lengths.sum()) for documents in self.documents]
        for name, total in zip(self.names, self._totals, strict=True):
            if total == 0:
                raise DataError(f"source {name!r} has no tokens to train on", where=dataset.path)
        self._cache: OrderedDict[int, _Part] = OrderedDict()
        places = sorted({*map(Fraction, range(epochs + 1)), mixture.turn(epochs)})
        # cut[s][k]: documents of stream s before part k, as (pass, index), and their tokens
        cuts = [
            [self._cut(source, math.ceil(mixture.seen(name, at, epochs))) for at in places]
            for source, name in enumerate(self.names)
        ]
        self._cuts = [[(number, index) for number, index, _ in line] for line in cuts]
        seen = np.array([[seen for _, _, seen in line] for line in cuts], np.int64)
        self.part_tokens: Integers = (seen[:, 1:] - seen[:, :-1]).T
        """Tokens of each part from each source, (parts, sources); the parts are the epochs, the annealing apart."""
        self._sums = self.part_tokens.sum(1)
        self.part_ends: Integers = np.cumsum(-(-self._sums // sequence_length))
        """Global index of the row behind the last one of each part, (parts,)."""
        self.epoch_ends: Integers = self.part_ends[[at.denominator == 1 for at in places[1:]]]
        """Global index of the row behind the last one of each epoch, (epochs,)."""

    @property
    def total_rows(self) -> int:
        return int(self.part_ends[-1])

    @property
    def total_tokens(self) -> int:
        return int(self._sums.sum())

    def _order(self, source: int, number: int) -> Integers:
        """The documents of a source in the order of its pass ``number``."""
        return permutation(len(self.documents[source]), self.seed, "source", self.names[source], number)

    def _cut(self, source: int, wanted: int) -> tuple[int, int, int]:
        """Where ``wanted`` tokens have come in the stream of ``source``: pass, index in it, tokens before."""
        total = self._totals[source]
        number, rest = divmod(wanted, total)
        if rest == 0:
            return number, 0, number * total
        seen = np.cumsum(self.documents[source].lengths[self._order(source, number)])
        index = int(np.searchsorted(seen, rest)) + 1
        return number, index, number * total + int(seen[index - 1])

    def _part(self, part: int) -> _Part:
        if part not in self._cache:
            while len(self._cache) >= 2:  # a batch may reach from one part into the next
                self._cache.popitem(last=False)
            self._cache[part] = self._build(part)
        return self._cache[part]

    def _build(self, part: int) -> _Part:
        chosen: list[Integers] = []
        for source, cuts in enumerate(self._cuts):
            (first, begin), (last, end) = cuts[part], cuts[part + 1]
            passes = []
            for number in range(first, last + 1):
                if number == last and end == 0:
                    continue
                order = self._order(source, number)
                passes.append(order[begin if number == first else 0 : end if number == last else None])
            chosen.append(np.concatenate(passes) if passes else np.zeros(0, np.int64))
        source_of = np.repeat(np.arange(len(chosen), dtype=np.uint16), [len(order) for order in chosen])
        lengths = np.concatenate([d.lengths[order] for d, order in zip(self.documents, chosen, strict=True)])
        document = np.concatenate(chosen).astype(np.uint32)
        shuffle = permutation(len(document), self.seed, "epoch", part)
        return _Part(source_of[shuffle], document[shuffle], np.cumsum(lengths[shuffle]))

    def _ranges(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Rows ``first`` to ``last`` as (part, first token, behind the last token) in each part they touch.

        The rows of a part are equally long, to one token: a last row of a few would make an update of its own.
        """
        ranges = []
        while first < last:
            part = int(np.searchsorted(self.part_ends, first, side="right"))
            start = int(self.part_ends[part - 1]) if part else 0
            stop = min(last, int(self.part_ends[part]))
            tokens, rows = int(self._sums[part]), int(self.part_ends[part]) - start
            ranges.append((part, -((first - start) * -tokens // rows), -((stop - start) * -tokens // rows)))
            first = stop
        return ranges

    def count(self, first: int, last: int) -> tuple[int, int]:
        """Tokens and targets of rows ``first`` to ``last`` (half-open), without reading a token."""
        tokens = targets = 0
        for part, begin, end in self._ranges(first, last):
            ends = self._part(part).ends
            closed = np.searchsorted(ends, end, side="right") - np.searchsorted(ends, begin, side="right")
            tokens += end - begin
            targets += end - begin - int(closed)  # a document's last token has nothing to predict
        return tokens, targets

    def seen(self, rows: int) -> dict[str, tuple[int, int]]:
        """Of each source: the different documents that the first ``rows`` rows touch, and the tokens of it in them."""
        touched = [np.zeros(len(documents), bool) for documents in self.documents]
        tokens = np.zeros(len(self.names), np.int64)
        for part, _, end in self._ranges(0, rows):
            sources, documents, ends = self._part(part)
            inside = np.diff(np.minimum(ends, end), prepend=0)  # (documents,) tokens of each that come before the end
            for source, mark in enumerate(touched):
                mine = (sources == source) & (inside > 0)
                mark[documents[mine]] = True
                tokens[source] += inside[mine].sum()
        return {
            name: (int(mark.sum()), int(count)) for name, mark, count in zip(self.names, touched, tokens, strict=True)
        }

    def rows_with(self, source: str, document: int) -> list[int]:
        """The rows in which a document of a source stands, in order."""
        found: list[int] = []
        for part, (size, end) in enumerate(zip(self._sums.tolist(), self.part_ends.tolist(), strict=True)):
            first = int(self.part_ends[part - 1]) if part else 0
            sources, documents, ends = self._part(part)
            for index in np.flatnonzero((sources == self.names.index(source)) & (documents == document)):
                begin, stop = (int(ends[index - 1]) if index else 0), int(ends[index])
                if begin < stop:
                    rows = end - first  # row r begins at token ceil(r * size / rows)
                    found += range(first + begin * rows // size, first + (stop - 1) * rows // size + 1)
        return found

    def pieces(self, row: int) -> list[Piece]:
        """What stands in a row, in order."""
        if not 0 <= row < self.total_rows:
            raise IndexError(f"row {row} of {self.total_rows}")
        ((part, begin, end),) = self._ranges(row, row + 1)
        sources, documents, ends = self._part(part)
        pieces = []
        index = int(np.searchsorted(ends, begin, side="right"))
        while begin < end:
            start = int(ends[index - 1]) if index else 0
            stop = min(end, int(ends[index]))
            length = int(ends[index]) - start
            if length:  # a normaliser may leave nothing of a document
                pieces.append(Piece(int(sources[index]), int(documents[index]), begin - start, stop - start, length))
            begin, index = stop, index + 1
        return pieces

    def rows_of(self, first: int, last: int) -> list[tuple[str, int]]:
        """The documents (source, index) that stand wholly or partly in rows ``first`` to ``last``, each once a row."""
        return [(self.names[p.source], p.document) for row in range(first, last) for p in self.pieces(row)]
