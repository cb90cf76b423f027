"""From the texts of a recipe to a dataset: hash, scan, choose, tokenize, publish.

Both passes run in worker processes over slices, which depend on the sources alone. A dataset is
known by what it is made of, so the same sources with the same tokenizer are never tokenized twice;
and everything on the way there is kept under such names too, so a killed build goes on where it
was, with the same bytes, and a corpus that grew is read where it grew. Beside the datasets lie
``.scans`` (what pass 1 found, by content), ``.shards`` (what pass 2 made of it; datasets hold links to
these files), ``.building`` (datasets in work), ``.choices`` (what became of each document of a dataset),
``.encoders`` (which library makes a tokenizer's ids) and ``.held_out`` (what stays out of training for good).
"""

from __future__ import annotations

import logging
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.errors import DataError, Stopped
from rewarm.core.manifest import MANIFEST, canonical, is_whole, write_manifest
from rewarm.core.storage import link_or_copy, locked, sha256_bytes, sweep, write_file
from rewarm.data.dataset import HELD_OUT, TOKENIZER, Dataset
from rewarm.data.encoder import SMALL, Encoder, choose_encoder, english_bytes_per_token
from rewarm.data.figures import SourceWork, Tally, entry, shown, tally
from rewarm.data.files import list_files
from rewarm.data.hashing import hash_files
from rewarm.data.minhash import VERSION as SIGNATURES
from rewarm.data.scan import Scan, loaded, minhash_path
from rewarm.data.selection import (
    Chosen,
    TextScans,
    choose,
    extend_ledger,
    ledger_path,
    read_choice,
    read_ledgers,
    write_choice,
)
from rewarm.data.shards import HELD, INDEX, RECORD, TOKENS, TRAINED
from rewarm.data.slices import Slice, slices_of
from rewarm.data.steps import facts
from rewarm.data.tokenizer import STOCK, DocumentTokenizer
from rewarm.data.workers import Engine, Workers
from rewarm.recipe.facts import allowed_cores
from rewarm.recipe.recipe import Recipe

Progress = Callable[[str, float, float, str], None]
Stop = Callable[[], bool]
VERSION = 2
"""Goes up whenever the same texts would become other scans, shards or datasets."""
_A_DAY = 86_400.0
logger = logging.getLogger(__name__)


def _silent(what: str, done: float, total: float, unit: str) -> None:
    return None


def _never() -> bool:
    return False


def build_dataset(
    recipe: Recipe,
    tokenizer_folder: Path,
    datasets: Path,
    *,
    workers: int | None = None,
    progress: Progress = _silent,
    stop: Stop = _never,
    again: str | None = None,
    engine: Callable[[int, Stop], Engine] = Workers,
) -> Dataset:
    """The dataset of a recipe (whose paths are absolute) for a tokenizer; built if it is not there yet.

    Args:
        datasets: the folder of all datasets.
        workers: cores to use; all that this process may use when None.
        progress: told ("hash" | "scan" | "tokenize", bytes done, bytes in all, "bytes"), and of near-duplicates.
        stop: asked several times a second; what was finished until then is kept.
        again: the name of a dataset that is to be made as it was, whatever was held out elsewhere since.
        engine: what maps the work over ``workers`` cores; whatever it is, the bytes are the same.

    Raises:
        DataError: if a text is missing, empty, damaged or holds too many bad records.
        Unreachable: if a server fails for good; what was finished is kept.
        ModelError: if the tokenizer cannot be read. ResourceError: if a worker was killed.
        Stopped: if ``stop`` said so.
    """
    cores = workers or allowed_cores()
    tokenizer = DocumentTokenizer.load(tokenizer_folder, recipe.data.document_tokens)
    for folder in (datasets / ".scans", datasets / ".held_out", datasets / ".encoders"):
        sweep(folder, older_than=_A_DAY)
    with ThreadPoolExecutor(1) as aside, engine(cores, stop) as pool:
        sources = _list(recipe, datasets / ".scans" / "hashes.json", cores, progress, stop)
        parts = [part for source in sources for part in source.slices]
        verdicts = datasets / ".encoders"
        checking = cache(
            lambda: aside.submit(choose_encoder, tokenizer, parts, verdicts)
        )  # takes seconds: beside pass 1
        _scan(sources, recipe, datasets / ".scans", pool, progress, checking)
        tallies = [tally(source, recipe.data.max_rejected) for source in sources]
        chosen = _again(sources, datasets, tokenizer, again) if again is not None else None
        chosen = chosen or _choose(sources, datasets, recipe, progress)
        path = datasets / _address(tokenizer, sources)
        building = datasets / ".building" / path.name
        with locked(building.with_suffix(".lock"), "this dataset", lambda: _wait(progress, stop)):
            if not is_whole(path):
                shards = _shards(sources, datasets / ".shards", tokenizer)
                encoder = checking().result()
                english = aside.submit(english_bytes_per_token, tokenizer, verdicts)
                _tokenize(sources, shards, building, tokenizer.with_encoder(encoder.name), pool, progress)
                about = _about(recipe, tokenizer, encoder, chosen) | {"english_bytes_per_token": english.result()}
                _assemble(sources, tallies, shards, building, tokenizer_folder, about)
            _remember(sources, datasets, path.name, chosen)
            if not path.exists():
                (building / "data").rename(path)
            shutil.rmtree(building, ignore_errors=True)
    return Dataset.open(path, verify=False)


