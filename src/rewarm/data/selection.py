"""What becomes of each document, decided over all texts of a recipe at once: train, duplicate or held out.

Texts are looked at in the order of ``recipe.texts``: of equal documents the first one stays. Held
out are whole panels; every document whose identity, read as a number, falls below the share; those
that an earlier build of the workspace held out, of whatever text; and, when a source is built for
the first time, those with the lowest identities until there are 32, of at most a tenth of its bytes.
Where near-duplicates are looked for, nothing that is like a held-out document is trained on. Memory:
one byte for each document (some 30 while near-duplicates are looked for), and 60 for each of the few
million looked at together.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from rewarm.core.errors import DataError
from rewarm.core.manifest import canonical, to_json
from rewarm.core.storage import read_checked, sha256_bytes, write_checked, write_file
from rewarm.data.near_duplicates import Progress, cluster_sizes, near_duplicates, silent
from rewarm.data.scan import ID_BYTES, loaded, minhash_path
from rewarm.data.shards import DUPLICATE, HELD, NEAR_DUPLICATE, TRAIN, Choice
from rewarm.recipe.steps import NearDuplicates

AT_LEAST = 32
AT_MOST = 0.1
_CANDIDATES = 4096
_TOGETHER = 1 << 22

Identities = npt.NDArray[np.uint64]  # (n, 2): the halves of an identity as numbers, the high one first


@dataclass
class TextScans:
    """The scans of one text, by their files, and whether it may be topped up."""

    scans: Sequence[Path]
    panel: bool
    first: bool  # no earlier build read it


class Chosen(NamedTuple):
    """For every text and scan, what becomes of each document; and how many clusters of alike ones have which size."""

    choices: list[list[Choice]]
    clusters: dict[int, int]


def choose(
    texts: Sequence[TextScans],
    share: float,
    earlier: Identities,
    near: NearDuplicates | None = None,
    trained: Sequence[Path] = (),
    progress: Progress = silent,
) -> Chosen:
    """What becomes of each document.

    Args:
        earlier: what stays held out.
        trained: the signatures of documents that the base model has learned.
        progress: told how far the search for near-duplicates is, and of how much.
    """
    counts = [[len(loaded(path, check=False).sizes) for path in text.scans] for text in texts]
    ends = np.cumsum([0, *(sum(c) for c in counts)])
    choice = np.full(int(ends[-1]), TRAIN, np.uint8)
    known = _as_void(earlier)
    tops = [_TopUp() for _ in texts]
    parts = max(1, int(ends[-1]) // _TOGETHER)
    for part in range(parts):
        identities, index, sizes = _gather(texts, part, parts)
        order = np.lexsort((identities[:, 1], identities[:, 0]))  # stable: equal ones stay in reading order
        identities, index, sizes = identities[order], index[order], sizes[order]
        again = np.zeros(len(index), bool)
        again[1:] = (identities[1:] == identities[:-1]).all(1)
        choice[index[again]] = DUPLICATE
        identities, index, sizes = identities[~again], index[~again], sizes[~again]
        owner = np.searchsorted(ends, index, side="right") - 1
        held = (identities[:, 0] < np.uint64(int(share * 2.0**64))) | np.isin(_as_void(identities), known)
        held |= np.isin(owner, [number for number, text in enumerate(texts) if text.panel])
        choice[index[held]] = HELD
        for number, top in enumerate(tops):
            mine = owner == number
            top.add(index[mine & ~held], sizes[mine & ~held], sizes[mine & held])
    clusters = _drop_near_duplicates(choice, texts, near, trained, progress) if near is not None else {}
    for text, top in zip(texts, tops, strict=True):
        if not text.panel and text.first:
            choice[top.chosen(choice)] = HELD
    pieces = np.split(choice, np.cumsum([n for c in counts for n in c])[:-1]) if any(counts) else []
    rest = iter(pieces)
    return Chosen([[next(rest) for _ in c] for c in counts], clusters)


def _drop_near_duplicates(
    choice: Choice, texts: Sequence[TextScans], settings: NearDuplicates, trained: Sequence[Path], progress: Progress
) -> dict[int, int]:
    scans = [path for text in texts for path in text.scans]
    sizes = np.concatenate([np.zeros(0, np.uint32), *(loaded(path, check=False).sizes for path in scans)])
    kept = near_duplicates(
        [minhash_path(path) for path in scans],
        sizes,
        settings,
        stays=choice == HELD,  # measured; what is like it must not be trained on
        left_out=choice == DUPLICATE,
        earlier=trained,
        progress=progress,
    )
    choice[(choice == TRAIN) & (kept != np.arange(len(kept)))] = NEAR_DUPLICATE
    return cluster_sizes(kept)


class _TopUp:
    """The documents of a text with the lowest identities; they arrive in that order."""

    def __init__(self) -> None:
        self.index: list[int] = []
        self.sizes: list[int] = []
        self.held = self.held_bytes = self.bytes = 0

    def add(self, index: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], held: npt.NDArray[np.int64]) -> None:
        room = _CANDIDATES - len(self.index)
        self.index += index[:room].tolist()
        self.sizes += sizes[:room].tolist()
        self.held += len(held)
        self.held_bytes += int(held.sum())
        self.bytes += int(sizes.sum()) + int(held.sum())

    def chosen(self, choice: Choice) -> list[int]:
        picked: list[int] = []
        size = self.held_bytes
        for index, more in zip(self.index, self.sizes, strict=True):
            if self.held + len(picked) >= AT_LEAST:
                break
            if choice[index] != TRAIN:
                continue
            if size + more <= AT_MOST * self.bytes:  # a long one is passed over: several short ones measure better
                picked.append(index)
                size += more
        return picked


def _gather(
    texts: Sequence[TextScans], part: int, parts: int
) -> tuple[Identities, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Identities, places in reading order and sizes of the documents whose identity falls into a part."""
    found, places, sizes, before = [], [], [], 0
    for path in (path for text in texts for path in text.scans):
        scan = loaded(path, check=False)
        identities = scan.ids.view(">u8").astype(np.uint64).reshape(-1, 2)
        # the top 16 bits are enough to share out: parts are few
        here = (identities[:, 0] >> np.uint64(48)) * np.uint64(parts) >> np.uint64(16) == part
        found.append(identities[here])
        places.append(before + np.flatnonzero(here))
        sizes.append(scan.sizes[here].astype(np.int64))
        before += len(scan.sizes)
    none = np.zeros(0, np.int64)
    return (
        np.concatenate(found) if found else np.zeros((0, 2), np.uint64),
        np.concatenate([none, *places]),
        np.concatenate([none, *sizes]),
    )


