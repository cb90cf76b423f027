"""The whole prepare stage: read, clean, drop duplicates and near-duplicates, tokenize, pack; and again, after growth.

Time of ``build_dataset`` with one process and with two, in MB of raw text a second; what a second prepare of an
unchanged corpus takes; and what one new file beside 1,000 takes. The projection for the reference corpus takes
what a megabyte costs from two sizes of corpus, so that fixed costs count once, and follows Amdahl: what does not
get faster with the second process is serial, all of it, and the rest divisible without end; disks keep up.
There is no peer: none has all of this in one. ``tokenize.py`` and ``dedup.py`` compare the two heavy parts.

    python benchmarks/prepare.py [--quick] [--json [PATH]] [--tokenizer FOLDER] [--text FILE ...] [--profile vie_Latn]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder: its tokenize.py would hide the standard library's

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.tokenize import measured, seed_texts, train_tokenizer, write

REFERENCE_GB = 20.9
FILES = 1000
NEW = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--tokenizer", type=Path, help="a model folder; without it one is trained on the text")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="jsonl files with a text field")
    parser.add_argument("--profile", default="eng_Latn", help="of the quality and repetition rules")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        kind, *folders = arguments.run
        print(json.dumps(prepare(kind, *map(Path, folders))))
        return
    size, rounds = (8, 1) if arguments.quick else (64, 3)
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch), arguments, size, rounds)
    report(figures)
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure(scratch: Path, arguments: argparse.Namespace, size: int, rounds: int) -> dict[str, Any]:
    seeds = seed_texts(arguments.text)
    folder = arguments.tokenizer or train_tokenizer(seeds, scratch / "tokenizer")
    documents, bytes_ = write(passages(seeds, size * 1_000_000), scratch / "corpus")
    megabytes = bytes_ / 1e6

    def timed(corpus: Path, processes: int, where: str) -> dict[str, Any]:
        out = scratch / where
        kind = f"{processes} {arguments.profile}"
        return {**measured(sys.executable, __file__, kind, corpus, folder, out), "datasets": out / "datasets"}

    write(passages(seeds, size * 250_000), scratch / "quarter")
    runs: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for number in range(rounds):
        for corpus in ("corpus", "quarter"):
            for processes in (1, 2):
                where = f"{corpus}-{processes}-{number}"
                runs[corpus, processes].append(timed(scratch / corpus, processes, where))
    whole = {processes: runs["corpus", processes] for processes in (1, 2)}
    again = []
    for number, run in enumerate(whole[2]):
        _keep(run, scratch / f"again-{number}")
        again.append(timed(scratch / "corpus", 2, f"again-{number}"))
    times = {key: statistics.median(run["seconds"] for run in found) for key, found in runs.items()}
    cost = {n: (times["corpus", n] - times["quarter", n]) / (0.75 * megabytes) for n in (1, 2)}  # seconds a megabyte
    fixed = max(0.0, times["corpus", 2] - cost[2] * megabytes)
    serial = min(cost[1], max(0.0, 2 * cost[2] - cost[1]))
    return {
        "machine": platform.processor() or platform.machine(),
        "corpus_mb": round(megabytes, 1),
        "documents": documents,
        "text": [file.name for file in arguments.text] or ["pydoc_data.topics"],
        "tokenizer": folder.name if arguments.tokenizer else "byte-level BPE of 32k trained on the text",
        "profile": arguments.profile,
        "accepted": whole[2][0]["accepted"],
        "filtered": whole[2][0]["filtered"],
        "seconds": {n: [run["seconds"] for run in found] for n, found in whole.items()},
        "mb_per_second": {n: megabytes / times["corpus", n] for n in whole},
        "mb_per_second_per_core": {n: megabytes / times["corpus", n] / n for n in whole},
        "mb_per_second_without_fixed_costs": {n: 1 / cost[n] for n in whole},
        "fixed_seconds": fixed,
        "serial_share": serial / cost[1],
        "projected_minutes_20.9_GB": {
            cores: (fixed + REFERENCE_GB * 1000 * (serial + (cost[1] - serial) / cores)) / 60 for cores in (2, 128)
        },
        "peak_memory_mb": {n: max(run["peak_mb"] for run in found) for n, found in whole.items()},
        "seconds_unchanged": [run["seconds"] for run in again],
        "growth": growth(scratch, seeds, timed, size),
    }


def passages(seeds: list[str], size: int) -> Iterator[str]:
    """About ``size`` bytes of documents made of runs of lines from anywhere; one in twenty is an earlier one again."""
    lines = [line for text in seeds for line in text.split("\n") if len(line) > 40]
    dice, earlier, total = random.Random(1309), list[str](), 0
    while total < size:
        starts = [dice.randrange(len(lines)) for _ in range(dice.randrange(2, 12))]
        text = "\n".join(line for start in starts for line in lines[start : start + 4])
        if earlier and not dice.randrange(20):
            text = dice.choice(earlier) + ("" if dice.randrange(2) else f"\n{text[:100]}")
        elif len(earlier) < 1000:
            earlier.append(text)
        yield text
        total += len(text.encode())


def growth(
    scratch: Path, seeds: list[str], timed: Callable[[Path, int, str], dict[str, Any]], size: int
) -> dict[str, Any]:
    """One more file beside many: the time of the first build, of nothing new, and of each of ``NEW`` files."""
    corpus = scratch / "many"
    corpus.mkdir()
    texts = list(passages(seeds, size * 500_000))
    for number in range(FILES + NEW):
        share = texts[number * len(texts) // (FILES + NEW) : (number + 1) * len(texts) // (FILES + NEW)]
        target = (corpus if number < FILES else scratch) / f"{number:05d}.jsonl"
        target.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in share), "utf-8")
    last = first = timed(corpus, 2, "many-first")
    seconds: dict[str, list[float]] = {"unchanged": [], "one_new_file": []}
    for number in range(FILES, FILES + NEW):
        for what in seconds:
            if what == "one_new_file":
                (scratch / f"{number:05d}.jsonl").rename(corpus / f"{number:05d}.jsonl")
            _keep(last, scratch / f"many-{what}-{number}")
            last = timed(corpus, 2, f"many-{what}-{number}")
            seconds[what].append(last["seconds"])
    sizes = {"files": FILES, "new_file_bytes": (corpus / f"{FILES:05d}.jsonl").stat().st_size}
    medians = {what: statistics.median(found) for what, found in seconds.items()}
    return {**sizes, "seconds": {"first": first["seconds"], **medians}, "rounds": seconds}


def _keep(run: dict[str, Any], out: Path) -> None:
    """Let the next run find what an earlier one made."""
    out.mkdir()
    (out / "datasets").symlink_to(run["datasets"].resolve())


def prepare(kind: str, corpus: Path, folder: Path, out: Path) -> dict[str, Any]:
    """In a process of its own, ``kind`` being how many workers and which profile."""
    from rewarm.data.prepare import build_dataset
    from rewarm.recipe.recipe import Recipe

    workers, profile = kind.split()
    data = {
        "sources": [{"name": "text", "path": str(corpus)}],
        "steps": [
            {"kind": "normalise"},
            {"kind": "quality", "profile": profile},
            {"kind": "repetition", "profile": profile},
        ],
        "near_duplicates": {},
    }
    recipe = Recipe.model_validate({"name": "benchmark", "base_model": "none", "data": data})
    started = time.perf_counter()
    dataset = build_dataset(recipe, folder, out / "datasets", workers=int(workers))
    seconds = time.perf_counter() - started
    entry = dataset.manifest["sources"][0]
    found = {name: entry[name] for name in ("documents_in", "accepted", "held_out", "rejected", "filtered")}
    return {"seconds": seconds, **found}


def report(figures: dict[str, Any]) -> None:
    print(f"{figures['corpus_mb']} MB of {', '.join(figures['text'])}, {figures['documents']} documents")
    print(f"accepted {figures['accepted']}, filtered {figures['filtered']}; tokenizer: {figures['tokenizer']}\n")
    for n, speed in figures["mb_per_second"].items():
        seconds = ", ".join(f"{s:.2f}" for s in figures["seconds"][n])
        core, peak = figures["mb_per_second_per_core"][n], figures["peak_memory_mb"][n]
        bare = figures["mb_per_second_without_fixed_costs"][n]
        print(f"processes: {n}   {speed:6.2f} MB/s, {core:6.2f} a core, {bare:6.2f} without fixed costs", end=", ")
        print(f"peak {peak:5.0f} MB   (seconds: {seconds})")
    print(f"fixed costs {figures['fixed_seconds']:.2f} s, serial share {100 * figures['serial_share']:.0f} %")
    for cores, minutes in figures["projected_minutes_20.9_GB"].items():
        print(f"projected for {REFERENCE_GB} GB on {cores} cores: {minutes:.0f} minutes (Amdahl; disks keep up)")
    print(f"unchanged corpus: {statistics.median(figures['seconds_unchanged']):.2f} s")
    grown = figures["growth"]
    print(f"{grown['files']} files, then one more of {grown['new_file_bytes']} bytes: ", end="")
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in grown["seconds"].items()))
    for name, seconds in grown["rounds"].items():
        print(f"  {name}, each: {', '.join(f'{one:.2f}' for one in seconds)}")


if __name__ == "__main__":
    main()