def find_dataset(recipe: Recipe, tokenizer_folder: Path, datasets: Path) -> Dataset | None:
    """The dataset that ``build_dataset`` would find without reading a text; None where it would have to read one.

    Raises:
        DataError: if a text is missing. ModelError: if the tokenizer cannot be read.
    """

    def refuse(what: str, done: float, total: float, unit: str) -> None:
        if total:
            raise _UnreadError

    tokenizer = DocumentTokenizer.load(tokenizer_folder, recipe.data.document_tokens)
    try:
        sources = _list(recipe, datasets / ".scans" / "hashes.json", 1, refuse, _never)
        _scan(sources, recipe, datasets / ".scans", Workers(1, _never), refuse, lambda: refuse("scan", 0, 1, ""))
    except _UnreadError:
        return None
    _choose(sources, datasets, recipe)
    path = datasets / _address(tokenizer, sources)
    return Dataset.open(path, verify=False) if path.exists() else None


class _UnreadError(Exception):
    """A text would have to be read."""


# ---- what there is to read ----


def _list(recipe: Recipe, index: Path, cores: int, progress: Progress, stop: Stop) -> list[SourceWork]:
    listings = [list_files(text.paths, text.format, text.connection) for text in recipe.texts]
    listed = {uri: seen for listing in listings for uri, seen in listing.signatures.items()}
    skip = {p for text, ls in zip(recipe.texts, listings, strict=True) if text.on_bad_file == "skip" for p in ls.files}
    every = list(dict.fromkeys(path for listing in listings for path in listing.files))
    told = lambda done, total: progress("hash", done, total, "bytes")  # noqa: E731
    hashed = hash_files(every, listed, skip, index, cores, told, stop)
    sources = []
    for text, listing in zip(recipe.texts, listings, strict=True):
        found = [(path, hashed[path]) for path in listing.files]
        bad = [{"file": shown(path), "reason": str(r.what)} for path, r in found if isinstance(r, DataError)]
        good = [replace(r, connection=text.connection) for _, r in found if not isinstance(r, DataError)]
        cut_tables = text.on_bad_file == "stop"
        slices = slices_of(text.name, good, text.format, text.text_column, cut_tables)
        sources.append(SourceWork(text, recipe.steps_of(text), listing, slices, bad))
    return sources


# ---- pass 1 ----


def _scan(
    sources: Sequence[SourceWork],
    recipe: Recipe,
    folder: Path,
    pool: Engine,
    progress: Progress,
    begin: Callable[[], object],
) -> None:
    """Fill in the scan of each slice; what was scanned before is not read again."""
    near = recipe.data.near_duplicates
    near_json = near and near.model_dump(mode="json", exclude={"earlier", "threshold"})
    tasks: list[dict[str, Any]] = []
    owners: list[tuple[SourceWork, Slice, Path]] = []
    wanted: set[Path] = set()
    for source in sources:
        depends_on = [VERSION, facts(source.steps), near and [SIGNATURES, near_json]]
        for part in source.slices:
            path = folder / f"{sha256_bytes(canonical([part.key(), *depends_on]))}.scan"
            source.scans.append(path)
            known = None if path in wanted else Scan.load(path)
            if path in wanted or (known is not None and not any(known.errors)):
                continue  # a file that could not be read is tried again: the reason may be gone
            wanted.add(path)
            tasks.append(
                {
                    "do": "scan", "slice": part.to_json(), "steps": source.steps_json(), "near": near_json,
                    "scan": str(path), "bytes": part.bytes,
                }
            )  # fmt: skip
            owners.append((source, part, path))
    if tasks:
        begin()
    order = sorted(range(len(tasks)), key=lambda i: -int(tasks[i]["bytes"]))
    total = sum(int(task["bytes"]) for task in tasks)
    for index in pool.run([tasks[i] for i in order], lambda done: progress("scan", done, total, "bytes")):
        source, part, path = owners[order[index]]
        _refuse_bad_files(source, part, path)  # early, rather than after the other terabyte
    for source in sources:
        for part, path in zip(source.slices, source.scans, strict=True):
            source.bad_files += _refuse_bad_files(source, part, path)


