"""Tokenize and pack: ``build_dataset``, whole, against what others have for it.

Ours reads jsonl, normalises, hashes, drops duplicates, holds documents out, checks the ids of its fast
library against Hugging Face's, tokenizes in worker processes, writes shards and checks sums. The peers, each
in turn with ours, over the same documents with as many processes or threads:

- ``encode_batch_fast`` of ``tokenizers``, which only encodes: the texts lie in memory already;
- LLaMA-Factory's preprocessing for pretraining, packed, from jsonl to its tokenized dataset;
- datatrove's ``DocumentTokenizer``, from jsonl to its token files, not shuffled.

The last two need environments of their own (``make bench-peers``); without, they are not measured. Time is taken
inside each process from when its libraries are imported. Besides: ours with one tenth of the text in documents of
megabytes, and its peak memory for a corpus four times as large.

    python benchmarks/tokenize.py [--quick] [--json [PATH]] [--megabytes N] [--rounds N]
        [--tokenizer FOLDER] [--text FILE ...]
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
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
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PEERS = Path(__file__).parents[1] / ".peers"
MEGABYTES = 2_000_000
"""Of a very long document."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--tokenizer", type=Path, help="a model folder; without it one is trained on the text")
    parser.add_argument("--rounds", type=int, help="measurements of each (default 3; quick 1)")
    parser.add_argument("--megabytes", type=int, help="of text (default 128; quick 12)")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="jsonl files with a text field")
    for name in ("llamafactory", "datatrove"):
        parser.add_argument(f"--{name}", default=peer_python(name), help=f"python that has {name}")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        kind, *folders = arguments.run
        print(json.dumps(RUNS[kind](*map(Path, folders))))
        return
    size, rounds = (12, 1) if arguments.quick else (128, 3)
    size, rounds = arguments.megabytes or size, arguments.rounds or rounds
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch), arguments, size, rounds)
    report(figures)
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def peer_python(name: str) -> str | None:
    """The interpreter of a peer's environment, where there is one."""
    made = PEERS / name / "bin" / "python"
    return os.environ.get(f"REWARM_PEER_{name.upper()}") or (str(made) if made.exists() else None)


def measure(scratch: Path, arguments: argparse.Namespace, size: int, rounds: int) -> dict[str, Any]:
    seeds = seed_texts(arguments.text)
    folder = arguments.tokenizer or train_tokenizer(seeds, scratch / "tokenizer")
    documents, bytes_ = write(corpus(seeds, size * 1_000_000), scratch / "corpus")
    write(long_documents(seeds, size * 1_000_000), scratch / "long")
    write(corpus(seeds, 4 * size * 1_000_000), scratch / "large")
    pythons = {
        "rewarm": sys.executable,
        "encode_batch_fast": sys.executable,
        "llamafactory": arguments.llamafactory,
        "datatrove": arguments.datatrove,
    }
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(rounds):
        for name, python in pythons.items():
            if python is not None:
                out = scratch / f"{name}-{number}"
                runs[name].append(measured(python, __file__, name, scratch / "corpus", folder, out))
        long = scratch / f"long-{number}"
        runs["long"].append(measured(sys.executable, __file__, "rewarm", scratch / "long", folder, long))
    large = measured(sys.executable, __file__, "rewarm", scratch / "large", folder, scratch / "rewarm-large")
    megabytes = bytes_ / 1e6
    speeds = {name: megabytes / statistics.median(run["seconds"] for run in found) for name, found in runs.items()}
    return {
        "cores": CORES,
        "machine": platform.processor() or platform.machine(),
        "corpus_mb": round(megabytes, 1),
        "documents": documents,
        "text": [file.name for file in arguments.text] or ["pydoc_data.topics"],
        "tokenizer": folder.name if arguments.tokenizer else "byte-level BPE of 32k trained on the text",
        "encoder": runs["rewarm"][0]["encoder"],
        "tokens": runs["rewarm"][0]["tokens"],
        "seconds": {name: [run["seconds"] for run in found] for name, found in runs.items()},
        "mb_per_second": {name: speed for name, speed in speeds.items() if name != "long"},
        "mb_per_second_with_long_documents": speeds["long"],
        "mb_per_second_4_times_the_corpus": 4 * megabytes / large["seconds"],
        "ratio": {name: speeds["rewarm"] / speed for name, speed in speeds.items() if name not in ("rewarm", "long")},
        "not_measured": [name for name, python in pythons.items() if python is None],
        "peak_memory_mb": {name: max(run["peak_mb"] for run in found) for name, found in runs.items()},
        "peak_memory_mb_4_times_the_corpus": large["peak_mb"],
    }


