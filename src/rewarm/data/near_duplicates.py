"""Near-duplicates over all texts of a recipe: which documents share most of their text, and which one stays.

Documents whose signatures are equal in a band are candidates (Broder 1997; 14 bands of 8, as FineWeb has
them, find 98.8 % of the pairs of Jaccard similarity 0.85). They also pair 5 % of those at 0.5, so a candidate
counts only where enough of the whole signatures agree. What hangs together so is a cluster. The field
keeps one document of it, and loses C where A is like B and B like C, but not C like A; here **a document is
removed only if it is itself like the one that stays**: the best of a cluster stays, what is like it
goes, and the same again with the rest. The best is one that must stay, else the longest, else the
first read. Of two documents that stay no such pair is known, and none of this depends on files or slices.

The signatures lie in files; of them a few hundred megabytes are looked at together. Beyond that a
document costs 16 bytes of memory, and its size 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import orjson

from rewarm.core.errors import DataError
from rewarm.core.storage import write_file
from rewarm.data.minhash import EMPTY, VERSION, Signatures, band_keys
from rewarm.data.steps.words import Flags, Places

if TYPE_CHECKING:  # workers import this module, and pydantic costs them a quarter of a second
    from rewarm.recipe.steps import NearDuplicates

Progress = Callable[[float, float], None]
Alike = Callable[[Places, Places], Flags]

_HEADER = 128
_TOGETHER = 1 << 22
_COMPARED = 1 << 14
_LEADERS_OF_A_BAND = 16
"""Unlike documents of one band (all with the same long preamble, say) that its others are held against."""
_LEADERS_OF_A_CLUSTER = 256
"""Unlike documents that may stay of one cluster; what is left then goes, as it does in the field."""


def silent(done: float, total: float) -> None:
    return None


def near_duplicates(
    files: Sequence[Path],
    sizes: npt.NDArray[np.integer],
    settings: NearDuplicates,
    *,
    stays: Flags | None = None,
    left_out: Flags | None = None,
    earlier: Sequence[Path] = (),
    progress: Progress = silent,
) -> Places:
    """For each of n documents, in reading order, the one that stays for it: itself if it stays.

    Args:
        files: the signatures of all documents, as ``write_signatures`` left them.
        sizes: the size of each document, (n,): the longest stays.
        stays: documents that are never removed, but make others duplicates, such as held-out ones.
        left_out: documents that take no part, such as exact duplicates.
        earlier: signatures of what was trained before: never removed either. Number i of them is
            document n + i of the answer.
        progress: told the work done and in all, in a unit of its own.

    Raises:
        DataError: if a file is damaged or was made with other settings.
    """
    rows = _Rows([*files, *earlier], settings)
    own = sum(rows.counts[: len(files)])
    if own != len(sizes):
        raise ValueError(f"{own} signatures for {len(sizes)} documents")
    fixed = np.ones(rows.total, bool)
    fixed[:own] = False if stays is None else stays
    use = np.ones(rows.total, bool)
    use[:own] = True if left_out is None else ~left_out
    parent = np.arange(rows.total)
    parts = max(1, rows.total // _TOGETHER)
    for number in range(settings.bands * parts):
        group, member = rows.sharing(number // parts, number % parts, parts, use, fixed)
        leader, _ = _stars(group, member, lambda a, b: _alike_or_known(rows, parent, a, b), None, _LEADERS_OF_A_BAND)
        _unite(parent, leader, member)
        progress(number + 1, settings.bands * parts)
    return _chosen(rows, parent, fixed, sizes)


def cluster_sizes(kept: Places) -> dict[int, int]:
    """How many clusters there are of each size, from the answer of ``near_duplicates``; alone is no cluster."""
    _, counts = np.unique(kept, return_counts=True)
    sizes, clusters = np.unique(counts[counts > 1], return_counts=True)
    return dict(zip(sizes.tolist(), clusters.tolist(), strict=True))


def _chosen(rows: _Rows, parent: Places, fixed: Flags, sizes: npt.NDArray[np.integer]) -> Places:
    """The document that stays for each, from the clusters as ``parent`` has them."""
    cluster = _roots(parent, np.arange(len(parent)))
    together = np.unique(cluster[cluster != np.arange(len(parent))])
    member = np.flatnonzero(np.isin(cluster, together))
    size = np.zeros(len(member), np.int64)
    own = member < len(sizes)
    size[own] = sizes[member[own]]
    member = member[np.lexsort((member, -size, ~fixed[member], cluster[member]))]
    leader, left = _stars(cluster[member], member, rows.alike, ~fixed, _LEADERS_OF_A_CLUSTER)
    left = left[~fixed[member[left]]]
    leader[left] = member[np.searchsorted(cluster[member], cluster[member[left]])]
    kept = np.arange(len(parent))
    kept[member] = leader
    return kept[: len(sizes)]


def _stars(group: Places, member: Places, alike: Alike, movable: Flags | None, most: int) -> tuple[Places, Places]:
    """Hold the members of each group against its first, what is unlike that against the first of the rest, and so on.

    Args:
        group: the group of each member, equal ones side by side; the members of each in order of preference.
        movable: documents that may follow another one; all when None.
        most: rounds.

    Returns:
        the leader of each member, itself if it leads; and the positions of members that no round came to.
    """
    leader, left = member.copy(), np.arange(len(member))
    for _ in range(most):
        if not len(left):
            break
        first = np.append(True, group[left[1:]] != group[left[:-1]])
        head, rest = left[first][np.cumsum(first) - 1][~first], left[~first]
        follows = alike(member[head], member[rest])
        if movable is not None:
            follows &= movable[member[rest]]
        leader[rest[follows]] = member[head[follows]]
        left = rest[~follows]
    return leader, left


def _alike_or_known(rows: _Rows, parent: Places, left: Places, right: Places) -> Flags:
    """Whether documents are alike, or belong together by what other bands showed."""
    answer: Flags = _roots(parent, left) == _roots(parent, right)
    answer[~answer] = rows.alike(left[~answer], right[~answer])
    return answer


def _roots(parent: Places, nodes: Places) -> Places:
    """The first document of the cluster of each node; the ways there are cut short."""
    found, further = nodes, parent[nodes]
    while (found != further).any():
        found, further = further, parent[further]
    parent[nodes] = found
    return found


def _unite(parent: Places, left: Places, right: Places) -> None:
    while len(left):
        left, right = _roots(parent, left), _roots(parent, right)
        apart = left != right
        left, right = np.minimum(left, right)[apart], np.maximum(left, right)[apart]
        np.minimum.at(parent, right, left)  # of several ways to hang a root one holds; the others go round again


# ---- files ----


def write_signatures(path: Path, signatures: Signatures, settings: NearDuplicates) -> None:
    """Write the signatures of a slice, and the keys of their bands, which are all that most of the work reads."""
    keys = np.where((signatures == EMPTY).all(1), np.uint64(0), np.maximum(band_keys(signatures, settings), 1))
    head = orjson.dumps(_facts(settings, len(signatures))).ljust(_HEADER)
    write_file(path, head + keys.astype("<u8").tobytes() + signatures.astype("<u4").tobytes())


def _facts(settings: NearDuplicates, count: int) -> list[int]:
    return [VERSION, settings.words, settings.bands, settings.rows, count]


class _Rows:
    """The signatures in files, by the number of their document."""

    def __init__(self, files: Sequence[Path], settings: NearDuplicates) -> None:
        self._files, self._settings = files, settings
        self._hashes = settings.bands * settings.rows
        self.counts = [self._count(path) for path in files]
        self._ends = np.cumsum(self.counts)
        self.total = sum(self.counts)

    def _count(self, path: Path) -> int:
        """Documents of a file. Raises ``DataError`` where it is damaged or was made with other settings."""
        try:
            with path.open("rb") as file:
                facts = orjson.loads(file.read(_HEADER))
            count = int(facts[-1])
            wanted = _HEADER + count * (8 * self._settings.bands + 4 * self._hashes)
            whole = facts == _facts(self._settings, count) and path.stat().st_size == wanted
        except (OSError, ValueError, TypeError, IndexError):
            whole = False
        if not whole:
            raise DataError("the signatures are gone, damaged or of other settings", where=path, remedy="run again")
        return count

    def sharing(self, band: int, part: int, parts: int, use: Flags, fixed: Flags) -> tuple[Places, Places]:
        """Groups of documents that share a band, of those whose key falls into a part: group and document."""
        found, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for path, count, end in zip(self._files, self.counts, self._ends.tolist(), strict=True):
            keys = np.fromfile(path, "<u8", count, offset=_HEADER + 8 * band * count)
            # the top 16 bits are enough to share out: parts are few
            here = (keys != 0) & use[end - count : end]
            if parts > 1:
                here &= (keys >> np.uint64(48)) * np.uint64(parts) >> np.uint64(16) == part
            found.append(keys[here])
            places.append(end - count + np.flatnonzero(here))
        keys, member = np.concatenate(found), np.concatenate(places)
        order = np.argsort(keys, kind="stable")
        keys, member = keys[order], member[order]
        group = np.cumsum(np.append(False, keys[1:] != keys[:-1])) if len(keys) else member
        several = np.bincount(group) > 1
        several &= np.bincount(group, ~fixed[member]) > 0  # or nothing of it could be removed
        inside = several[group]
        return group[inside], member[inside]

    def alike(self, left: Places, right: Places) -> Flags:
        """Whether the signatures of documents agree in at least the share that the settings ask for."""
        wanted = self._settings.threshold * self._hashes - 1e-6
        answer: Flags = np.empty(len(left), np.bool_)
        for start in range(0, len(left), _COMPARED):
            some = slice(start, start + _COMPARED)
            answer[some] = (self._read(left[some]) == self._read(right[some])).sum(1) >= wanted
        return answer

    def _read(self, documents: Places) -> Signatures:
        """(documents, bands * rows)"""
        rows = np.empty((len(documents), self._hashes), np.uint32)
        owners = np.searchsorted(self._ends, documents, side="right")
        for owner in np.unique(owners).tolist():
            count, mine = self.counts[owner], owners == owner
            offset, shape = _HEADER + 8 * count * self._settings.bands, (count, self._hashes)
            # mapped only as long as it is read: pages count as memory of this process while they are mapped
            mapped = np.memmap(self._files[owner], "<u4", "r", offset, shape)
            rows[mine] = mapped[documents[mine] - (int(self._ends[owner]) - count)]
        return rows
