"""Tokenize and pack: ``build_dataset``, whole, against the tokenizer's own ``encode_batch_fast``.

Ours reads jsonl, normalises, hashes, drops duplicates, holds documents out, tokenizes in worker
processes, writes shards and checks sums. The peer only encodes the same texts, which lie in memory
already, with as many threads. Both run in turn within one run; medians are printed, and the peak
memory of ours for two sizes of corpus.

    python benchmarks/tokenize.py [--quick] [--json [PATH]] [--tokenizer FOLDER] [--text FILE ...]
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder: a file called tokenize.py there would hide the standard library's

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import psutil

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--tokenizer", type=Path, help="a model folder; without it one is trained on the text")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="jsonl files with a text field")
    parser.add_argument("--build", type=Path, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        corpus, folder, datasets = arguments.build
        print(ours(corpus, folder, datasets))
        return
    small, pairs, factor = (12, 3, 3) if arguments.quick else (64, 5, 4)
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch), arguments.text, arguments.tokenizer, small, pairs, factor)
    report(figures)
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure(
    scratch: Path, files: list[Path], tokenizer: Path | None, small: int, pairs: int, factor: int
) -> dict[str, Any]:
    seeds = seed_texts(files)
    texts = corpus(seeds, small * 1_000_000)
    folder = tokenizer or train_tokenizer(seeds, scratch / "tokenizer")
    path = write(texts, scratch / "small.jsonl")
    size = sum(len(text.encode()) for text in texts) / 1e6
    times: dict[str, list[float]] = {"rewarm": [], "encode_batch_fast": []}
    for number in range(pairs):
        times["encode_batch_fast"].append(peer(texts, folder))
        times["rewarm"].append(ours(path, folder, scratch / f"datasets-{number}"))
    write(corpus(seeds, factor * small * 1_000_000), scratch / "large.jsonl")
    peaks = {
        f"{megabytes} MB": peak_memory(scratch / f"{name}.jsonl", folder, scratch / f"memory-{name}")
        for name, megabytes in (("small", small), ("large", factor * small))
    }
    speeds = {name: size / statistics.median(seconds) for name, seconds in times.items()}
    return {
        "cores": CORES,
        "machine": platform.processor() or platform.machine(),
        "corpus_mb": round(size, 1),
        "documents": len(texts),
        "text": [file.name for file in files] or ["pydoc_data.topics"],
        "tokenizer": folder.name if tokenizer else "byte-level BPE of 32k trained on the text",
        "seconds": times,
        "mb_per_second": speeds,
        "ratio": speeds["rewarm"] / speeds["encode_batch_fast"],
        "ratio_of_each_pair": [p / o for o, p in zip(times["rewarm"], times["encode_batch_fast"], strict=True)],
        "peak_memory_mb": peaks,
    }


def seed_texts(files: list[Path]) -> list[str]:
    if not files:
        return [text for text in topics.values() if text.strip()]
    return [json.loads(line)["text"] for file in files for line in file.read_text("utf-8").split("\n") if line.strip()]


def corpus(seeds: list[str], size: int) -> list[str]:
    """About ``size`` bytes of documents, no two alike: paragraphs of the seeds in ever new order."""
    dice, texts, total = random.Random(1309), [], 0
    while total < size:
        for seed in dice.sample(seeds, len(seeds)):
            paragraphs = seed.split("\n\n")
            dice.shuffle(paragraphs)
            texts.append(f"{len(texts)}\n\n" + "\n\n".join(paragraphs))
            total += len(texts[-1].encode())
            if total >= size:
                break
    return texts


def write(texts: list[str], path: Path) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    return path


def train_tokenizer(texts: list[str], folder: Path) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=32_000, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return folder


def peer(texts: list[str], folder: Path) -> float:
    """Seconds of ``encode_batch_fast`` on all cores, in batches of 1,000 (one call for all is slower)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    started = time.perf_counter()
    for begin in range(0, len(texts), 1000):
        tokenizer.encode_batch_fast(texts[begin : begin + 1000], add_special_tokens=False)
    return time.perf_counter() - started


def ours(path: Path, folder: Path, datasets: Path) -> float:
    """Seconds of the whole way from jsonl to a finished dataset."""
    from rewarm.data.prepare import build_dataset
    from rewarm.recipe.recipe import Recipe

    source = {"name": "text", "path": str(path)}
    recipe = Recipe.model_validate({"name": "benchmark", "base_model": "none", "data": {"sources": [source]}})
    started = time.perf_counter()
    dataset = build_dataset(recipe, folder, datasets, workers=CORES)
    seconds = time.perf_counter() - started
    entry = dataset.manifest["sources"][0]
    assert entry["documents_in"] == entry["accepted"] + entry["held_out"], "the corpus should hold no duplicates"
    return seconds


def peak_memory(path: Path, folder: Path, datasets: Path) -> float:
    """Peak of the summed resident memory of a process that builds a dataset and of its workers, in MB."""
    command = [sys.executable, __file__, "--build", str(path), str(folder), str(datasets)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, ended = 0, threading.Event()
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [root, *root.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            pass
        ended.wait(0.05)
    if process.returncode:
        raise SystemExit("the run that measures memory failed")
    return round(peak / 1e6)


def report(figures: dict[str, Any]) -> None:
    print(f"{figures['corpus_mb']} MB of {', '.join(figures['text'])}, {figures['documents']} documents")
    print(f"tokenizer: {figures['tokenizer']}; {figures['cores']} cores\n")
    for name, speed in figures["mb_per_second"].items():
        print(f"{name:20} {speed:6.2f} MB/s   (seconds: {', '.join(f'{s:.2f}' for s in figures['seconds'][name])})")
    print(f"{'ratio':20} {figures['ratio']:6.2f}")
    for size, peak in figures["peak_memory_mb"].items():
        print(f"peak memory of ours, {size}: {peak:.0f} MB")


if __name__ == "__main__":
    main()
