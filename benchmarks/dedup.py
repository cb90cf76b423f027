"""Near-duplicate removal: signatures and clusters, from jsonl to who stays, against datatrove's MinHash.

Both read the same jsonl files with as many processes as there are cores, make 14 x 8 signatures of word
5-grams and find the clusters; ours also verifies every pair and starts its processes within the time.
The peer runs with words split at spaces, as ours are, and its candidate clusters are compared with ours before
verification; without --quick it also runs once as it comes, with its own word tokenizer for the language.
The peer needs an environment of its own, named by --peer or REWARM_PEER_DATATROVE:

    pip install datatrove "xxhash<4" orjson regex tokenizers spacy pyvi

    python benchmarks/dedup.py [--quick] [--json [PATH]] [--peer PYTHON] [--text FILE ...] [--language vie]
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
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PASSAGE = 40
"""Words of the corpus that stand as in the text."""
Clusters = list[list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--peer", default=os.environ.get("REWARM_PEER_DATATROVE"), help="python that has datatrove")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="jsonl files with a text field")
    parser.add_argument("--language", default="eng", help="language of the text, for the peer's word tokenizer")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        kind, corpus, folder = arguments.run
        runs: dict[str, Callable[..., Any]] = {"ours": ours, "sign": sign, "peer": peer}
        print(json.dumps(runs[kind](Path(corpus), Path(folder), arguments.language)))
        return
    size, rounds = (8, 1) if arguments.quick else (16, 3)
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch), arguments, size, rounds)
    report(figures)
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure(scratch: Path, arguments: argparse.Namespace, size: int, rounds: int) -> dict[str, Any]:
    folder = scratch / "corpus"
    texts = corpus(arguments.text, size * 1_000_000)
    write(texts, folder)
    write(corpus(arguments.text, 8 * size * 1_000_000), scratch / "large")
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    peers = {"datatrove, words at spaces": "spaces", f"datatrove, its words ({arguments.language})": arguments.language}
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(rounds):
        runs["rewarm"].append(measured(sys.executable, "ours", folder, scratch / f"ours-{number}"))
        for name, words in peers.items() if arguments.peer else ():
            if words != "spaces" and (arguments.quick or number):
                continue  # slow
            runs[name].append(measured(arguments.peer, "peer", folder, scratch / f"{words}-{number}", words))
    large = measured(sys.executable, "ours", scratch / "large", scratch / "ours-large")
    speeds = {name: megabytes / statistics.median(r["seconds"] for r in found) for name, found in runs.items()}
    same = {name: found[0]["clusters"] == runs["rewarm"][0]["clusters"] for name, found in runs.items()}
    return {
        "cores": CORES,
        "machine": platform.processor() or platform.machine(),
        "text": [file.name for file in arguments.text] or ["pydoc_data.topics"],
        "corpus_mb": round(megabytes, 1),
        "documents": len(texts),
        "candidate_clusters": len(runs["rewarm"][0]["clusters"]),
        "removed": runs["rewarm"][0]["removed"],
        "seconds": {name: [r["seconds"] for r in found] for name, found in runs.items()},
        "signature_seconds": {name: [r["signature_seconds"] for r in found] for name, found in runs.items()},
        "mb_per_second": speeds,
        "ratio": {name: speeds["rewarm"] / speed for name, speed in speeds.items() if name != "rewarm"},
        "same_candidate_clusters": {name: equal for name, equal in same.items() if name != "rewarm"},
        "peak_memory_mb": {name: max(r["peak_mb"] for r in found) for name, found in runs.items()},
        "peak_memory_mb_8_times_the_corpus": large["peak_mb"],
        "mb_per_second_8_times_the_corpus": 8 * megabytes / large["seconds"],
    }


# ---- the corpus ----


def corpus(files: list[Path], size: int) -> list[str]:
    """About ``size`` bytes of documents made of passages in ever new order; every fifth is an earlier one, edited."""
    seeds = [json.loads(line)["text"] for file in files for line in file.read_text("utf-8").split("\n") if line.strip()]
    words = [word for text in seeds or topics.values() for word in text.split()]
    dice, texts, total = random.Random(1309), list[str](), 0
    while total < size:
        if len(texts) % 5 == 4:
            document = dice.choice(texts).split()
            for _ in range(dice.randrange(len(document) // 10)):
                document[dice.randrange(len(document))] = dice.choice(words)
        else:
            starts = [dice.randrange(len(words)) for _ in range(dice.randrange(2, 25))]
            document = [word for start in starts for word in words[start : start + PASSAGE]]
        texts.append(" ".join(document))
        total += len(texts[-1].encode())
    return texts


def write(texts: list[str], folder: Path) -> None:
    """One jsonl file a core, each with its share of the documents in a row."""
    folder.mkdir()
    for number in range(CORES):
        share = texts[number * len(texts) // CORES : (number + 1) * len(texts) // CORES]
        with (folder / f"{number:05d}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text, "id": "x"}, ensure_ascii=False) + "\n" for text in share)


# ---- the runs ----


def measured(python: str, kind: str, folder: Path, scratch: Path, language: str = "spaces") -> dict[str, Any]:
    """What a run in a process of its own printed last, with the peak of its tree's summed resident memory."""
    import psutil

    scratch.mkdir()
    command = [python, __file__, "--run", kind, str(folder), str(scratch), "--language", language]
    with (scratch / "out").open("w+") as out, (scratch / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log)
        peak, ended, root = 0, threading.Event(), psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [root, *root.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in family))
            except psutil.NoSuchProcess:
                pass
            ended.wait(0.05)
        if process.returncode:
            raise SystemExit(f"{kind} failed:\n{(scratch / 'log').read_text()[-2000:]}")
        return {**json.loads((scratch / "out").read_text().splitlines()[-1]), "peak_mb": round(peak / 1e6)}


