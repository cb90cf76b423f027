"""From the texts of a recipe to a dataset: hash, scan, choose, tokenize, publish.

Both passes run in worker processes over slices, which depend on the sources alone. A dataset is
known by what it is made of, so the same sources with the same tokenizer are never tokenized twice;
and everything on the way there is kept under such names too, so a killed build goes on where it
was, with the same bytes. Beside the datasets lie ``.scans`` (what pass 1 found, by content),
``.building`` (datasets in work) and ``.held_out`` (what stays out of training in later builds).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rewarm.core.errors import DataError, UserError
from rewarm.core.manifest import canonical, verify, write_manifest
from rewarm.core.storage import locked, remove_folder, sha256_bytes, sweep, write_file
from rewarm.data.dataset import HELD_OUT, TOKENIZER, Dataset
from rewarm.data.files import Listing, list_files
from rewarm.data.hashing import hash_files
from rewarm.data.sample import sample_texts
from rewarm.data.scan import PLACES, Scan
from rewarm.data.selection import TextScans, choose, extend_ledger, ledger_path, read_ledgers
from rewarm.data.shards import DUPLICATE, HELD, TRAIN, Choice
from rewarm.data.slices import Slice, slices_of
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.data.workers import Stopped, Workers
from rewarm.recipe.recipe import Panel, Recipe, Replay, Text

Progress = Callable[[str, float, float, str], None]
Stop = Callable[[], bool]
VERSION = 1
__all__ = ["Stopped", "build_dataset", "sample_texts"]
logger = logging.getLogger(__name__)


def _silent(what: str, done: float, total: float, unit: str) -> None:
    return None


def _never() -> bool:
    return False


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Source:
    """A text of the recipe on its way into the dataset."""

    text: Text
    listing: Listing
    slices: list[Slice]
    bad_files: list[dict[str, str]]
    scans: list[Path] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)

    @property
    def role(self) -> str:
        return "panel" if isinstance(self.text, Panel) else "replay" if isinstance(self.text, Replay) else "source"


def build_dataset(
    recipe: Recipe,
    tokenizer_folder: Path,
    datasets: Path,
    *,
    workers: int | None = None,
    progress: Progress = _silent,
    stop: Stop = _never,
) -> Dataset:
    """The dataset of a recipe (whose paths are absolute) for a tokenizer; built if it is not there yet.

    Args:
        datasets: the folder of all datasets.
        workers: cores to use; all that this process may use when None.
        progress: told ("hash" | "scan" | "tokenize", bytes done, bytes in all, "bytes").
        stop: asked several times a second; what was finished until then is kept.

    Raises:
        DataError: if a text is missing, empty, damaged or holds too many bad records.
        ModelError: if the tokenizer cannot be read. ResourceError: if a worker was killed.
        Stopped: if ``stop`` said so.
    """
    cores = workers or available_cores()
    tokenizer = DocumentTokenizer.load(tokenizer_folder, recipe.data.document_tokens)
    sources = _list(recipe, cores, progress, stop)
    with Workers(cores, stop) as pool:
        _scan(sources, datasets / ".scans", pool, progress)
        tallies = [_tally(source, recipe.data.max_rejected) for source in sources]
        ledgers = [ledger_path(datasets / ".held_out", source.text.paths) for source in sources]
        _choose(sources, ledgers, datasets / ".held_out", recipe.data.held_out)
        path = datasets / _address(tokenizer, sources)
        building = datasets / ".building" / path.name
        with _alone(building.with_suffix(".lock"), stop):
            if not _is_whole(path):
                _tokenize(sources, building, tokenizer_folder, tokenizer, recipe, pool, progress)
                _describe(sources, tallies, building, tokenizer_folder, tokenizer, recipe)
            _remember(sources, ledgers, datasets / ".held_out")
            if not path.exists():
                (building / "data").rename(path)
            shutil.rmtree(building, ignore_errors=True)
    return Dataset.open(path, verify=False)


# ---- what there is to read ----


def _list(recipe: Recipe, cores: int, progress: Progress, stop: Stop) -> list[_Source]:
    listings = [list_files(text.paths, text.format) for text in recipe.texts]
    skip = {p for text, ls in zip(recipe.texts, listings, strict=True) if text.on_bad_file == "skip" for p in ls.files}
    every = list(dict.fromkeys(path for listing in listings for path in listing.files))
    hashed = hash_files(every, skip, cores, lambda done, total: progress("hash", done, total, "bytes"), stop)
    sources = []
    for text, listing in zip(recipe.texts, listings, strict=True):
        found = [(path, hashed[path]) for path in listing.files]
        bad = [{"file": _shown(path), "reason": str(r.what)} for path, r in found if isinstance(r, DataError)]
        good = [r for _, r in found if not isinstance(r, DataError)]
        sources.append(_Source(text, listing, slices_of(text.name, good, text.format, text.text_column), bad))
    return sources


def _shown(path: Path | str) -> str:
    """A path as JSON can hold it: file names need not be UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