def _refuse_bad_files(source: SourceWork, part: Slice, path: Path) -> list[dict[str, str]]:
    """The files of a slice that cannot be used.

    Raises:
        DataError: if there is one, and the recipe does not say to skip such.
    """
    bad = []
    for file, error in zip(part.files, loaded(path).errors, strict=True):
        if error is None:
            continue
        what, _, remedy = error.partition("\n")
        if source.text.on_bad_file == "stop" or part.end is not None:
            raise DataError(what, where=shown(file.uri), remedy=remedy or None)
        bad.append({"file": shown(file.uri), "reason": what})
    return bad


# ---- what the dataset will be, and pass 2 ----


def _again(sources: Sequence[SourceWork], datasets: Path, tokenizer: DocumentTokenizer, name: str) -> Chosen | None:
    """What became of each document in the dataset ``name``, also filled in at the sources; None if it was of others."""
    if (chosen := read_choice(_choice_path(datasets, name))) is None:
        return None
    if [[len(c) for c in cs] for cs in chosen.choices] == [source.counts() for source in sources]:
        _fill_in(sources, chosen)
        if _address(tokenizer, sources) == name:  # which says that no text is another
            return chosen
    logger.warning("the texts of dataset %s have changed: it is made anew", name)
    return None


def _choose(sources: Sequence[SourceWork], datasets: Path, recipe: Recipe, progress: Progress = _silent) -> Chosen:
    """What becomes of each document; also filled in at the sources."""
    ledgers = datasets / ".held_out"
    texts = [
        TextScans(source.scans, source.role == "panel", first=not ledger_path(ledgers, source.text.paths).exists())
        for source in sources
    ]
    earlier = read_ledgers(ledgers)  # after the question above: another build may be writing one of them
    near = recipe.data.near_duplicates
    trained = _trained(datasets, near.earlier if near else [])
    told = lambda done, total: progress("near-duplicates", done, total, "bands")  # noqa: E731
    chosen = choose(texts, recipe.data.held_out, earlier, near, trained, told)
    _fill_in(sources, chosen)
    return chosen


def _fill_in(sources: Sequence[SourceWork], chosen: Chosen) -> None:
    for source, choices in zip(sources, chosen.choices, strict=True):
        source.choices = choices


def _trained(datasets: Path, names: Sequence[str]) -> list[Path]:
    """The signatures of what is trained on in these datasets.

    Raises:
        DataError: if one is not there, or was made without looking for near-duplicates.
    """
    found = []
    for name in names:
        where = f"data.near_duplicates.earlier: {name}"
        if not (datasets / name / MANIFEST).is_file():
            raise DataError("there is no such dataset here", where=where, remedy="rewarm data ls")
        manifest = Dataset.open(datasets / name, verify=False).manifest
        if not manifest.get("near_duplicates"):
            raise DataError("it was made without data.near_duplicates", where=where, remedy="make it again with them")
        for source in manifest["sources"]:
            if source["role"] != "panel":
                found += [minhash_path(datasets / ".scans" / f"{scan}.scan") for scan in source["scans"]]
    return found


def _choice_path(datasets: Path, name: str) -> Path:
    return datasets / ".choices" / f"{name}.bin"


def _address(tokenizer: DocumentTokenizer, sources: Sequence[SourceWork]) -> str:
    """The name of the dataset: a hash of everything that its tokens depend on."""
    made_of: list[Any] = [VERSION, tokenizer.hash]
    for source in sources:
        chosen = [sha256_bytes(choice.tobytes()) for choice in source.choices]
        made_of.append([source.text.name, source.role, [path.stem for path in source.scans], chosen])
    return sha256_bytes(canonical(made_of))[:32]


def _wait(progress: Progress, stop: Stop) -> None:
    progress("wait for another process that makes this dataset", 0, 0, "")
    if stop():
        raise Stopped


def _shards(sources: Sequence[SourceWork], folder: Path, tokenizer: DocumentTokenizer) -> list[list[Path]]:
    """Where the shard of each slice lies or will lie; one that was damaged since it was made is deleted."""
    shards: list[list[Path]] = []
    for source in sources:
        here = []
        for scan, choice in zip(source.scans, source.choices, strict=True):
            made_of = [VERSION, tokenizer.hash, source.text.name, scan.stem, sha256_bytes(choice.tobytes())]
            path = folder / sha256_bytes(canonical(made_of))[:32]
            is_whole(path, RECORD)
            here.append(path)
        shards.append(here)
    return shards