def ours(corpus: Path, folder: Path, language: str) -> dict[str, Any]:
    import numpy as np

    from rewarm.data.near_duplicates import near_duplicates
    from rewarm.recipe.steps import NearDuplicates

    started = time.perf_counter()
    files = sorted(corpus.glob("*.jsonl"))
    command = [sys.executable, __file__, "--run", "sign"]
    workers = [subprocess.Popen([*command, str(file), str(folder)], stdout=subprocess.DEVNULL) for file in files]
    if sum(worker.wait() for worker in workers):
        raise SystemExit("a worker failed")
    signed = time.perf_counter()
    signatures = [folder / f"{file.stem}.minhash" for file in files]
    sizes = np.concatenate([np.fromfile(folder / f"{file.stem}.sizes", np.int64) for file in files])
    kept = near_duplicates(signatures, sizes, NearDuplicates())
    ended = time.perf_counter()
    candidates = near_duplicates(signatures, sizes, NearDuplicates(threshold=0.0))
    return {
        "seconds": ended - started,
        "signature_seconds": signed - started,
        "removed": int((kept != np.arange(len(kept))).sum()),
        "clusters": clusters_of(dict(enumerate(candidates.tolist()))),
    }


def sign(file: Path, folder: Path, language: str) -> None:
    """The signatures of a file, a few megabytes of it at a time."""
    import numpy as np
    import orjson

    from rewarm.data.minhash import signatures
    from rewarm.data.near_duplicates import write_signatures
    from rewarm.recipe.steps import NearDuplicates

    settings, found, sizes = NearDuplicates(), [], []
    with file.open("rb") as lines:
        while batch := lines.readlines(1 << 22):
            texts = [orjson.loads(line)["text"] for line in batch]
            sizes += [len(text) for text in texts]
            found.append(signatures(texts, settings))
    np.array(sizes, np.int64).tofile(folder / f"{file.stem}.sizes")
    write_signatures(folder / f"{file.stem}.minhash", np.concatenate(found), settings)


def clusters_of(owner: dict[int, int]) -> Clusters:
    """The clusters of more than one document, from the cluster of each."""
    members = defaultdict(list)
    for document, cluster in owner.items():
        members[cluster].append(document)
    return sorted(sorted(cluster) for cluster in members.values() if len(cluster) > 1)


def peer(corpus: Path, folder: Path, language: str) -> dict[str, Any]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Spaces(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        sent_tokenize = span_tokenize = word_tokenize  # never called

    signatures, buckets, clusters = (str(folder / name) for name in ("signatures", "buckets", "clusters"))
    words = Spaces() if language == "spaces" else language
    started = time.perf_counter()
    steps = [JsonlReader(str(corpus)), MinhashDedupSignature(signatures, language=words)]
    LocalPipelineExecutor(steps, tasks=CORES, workers=CORES, logging_dir=str(folder / "1")).run()
    signed = time.perf_counter()
    steps = [MinhashDedupBuckets(signatures, buckets)]
    LocalPipelineExecutor(steps, tasks=14, workers=CORES, logging_dir=str(folder / "2")).run()
    steps = [MinhashDedupCluster(buckets, clusters, save_cluster_id=True)]
    LocalPipelineExecutor(steps, tasks=1, logging_dir=str(folder / "3")).run()
    ended = time.perf_counter()
    owner: dict[int, int] = {}
    before = 0
    for file in sorted(corpus.glob("*.jsonl")):
        path = folder / "clusters" / f"{int(file.stem):06d}.clusters"
        data = path.read_bytes() if path.exists() else b""
        pairs = memoryview(data).cast("I").tolist()
        owner.update({before + pairs[i]: pairs[i + 1] for i in range(0, len(pairs), 2)})
        with file.open("rb") as lines:
            before += sum(1 for _ in lines)
    return {"seconds": ended - started, "signature_seconds": signed - started, "clusters": clusters_of(owner)}


def report(figures: dict[str, Any]) -> None:
    print(f"{figures['corpus_mb']} MB of {', '.join(figures['text'])}, {figures['documents']} documents")
    print(f"{figures['candidate_clusters']} candidate clusters, {figures['removed']} documents removed", end="; ")
    print(f"{figures['cores']} cores\n")
    for name, speed in figures["mb_per_second"].items():
        seconds = ", ".join(f"{s:.2f}" for s in figures["seconds"][name])
        print(f"{name:30} {speed:6.2f} MB/s, peak {figures['peak_memory_mb'][name]:5.0f} MB   (seconds: {seconds})")
    for name, ratio in figures["ratio"].items():
        equal = "the same" if figures["same_candidate_clusters"][name] else "other"
        print(f"ratio to {name:21} {ratio:6.2f}   {equal} candidate clusters")
    if not figures["ratio"]:
        print("datatrove: not measured (name a python that has it with --peer)")
    speed, peak = figures["mb_per_second_8_times_the_corpus"], figures["peak_memory_mb_8_times_the_corpus"]
    print(f"rewarm, 8 times the corpus     {speed:6.2f} MB/s, peak {peak:5.0f} MB")


if __name__ == "__main__":
    main()