# ---- pass 1 ----


def _scan(sources: Sequence[_Source], folder: Path, pool: Workers, progress: Progress) -> None:
    """Fill in the scan of each slice; what was scanned before is not read again."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks: list[dict[str, Any]] = []
    owners: list[tuple[_Source, Slice, Path]] = []
    wanted: set[Path] = set()
    for source in sources:
        for part in source.slices:
            path = folder / f"{part.key()}.scan"
            source.scans.append(path)
            known = None if path in wanted else Scan.load(path)
            if path in wanted or (known is not None and not any(known.errors)):
                continue  # a file that could not be read is tried again: the reason may be gone
            wanted.add(path)
            tasks.append({"do": "scan", "slice": part.to_json(), "scan": str(path), "bytes": part.bytes})
            owners.append((source, part, path))
    order = sorted(range(len(tasks)), key=lambda i: -int(tasks[i]["bytes"]))
    total = sum(int(task["bytes"]) for task in tasks)
    for index in pool.run([tasks[i] for i in order], lambda done: progress("scan", done, total, "bytes")):
        source, part, path = owners[order[index]]
        _refuse_bad_files(source, part, path)  # early, rather than after the other terabyte
    for source in sources:
        for part, path in zip(source.slices, source.scans, strict=True):
            source.bad_files += _refuse_bad_files(source, part, path)


def _refuse_bad_files(source: _Source, part: Slice, path: Path) -> list[dict[str, str]]:
    """The files of a slice that cannot be used.

    Raises:
        DataError: if there is one, and the recipe does not say to skip such.
    """
    bad = []
    for file, error in zip(part.files, _loaded(path).errors, strict=True):
        if error is None:
            continue
        what, _, remedy = error.partition("\n")
        if source.text.on_bad_file == "stop" or part.end is not None:
            raise DataError(what, where=_shown(file.path), remedy=remedy or None)
        bad.append({"file": _shown(file.path), "reason": what})
    return bad


def _loaded(path: Path) -> Scan:
    scan = Scan.load(path)
    if scan is None:
        raise DataError("the record of the first pass is gone or damaged", where=path, remedy="run again")
    return scan


@dataclass
class _Tally:
    documents_in: int
    rejected: dict[str, int]
    places: list[dict[str, Any]]


def _tally(source: _Source, max_rejected: float) -> _Tally:
    """Count what pass 1 found in a source.

    Raises:
        DataError: if too many records are bad, or if there is no document at all.
    """
    documents, rejected, places = 0, Counter[str](), []
    lines: Counter[str] = Counter()  # of a file that is read in ranges, before the one at hand
    for part, path in zip(source.slices, source.scans, strict=True):
        scan = _loaded(path)
        documents += sum(scan.documents)
        rejected.update(scan.rejected)
        for index, member, line, reason in scan.places:
            name = part.files[index].path
            shown = _shown(f"{name}:{member}" if member else name)
            places.append({"file": shown, "line": lines[name] + line, "reason": reason})
        if part.end is not None:
            lines[part.files[0].path] += scan.lines
    bad = rejected.total()
    counts = ", ".join(f"{reason}: {n}" for reason, n in rejected.most_common())
    first = "".join(f"\n  {p['file']}:{p['line']}: {p['reason']}" for p in places[:5])
    if bad > max_rejected * (documents + bad):
        raise DataError(
            f"{bad} of {documents + bad} records are bad ({counts}), more than data.max_rejected = {max_rejected:g}; "
            f"the first:{first}",
            where=f"source {source.text.name}",
            remedy="repair them, or raise data.max_rejected",
        )
    if documents == 0:
        looked = f"{len(source.listing.files)} files read, {len(source.listing.ignored)} ignored"
        raise DataError(
            f"there is no document in it ({looked}, {len(source.bad_files)} damaged)",
            where=f"source {source.text.name}: {', '.join(source.text.paths)}",
            remedy="correct the path; files must end in .jsonl, .json, .txt, .csv or .parquet (.gz, .zst, .zip too)",
        )
    return _Tally(documents + bad, dict(sorted(rejected.items())), places[:PLACES])


# ---- what the dataset will be, and pass 2 ----


def _choose(sources: Sequence[_Source], ledgers: Sequence[Path], folder: Path, share: float) -> None:
    """Fill in what becomes of each document."""
    texts = [
        TextScans(source.scans, source.role == "panel", first=not ledger.exists())
        for source, ledger in zip(sources, ledgers, strict=True)
    ]
    earlier = read_ledgers(folder)  # after the question above: another build may be writing one of them
    for source, choices in zip(sources, choose(texts, share, earlier), strict=True):
        source.choices = choices


def _address(tokenizer: DocumentTokenizer, sources: Sequence[_Source]) -> str:
    """The name of the dataset: a hash of everything that its tokens depend on."""
    facts: list[Any] = [VERSION, tokenizer.hash]
    for source in sources:
        chosen = [sha256_bytes(choice.tobytes()) for choice in source.choices]
        facts.append([source.text.name, source.role, [path.stem for path in source.scans], chosen])
    return sha256_bytes(canonical(facts))[:32]


@contextlib.contextmanager
def _alone(lock: Path, stop: Stop) -> Iterator[None]:
    """Wait until no other process builds the same dataset, and keep others waiting meanwhile."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(lock, "this dataset"))
                break
            except DataError:
                raise
            except UserError:
                if stop():
                    raise Stopped from None
                time.sleep(0.2)
        yield