# ---- the corpus ----


def seed_texts(files: list[Path]) -> list[str]:
    if not files:
        return [text for text in topics.values() if text.strip()]
    return [json.loads(line)["text"] for file in files for line in file.read_text("utf-8").split("\n") if line.strip()]


def corpus(seeds: list[str], size: int) -> Iterator[str]:
    """About ``size`` bytes of documents, no two alike: paragraphs of the seeds in ever new order."""
    dice, total, number = random.Random(1309), 0, 0
    while total < size:
        for seed in dice.sample(seeds, len(seeds)):
            paragraphs = seed.split("\n\n")
            dice.shuffle(paragraphs)
            text = f"{number}\n\n" + "\n\n".join(paragraphs)
            yield text
            number, total = number + 1, total + len(text.encode())
            if total >= size:
                break


def long_documents(seeds: list[str], size: int) -> Iterator[str]:
    """The corpus with a tenth of its bytes in documents of ``MEGABYTES``."""
    texts, joined, total = corpus(seeds, size), list[str](), 0
    for text in texts:
        joined.append(text)
        total += len(text.encode())
        if total >= size // 10:
            break
    whole = "\n\n".join(joined)
    count = max(1, total // MEGABYTES)
    yield from (whole[len(whole) * i // count : len(whole) * (i + 1) // count] for i in range(count))
    yield from texts


def write(texts: Iterable[str], folder: Path) -> tuple[int, int]:
    """jsonl files of up to 2,000 documents; how many documents there are, and how many bytes of text."""
    folder.mkdir()
    documents = bytes_ = number = 0
    texts = iter(texts)
    while some := list(islice(texts, 2000)):
        with (folder / f"{number:05d}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in some)
        documents, bytes_ = documents + len(some), bytes_ + sum(len(text.encode()) for text in some)
        number += 1
    return documents, bytes_


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


# ---- the runs: each from a folder of jsonl and a tokenizer's folder to an output folder ----


def measured(python: str, script: str, kind: str, *folders: Path) -> dict[str, Any]:
    """What a run in a process of its own printed last, with the peak of its tree's summed resident memory."""
    import psutil

    out = folders[-1]
    out.mkdir(exist_ok=True)
    with (out / "printed").open("w+") as printed, (out / "log").open("w+") as log:
        process = subprocess.Popen([python, script, "--run", kind, *map(str, folders)], stdout=printed, stderr=log)
        peak, ended, root = 0, threading.Event(), psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [root, *root.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in family))
            except psutil.NoSuchProcess:
                pass
            ended.wait(0.05)
        if process.returncode:
            raise SystemExit(f"{kind} failed:\n{(out / 'log').read_text()[-2000:]}")
        return {**json.loads((out / "printed").read_text().splitlines()[-1]), "peak_mb": round(peak / 1e6)}


def rewarm(texts: Path, folder: Path, out: Path) -> dict[str, Any]:
    from rewarm.data.prepare import build_dataset
    from rewarm.recipe.recipe import Recipe

    source = {"name": "text", "path": str(texts)}
    recipe = Recipe.model_validate({"name": "benchmark", "base_model": "none", "data": {"sources": [source]}})
    started = time.perf_counter()
    dataset = build_dataset(recipe, folder, out / "datasets", workers=CORES)
    seconds = time.perf_counter() - started
    entry = dataset.manifest["sources"][0]
    assert entry["documents_in"] == entry["accepted"] + entry["held_out"], "the corpus should hold no duplicates"
    tokens = entry["tokens"] + entry["held_out_tokens"]
    return {"seconds": seconds, "tokens": tokens, "encoder": dataset.manifest["encoder"]}


def encode_batch_fast(texts: Path, folder: Path, out: Path) -> dict[str, Any]:
    """On all cores, in batches of 1,000 (one call for all is slower)."""
    from tokenizers import Tokenizer

    loaded = [json.loads(line)["text"] for file in sorted(texts.iterdir()) for line in file.open(encoding="utf-8")]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    started = time.perf_counter()
    for begin in range(0, len(loaded), 1000):
        tokenizer.encode_batch_fast(loaded[begin : begin + 1000], add_special_tokens=False)
    return {"seconds": time.perf_counter() - started}


def llamafactory(texts: Path, folder: Path, out: Path) -> dict[str, Any]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "hub"), "DISABLE_VERSION_CHECK": "1"}
    os.environ.update(offline)
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    (out / "data").mkdir()
    described = {"text": {"file_name": str(texts), "columns": {"prompt": "text"}}}
    (out / "data" / "dataset_info.json").write_text(json.dumps(described))
    given = {
        "stage": "pt", "do_train": True, "model_name_or_path": str(folder), "template": "default", "dataset": "text",
        "dataset_dir": str(out / "data"), "tokenized_path": str(out / "tokenized"), "output_dir": str(out / "run"),
        "cutoff_len": 2048, "packing": True, "preprocessing_num_workers": CORES, "report_to": "none", "use_cpu": True,
    }  # fmt: skip
    model, data, training, _, _ = get_train_args(given)
    started = time.perf_counter()
    loaded = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], data)
    get_dataset(template, model, data, training, stage="pt", **loaded)
    return {"seconds": time.perf_counter() - started}