def _tokenize(
    sources: Sequence[SourceWork],
    shards: Sequence[Sequence[Path]],
    building: Path,
    tokenizer: DocumentTokenizer,
    pool: Engine,
    progress: Progress,
) -> None:
    """Make every shard that is not there yet."""
    tasks: dict[Path, dict[str, Any]] = {}
    text = 0
    for source, paths in zip(sources, shards, strict=True):
        choice = building / f"choice-{source.text.name}.bin"
        write_file(choice, b"".join(c.tobytes() for c in source.choices))
        offset = 0
        for part, scan, flags, path in zip(source.slices, source.scans, source.choices, paths, strict=True):
            if not path.exists():
                text += part.text_bytes
                tasks[path] = {
                    "do": "tokenize", "slice": part.to_json(), "steps": source.steps_json(), "scan": str(scan),
                    "choice": str(choice), "offset": offset, "shard": str(path), "staging": str(building),
                    "bytes": part.bytes,
                }  # fmt: skip
            offset += len(flags)
    total = sum(int(task["bytes"]) for task in tasks.values())
    stock = text < SMALL  # which is sooner done; the ids are equal
    spec = (tokenizer.with_encoder(STOCK) if stock else tokenizer).spec
    ordered = sorted((task | {"tokenizer": spec} for task in tasks.values()), key=lambda task: -int(task["bytes"]))
    for _ in pool.run(ordered, lambda done: progress("tokenize", done, total, "bytes")):
        pass


def _about(recipe: Recipe, tokenizer: DocumentTokenizer, encoder: Encoder, chosen: Chosen) -> dict[str, Any]:
    """The part of the manifest about the dataset as a whole."""
    near = recipe.data.near_duplicates
    return {
        "version": VERSION,
        "tokenizer": tokenizer.hash,
        "dtype": tokenizer.dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "encoder": encoder._asdict(),
        "unicode": unicodedata.unidata_version,
        "held_out_share": recipe.data.held_out,
        "near_duplicates": near and {**near.model_dump(mode="json"), "clusters": sorted(chosen.clusters.items())},
    }


def _assemble(
    sources: Sequence[SourceWork],
    tallies: Sequence[Tally],
    shards: Sequence[Sequence[Path]],
    building: Path,
    folder: Path,
    about: dict[str, Any],
) -> None:
    """Link the shards into a folder, and write the held-out lists, the tokenizer and the manifest."""
    data = building / "data"
    shutil.rmtree(data, ignore_errors=True)
    entries, files = [], {}
    for source, counted, paths in zip(sources, tallies, shards, strict=True):
        records = [orjson.loads((path / RECORD).read_bytes()) for path in paths]
        entries.append(entry(source, counted, records))
        own = data / source.text.name
        (own / HELD_OUT).mkdir(parents=True)
        held = [orjson.dumps(document) + b"\n" for record in records for document in record["documents"]]
        write_file(own / f"{HELD_OUT}.jsonl", b"".join(held))
        for number, (path, record) in enumerate(zip(paths, records, strict=True)):
            for kind, target in ((TRAINED, own), (HELD_OUT, own / HELD_OUT)):
                for name in (TOKENS, INDEX) if record[kind]["documents"] else ():
                    stem, ending = name.split(".")
                    link = target / f"{stem}-{number:05d}.{ending}"
                    link_or_copy(path / kind / name, link)
                    files[link.relative_to(data).as_posix()] = record["files"][f"{kind}/{name}"]
    write_file(data / TOKENIZER, (folder / "tokenizer.json").read_bytes())
    write_manifest(data, {**about, "sources": entries}, files)


def _remember(sources: Sequence[SourceWork], datasets: Path, name: str, chosen: Chosen) -> None:
    """Note what becomes of each document of this dataset, and what stays out of training in every later build."""
    if not (path := _choice_path(datasets, name)).exists():
        write_choice(path, chosen)
    folder = datasets / ".held_out"
    with locked(folder / "lock", "the list of what is held out", _never):
        for source in sources:
            if source.role == "panel":
                continue
            held: list[str] = []
            for scan, choice in zip(source.scans, source.choices, strict=True):
                held += [row.tobytes().hex() for row in loaded(scan).ids[choice == HELD]]
            extend_ledger(ledger_path(folder, source.text.paths), [shown(p) for p in source.text.paths], held)