def _is_whole(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        verify(path)  # by hash: a flipped byte would fail every run that uses it
    except DataError as error:
        logger.warning("the dataset is damaged and is made again: %s", error)
        remove_folder(path)
        return False
    return True


def _tokenize(
    sources: Sequence[_Source],
    building: Path,
    folder: Path,
    tokenizer: DocumentTokenizer,
    recipe: Recipe,
    pool: Workers,
    progress: Progress,
) -> None:
    """Write every shard that is not there yet."""
    named = recipe.data.document_tokens
    given = {} if named is None else {name: getattr(named, name) for name in sorted(named.model_fields_set)}
    tasks: list[dict[str, Any]] = []
    for source in sources:
        data, choice = building / "data" / source.text.name, building / f"choice-{source.text.name}.bin"
        for leftover in (data, data / HELD_OUT):
            sweep(leftover)
        write_file(choice, b"".join(c.tobytes() for c in source.choices))
        offset = 0
        for part, scan, flags in zip(source.slices, source.scans, source.choices, strict=True):
            record = _record(building, part)
            if (flags != DUPLICATE).any() and not _is_written(record, data, tokenizer):
                tasks.append(
                    {
                        "do": "tokenize", "slice": part.to_json(), "scan": str(scan), "choice": str(choice),
                        "offset": offset, "tokenizer": str(folder), "document_tokens": given, "folder": str(data),
                        "record": str(record), "bytes": part.bytes,
                    }
                )  # fmt: skip
            offset += len(flags)
    tasks.sort(key=lambda task: -int(task["bytes"]))
    total = sum(int(task["bytes"]) for task in tasks)
    for _ in pool.run(tasks, lambda done: progress("tokenize", done, total, "bytes")):
        pass


def _record(building: Path, part: Slice) -> Path:
    return building / "parts" / f"{part.source}-{part.number:05d}.json"


def _is_written(record: Path, data: Path, tokenizer: DocumentTokenizer) -> bool:
    try:
        value = orjson.loads(record.read_bytes())
        for kind, folder in (("train", data), ("held_out", data / HELD_OUT)):
            if value[kind]["documents"]:
                size = (folder / f"tokens-{value['shard']}.bin").stat().st_size
                offsets = (folder / f"documents-{value['shard']}.idx").stat().st_size
                wanted = (value[kind]["tokens"] * tokenizer.dtype.itemsize, 8 * (value[kind]["documents"] + 1))
                if (size, offsets) != wanted:
                    return False
    except (OSError, orjson.JSONDecodeError, KeyError):
        return False
    return True


# ---- the manifest ----


def _describe(
    sources: Sequence[_Source],
    tallies: Sequence[_Tally],
    building: Path,
    folder: Path,
    tokenizer: DocumentTokenizer,
    recipe: Recipe,
) -> None:
    """Write the held-out lists, the tokenizer and the manifest: the dataset is then whole."""
    entries = [_entry(source, tally, building) for source, tally in zip(sources, tallies, strict=True)]
    write_file(building / "data" / TOKENIZER, (folder / "tokenizer.json").read_bytes())
    facts = {
        "version": VERSION,
        "tokenizer": tokenizer.hash,
        "dtype": tokenizer.dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "unicode": unicodedata.unidata_version,
        "held_out_share": recipe.data.held_out,
        "sources": entries,
    }
    (building / "data" / "manifest.json").unlink(missing_ok=True)
    write_manifest(building / "data", facts)


def _entry(source: _Source, tally: _Tally, building: Path) -> dict[str, Any]:
    """The part of the manifest about a source; writes its list of held-out documents."""
    flags = Counter[int]()
    for choice in source.choices:
        flags.update(dict(enumerate(np.bincount(choice, minlength=3).tolist())))
    sums: dict[str, Counter[str]] = {"train": Counter(), "held_out": Counter()}
    shards: dict[str, list[str]] = {"train": [], "held_out": []}
    lines = []
    for part, choice in zip(source.slices, source.choices, strict=True):
        if not (choice != DUPLICATE).any():
            continue
        record = orjson.loads(_record(building, part).read_bytes())
        for kind in sums:
            sums[kind].update(record[kind])
            shards[kind] += [record["shard"]] if record[kind]["documents"] else []
        lines += [orjson.dumps(document) + b"\n" for document in record["documents"]]
    write_file(building / "data" / source.text.name / f"{HELD_OUT}.jsonl", b"".join(lines))
    train, held = sums["train"], sums["held_out"]
    accounted = train["documents"] + held["documents"] + flags[DUPLICATE] + sum(tally.rejected.values())
    if (train["documents"], held["documents"]) != (flags[TRAIN], flags[HELD]) or accounted != tally.documents_in:
        raise AssertionError(f"documents of {source.text.name} were lost: {accounted} of {tally.documents_in}")
    return {
        "name": source.text.name,
        "role": source.role,
        "paths": [_shown(path) for path in source.text.paths],
        "files": len(source.listing.files),
        "bad_files": source.bad_files,
        "ignored_files": {
            "count": len(source.listing.ignored),
            "first": [_shown(path) for path in source.listing.ignored[:PLACES]],
        },
        "documents_in": tally.documents_in,
        "accepted": train["documents"],
        "held_out": held["documents"],
        "rejected": tally.rejected,
        "filtered": {"duplicate": flags[DUPLICATE]},
        "reject_places": tally.places,
        "bytes": train["bytes"],
        "tokens": train["tokens"],
        "bytes_per_token": _ratio(train["bytes"] + held["bytes"], train["tokens"] + held["tokens"]),
        "held_out_bytes": held["bytes"],
        "held_out_tokens": held["tokens"],
        "shards": shards["train"],
        "held_out_shards": shards["held_out"],
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _remember(sources: Sequence[_Source], ledgers: Sequence[Path], folder: Path) -> None:
    """Note what was held out, so that it stays out of training in every later build of these texts."""
    with _alone(folder / "lock", _never):
        for source, path in zip(sources, ledgers, strict=True):
            if source.role == "panel":
                continue
            held: list[str] = []
            for scan, choice in zip(source.scans, source.choices, strict=True):
                held += [row.tobytes().hex() for row in _loaded(scan).ids[choice == HELD]]
            extend_ledger(path, [_shown(p) for p in source.text.paths], held)