def datatrove(texts: Path, folder: Path, out: Path) -> dict[str, Any]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    started = time.perf_counter()
    tokens = DocumentTokenizer(str(out / "tokens"), str(folder / "tokenizer.json"), shuffle_documents=False)
    steps = [JsonlReader(str(texts)), tokens]
    LocalPipelineExecutor(steps, tasks=CORES, workers=CORES, logging_dir=str(out / "logs")).run()
    return {"seconds": time.perf_counter() - started}


RUNS: dict[str, Callable[..., dict[str, Any]]] = {
    "rewarm": rewarm,
    "encode_batch_fast": encode_batch_fast,
    "llamafactory": llamafactory,
    "datatrove": datatrove,
}


def report(figures: dict[str, Any]) -> None:
    print(f"{figures['corpus_mb']} MB of {', '.join(figures['text'])}, {figures['documents']} documents")
    print(f"tokenizer: {figures['tokenizer']}; encoded with {figures['encoder']}; {figures['cores']} cores\n")
    for name, speed in figures["mb_per_second"].items():
        seconds = ", ".join(f"{s:.2f}" for s in figures["seconds"][name])
        ratio = f"ratio {figures['ratio'][name]:6.2f}" if name in figures["ratio"] else " " * 12
        print(f"{name:20} {speed:6.2f} MB/s   {ratio}   peak {figures['peak_memory_mb'][name]:5.0f} MB", end="")
        print(f"   (seconds: {seconds})")
    for name in figures["not_measured"]:
        print(f"{name:20} not measured (make bench-peers)")
    print(f"rewarm, a tenth in documents of megabytes: {figures['mb_per_second_with_long_documents']:.2f} MB/s", end="")
    print(f", peak {figures['peak_memory_mb']['long']} MB")
    print(f"rewarm, 4 times the corpus: {figures['mb_per_second_4_times_the_corpus']:.2f} MB/s", end="")
    print(f", peak {figures['peak_memory_mb_4_times_the_corpus']} MB")


if __name__ == "__main__":
    main()