def _as_void(identities: Identities) -> npt.NDArray[np.void]:
    """One comparable value for each identity, (n,)."""
    return np.ascontiguousarray(identities.astype(">u8")).view(np.void(ID_BYTES).dtype).reshape(-1)


# ---- the ledgers: what was ever held out of each text of this workspace ----


def ledger_path(folder: Path, paths: Sequence[str]) -> Path:
    """Where it is kept what was held out of the text that these paths name."""
    return (
        folder / f"{sha256_bytes(canonical([p.encode('utf-8', 'backslashreplace').decode() for p in paths]))[:32]}.json"
    )


def read_ledger(path: Path) -> Identities | None:
    """The identities held out of a text so far; None where it was never built."""
    try:
        ids = orjson.loads(path.read_bytes())["held_out"]
        return np.frombuffer(bytes.fromhex("".join(ids)), ">u8").astype(np.uint64).reshape(-1, 2)
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise DataError(
            "the list of what was held out of a text is damaged",
            where=path,
            remedy="restore it from a backup; without it (delete it) what it held out may be trained on",
        ) from None


def read_ledgers(folder: Path) -> Identities:
    """The identities held out of any text so far: the same corpus may lie under many paths."""
    found = [ids for path in sorted(folder.glob("*.json")) if (ids := read_ledger(path)) is not None]
    return np.unique(np.concatenate([np.zeros((0, 2), np.uint64), *found]), axis=0)


def write_choice(path: Path, chosen: Chosen) -> None:
    """Keep what became of each document, so that a dataset can be made again as it was."""
    lengths = [[len(choice) for choice in choices] for choices in chosen.choices]
    head = canonical([lengths, list(chosen.clusters.items())])
    every = b"".join(choice.tobytes() for choices in chosen.choices for choice in choices)
    write_checked(path, head + b"\n" + zlib.compress(every, 1))


def read_choice(path: Path) -> Chosen | None:
    """What ``write_choice`` kept; None where there is nothing, or it is damaged."""
    if (content := read_checked(path)) is None:
        return None
    head, packed = content.split(b"\n", 1)
    lengths, clusters = orjson.loads(head)
    every, place = np.frombuffer(zlib.decompress(packed), np.uint8), 0
    choices: list[list[Choice]] = []
    for counts in lengths:
        ends = place + np.cumsum([0, *counts])
        choices.append([every[a:b] for a, b in itertools.pairwise(ends.tolist())])
        place = int(ends[-1])
    return Chosen(choices, dict(clusters))


def extend_ledger(path: Path, paths: Sequence[str], held: Iterable[str]) -> None:
    """Add identities (in hex) to those that stay held out of a text."""
    before = read_ledger(path)
    ids = set(held) | ({bytes(row).hex() for row in before.astype(">u8")} if before is not None else set())
    write_file(path, to_json({"paths": list(paths), "held_out": sorted(ids)}))
