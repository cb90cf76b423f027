"""What became of a source, in figures: counted from its scans and shards for the manifest.

Every document that came in is accepted, held out, rejected with a reason or filtered by a rule; a sum
that does not come out even is a bug and stops the build.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rewarm.core.errors import DataError
from rewarm.data.dataset import HELD_OUT
from rewarm.data.documents import TOO_LONG
from rewarm.data.files import FORMATS, PACKED, Listing
from rewarm.data.scan import PLACES, SAMPLES, loaded
from rewarm.data.shards import DUPLICATE, HELD, NEAR_DUPLICATE, TRAIN, TRAINED, Choice
from rewarm.data.slices import Slice
from rewarm.recipe.recipe import Panel, Replay, Text
from rewarm.recipe.steps import Step

_SITES = 20


@dataclass
class SourceWork:
    """A text of the recipe on its way into the dataset."""

    text: Text
    steps: Sequence[Step]
    listing: Listing
    slices: list[Slice]
    bad_files: list[dict[str, str]]
    scans: list[Path] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)

    @property
    def role(self) -> str:
        return "panel" if isinstance(self.text, Panel) else "replay" if isinstance(self.text, Replay) else "source"

    def counts(self) -> list[int]:
        """Documents of each scan."""
        return [len(loaded(path).sizes) for path in self.scans]

    def steps_json(self) -> list[dict[str, Any]]:
        return [step.model_dump(mode="json") for step in self.steps]


@dataclass
class Tally:
    """What pass 1 found in a source."""

    documents_in: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    dropped: Counter[str] = field(default_factory=Counter)  # by rule and reason
    places: list[dict[str, Any]] = field(default_factory=list)  # of rejects: file, line, reason
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by rule and reason
    flagged: dict[str, set[str]] = field(default_factory=dict)  # benchmark items, by rule and reason
    sites: Counter[str] = field(default_factory=Counter)  # bytes by host, before copies are dropped
    kept: int = 0  # bytes that the rules kept, of whatever host
    ignored: list[str] = field(default_factory=list)  # members of archives
    columns: set[str] = field(default_factory=set)  # that texts were found in


def shown(path: Path | str) -> str:
    """A path as JSON can hold it: file names need not be UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def tally(source: SourceWork, max_rejected: float) -> Tally:
    """Count what pass 1 found in a source.

    Raises:
        DataError: if too many records are bad, or if no document is left.
    """
    found = Tally()
    lines: Counter[str] = Counter()  # of a file that is read in ranges, before the one at hand
    for part, path in zip(source.slices, source.scans, strict=True):
        scan = loaded(path)
        found.documents_in += sum(scan.read) + sum(scan.rejected.values())
        found.rejected.update(scan.rejected)
        found.dropped.update(scan.dropped)
        found.sites.update(scan.sites)
        found.kept += int(scan.sizes.sum())
        found.ignored += [shown(f"{part.files[index].uri}:{member}") for index, member in scan.ignored]
        found.columns.update(scan.columns)
        for index, member, line, reason in scan.places[: PLACES - len(found.places)]:
            name = part.files[index].uri
            place = shown(f"{name}:{member}" if member else name)
            found.places.append({"file": place, "line": lines[name] + line, "reason": reason})
        for rule, some in scan.samples.items():
            kept = found.samples.setdefault(rule, [])
            for sample in some[: SAMPLES - len(kept)]:
                name = part.files[sample.file].uri
                about = {"file": shown(name), "line": lines[name] + sample.line}
                kept.append({**about, "value": sample.value, "text": sample.text})
        for rule, items in scan.flagged.items():
            found.flagged.setdefault(rule, set()).update(items)
        if part.end is not None:
            lines[part.files[0].uri] += scan.lines
    _refuse(source, found, max_rejected)
    return found


def _refuse(source: SourceWork, found: Tally, max_rejected: float) -> None:
    bad, where = found.rejected.total(), f"source {source.text.name}"
    if bad > max_rejected * found.documents_in:
        cure = "split it into documents" if TOO_LONG in found.rejected else "repair them"
        first = "".join(f"\n  {p['file']}:{p['line']}: {p['reason']}" for p in found.places[:5])
        raise DataError(
            f"{bad} of {found.documents_in} records are bad ({_listed(found.rejected)}), more than "
            f"data.max_rejected = {max_rejected:g}; the first:{first}",
            where=where,
            remedy=f"{cure}, or raise data.max_rejected",
        )
    if found.documents_in == bad:
        ignored = len(source.listing.ignored) + len(found.ignored)
        files, format, damaged = len(source.listing.files), source.text.format, len(source.bad_files)
        remedy = f"correct the path; files must end in {', '.join(FORMATS)} (or these and {', '.join(PACKED)})"
        if damaged == files > 0:
            remedy = f"get them again; the first: {source.bad_files[0]['file']}: {source.bad_files[0]['reason']}"
        elif not files and format != "auto":
            remedy = f"leave out format: {format}, or name the files themselves"
        raise DataError(
            f"there is no document in it ({files} files read, {ignored} ignored, {damaged} damaged)",
            where=f"{where}: {', '.join(source.text.paths)}",
            remedy=remedy,
        )
    if found.dropped.total() == found.documents_in - bad:
        raise DataError(
            f"the steps drop every document ({_listed(found.dropped)})",
            where=where,
            remedy="look at some documents of it; then correct data.steps, or the profile that they use",
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in counts.most_common())


def entry(source: SourceWork, found: Tally, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The part of the manifest about a source.

    Args:
        records: those of its shards, in order.
    """
    flags = np.zeros(4, np.int64)
    for choice in source.choices:
        flags += np.bincount(choice, minlength=4)
    sums: dict[str, Counter[str]] = {TRAINED: Counter(), HELD_OUT: Counter()}
    shards: dict[str, list[str]] = {TRAINED: [], HELD_OUT: []}
    for number, record in enumerate(records):
        for kind in sums:
            sums[kind].update(record[kind])
            shards[kind] += [f"{number:05d}"] if record[kind]["documents"] else []
    train, held = sums[TRAINED], sums[HELD_OUT]
    tokens = train["tokens"] + held["tokens"]
    ignored = [*map(shown, source.listing.ignored), *found.ignored]
    copies = {"duplicate": int(flags[DUPLICATE]), "near duplicate": int(flags[NEAR_DUPLICATE])}
    filtered = in_order(source.steps, found.dropped) | {rule: n for rule, n in copies.items() if n}
    accounted = train["documents"] + held["documents"] + sum(filtered.values()) + found.rejected.total()
    if (train["documents"], held["documents"]) != (flags[TRAIN], flags[HELD]) or accounted != found.documents_in:
        raise AssertionError(f"documents of {source.text.name} were lost: {accounted} of {found.documents_in}")
    return {
        "name": source.text.name,
        "role": source.role,
        "paths": [shown(path) for path in source.text.paths],
        "files": len(source.listing.files),
        "bad_files": source.bad_files,
        "ignored_files": {"count": len(ignored), "first": ignored[:PLACES]},
        "text_columns": sorted(found.columns),
        "steps": source.steps_json(),
        "documents_in": found.documents_in,
        "accepted": train["documents"],
        "held_out": held["documents"],
        "rejected": dict(sorted(found.rejected.items())),
        "filtered": filtered,
        "reject_places": found.places,
        "samples": found.samples,
        "flagged": {rule: sorted(items) for rule, items in sorted(found.flagged.items())},
        "sites": _most(found.sites, found.kept),
        "bytes": train["bytes"],
        "tokens": train["tokens"],
        "bytes_per_token": (train["bytes"] + held["bytes"]) / tokens if tokens else None,
        "held_out_bytes": held["bytes"],
        "held_out_tokens": held["tokens"],
        "scans": [path.stem for path in source.scans],
        "shards": shards[TRAINED],
        "held_out_shards": shards[HELD_OUT],
    }


def in_order(steps: Sequence[Step], dropped: Counter[str]) -> dict[str, int]:
    """Drops in the order of the steps; the most frequent reason of a step first."""
    place: dict[str, int] = {step.kind: number for number, step in enumerate(steps)}
    return dict(sorted(dropped.items(), key=lambda item: (place.get(item[0].partition(":")[0], 99), -item[1], item[0])))


def _most(sites: Counter[str], kept: int) -> list[dict[str, Any]]:
    """The largest sites where records have URLs: bytes of what came from each, and their share of all that was kept."""
    named = sorted(((site, n) for site, n in sites.items() if site), key=lambda item: (-item[1], item[0]))
    return [{"site": site, "bytes": n, "share": n / kept} for site, n in named[:_SITES]]
