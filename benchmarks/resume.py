"""Killed with SIGKILL at random moments and resumed: is the result the same to the last bit, and what does it cost?

Ours: one run is killed again and again, in prepare and in train, resumed each time, and compared with a run that was
left alone: every file of the dataset byte by byte, every loss as a hex float, the published weights by SHA-256. A kill
that came too late for its stage does not count; for prepare, the unfinished state of such an attempt is thrown away.
A last attempt is timed: from its start to the end of its first step, and beyond what a process takes that only
loads (imports, base model, checkpoint with its hashes) and that one step.
The peer, Hugging Face's Trainer, trains the same shape with a checkpoint as often, is killed once and resumed.

    python benchmarks/resume.py [--quick] [--kills N] [--seed S] [--json PATH]
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder: its tokenize.py would hide the standard library's

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from rewarm.core.events import metrics, read_events
from rewarm.core.run import Run, create_run
from rewarm.core.storage import sha256_file
from rewarm.core.workspace import Workspace

RECIPE = """\
name: resumed
base_model: ./model
data:
  sources: [{name: new, path: new.jsonl}]
  replay: {name: old, path: old.jsonl, share: 0.25}
hyperparameters:
  {learning_rate: 1e-3, epochs: 2, batch_size: 2, gradient_accumulation_steps: 2, max_sequence_length: 256,
   logging_steps: -1, checkpoint_strategy: steps, checkpoint_steps: 10, lr_warmup_steps: 4}
infrastructure: {devices: cpu, threads: 1}
evaluation: {max_bytes_per_source: 20000}
"""
WORDS = [f"{a}{b}{c}" for a in ("nh", "tr", "ph", "st", "bl") for b in "aeiou" for c in ("ng", "m", "nd", "ck")]


def make(folder: Path, documents: int) -> None:
    """A tiny Llama with its tokenizer, and two corpora of random words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    draw = random.Random(0)
    for name, count in (("new", documents), ("old", documents // 2)):
        with (folder / f"{name}.jsonl").open("w") as file:
            for _ in range(count):
                file.write(json.dumps({"text": " ".join(draw.choices(WORDS, k=draw.randint(20, 200)))}) + "\n")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    (folder / "recipe.yaml").write_text(RECIPE)


def start(run: Run) -> subprocess.Popen[bytes]:
    with run.log.open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "rewarm.pipeline", str(run.path)], stdout=log, stderr=log)


def new_run(folder: Path, home: str) -> Run:
    return create_run(Workspace(folder / home), "resumed", RECIPE, [], folder)


def facts(run: Run) -> dict[str, Any]:
    """Everything that must be equal."""
    home = run.path.parent.parent
    points = metrics(event for event, _ in read_events(run.events))
    datasets = [path for path in (home / "datasets").rglob("*") if path.is_file() and path.parent.name != "locks"]
    finished = {manifest.parent for manifest in (home / "datasets").glob("*/manifest.json")}
    return {
        "dataset": {
            str(path.relative_to(home)): sha256_file(path)
            for path in datasets
            if any(folder in path.parents for folder in finished)
        },
        "losses": [(step, value.hex()) for step, _, value in points["train/loss"]],
        "weights": sha256_file(run.path / "model" / "model.safetensors"),
    }


def stage_now(run: Run, offset: int) -> tuple[str, bool]:
    """The stage that the newest events name, and whether it has told of any progress in this attempt."""
    stage, moved = "", False
    for event, _ in read_events(run.events, offset):
        if event["stage"] != stage:
            stage, moved = event["stage"], False
        moved = moved or event["kind"] == "metric" or (event["kind"] == "progress" and event.get("total", 0) > 0)
    return stage, moved


def kill_in(run: Run, stage: str, draw: random.Random, most: float) -> bool:
    """Start an attempt and kill it at a random moment of ``stage``; False if it was too quick for us."""
    offset = run.events.stat().st_size if run.events.exists() else 0
    process = start(run)
    while process.poll() is None and stage_now(run, offset)[0] != stage:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, most))
    late = process.poll() is not None or stage_now(run, offset)[0] != stage
    process.send_signal(signal.SIGKILL)
    process.wait()
    return not late


def seconds(run: Run, stage: str) -> float:
    return float(json.loads(run.stage_record(stage).read_text())["seconds"])


def ours(folder: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    alone = new_run(folder, "alone")
    begun = time.perf_counter()
    if start(alone).wait() != 0:
        raise SystemExit(alone.log.read_text())
    whole = time.perf_counter() - begun
    victim = new_run(folder, "victim")
    hits = {"prepare": 0, "train": 0}
    for stage in hits:
        for _ in range(4 * kills):
            if hits[stage] == kills:
                break
            hits[stage] += kill_in(victim, stage, draw, seconds(alone, stage) * (0.8 if stage == "prepare" else 0.1))
            if victim.stage_record("prepare").exists() and stage == "prepare":
                shutil.rmtree(victim.path.parent.parent)  # it was too quick for us: from the beginning again
                victim = new_run(folder, "victim")
            print(f"  killed in {stage}: {hits[stage]}", end="\r", flush=True)
    begun = time.perf_counter()
    if start(victim).wait() != 0:
        raise SystemExit(victim.log.read_text())
    expected, found = facts(alone), facts(victim)
    return {
        "kills": hits,
        "attempts": (victim.process() or {})["attempt"],
        "equal": {name: expected[name] == found[name] for name in expected},
        "losses_compared": len(expected["losses"]),
        "dataset_files_compared": len(expected["dataset"]),
        "seconds_left_alone": round(whole, 1),
        "seconds_of_last_attempt": round(time.perf_counter() - begun, 1),
    }


LOADING = """
import sys, time
from pathlib import Path
from rewarm.core.manifest import verify
from rewarm.pipeline import __main__
from rewarm.models.causal import load_model
from rewarm.models.folder import check_folder
from rewarm.models.pieces import Pieces
from rewarm.data.tokenizer import DocumentTokenizer
check_folder(Path(sys.argv[1]))
load_model(Path(sys.argv[1]))
verify(Path(sys.argv[2]))
for kind in ("model", "optimizer"):
    pieces = Pieces(Path(sys.argv[2]).glob(f"{kind}-rank*.safetensors"))
    for name in pieces.names:
        pieces.read(name)
"""


def resume_seconds(folder: Path) -> dict[str, Any]:
    """What a resumed attempt takes up to the end of its first step; medians of three."""
    whole, loading, steps = [], [], []
    for number in range(3):
        run = new_run(folder, f"timed-{number}")
        process = start(run)
        while not (newest := sorted(run.checkpoints.glob("step-*"))) and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", LOADING, str(folder / "model"), str(newest[-1])], check=True)
        loading.append(time.perf_counter() - begun)
        offset, begun = run.events.stat().st_size, time.time()
        process = start(run)
        points: list[float] = []
        while len(points) < 3 and process.poll() is None:
            time.sleep(0.01)
            points = [event["time"] for event, _ in read_events(run.events, offset) if event["kind"] == "metric"]
        process.kill()
        process.wait()
        whole.append(points[0] - begun)
        steps.append(points[2] - points[1])
    found = {"seconds": whole, "loading": loading, "step": steps}
    medians = {name: round(statistics.median(values), 2) for name, values in found.items()}
    beyond = statistics.median(a - b - c for a, b, c in zip(whole, loading, steps, strict=True))
    return {**medians, "beyond_loading": round(beyond, 2)}


PEER = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
folder, output, resume = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "resume"
torch.set_num_threads(1)
torch.manual_seed(0)
rows = torch.randint(0, 500, (int(sys.argv[4]), 256), generator=torch.Generator().manual_seed(1))
data = [{"input_ids": row, "labels": row} for row in rows]
model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
arguments = TrainingArguments(output, per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=1,
    learning_rate=1e-3, warmup_steps=4, save_steps=10, save_total_limit=2, logging_steps=1, report_to=[], seed=1,
    use_cpu=True, disable_tqdm=True)
trainer = Trainer(model, arguments, train_dataset=data)
trainer.train(resume_from_checkpoint=resume)
curve = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
Path(output, "curve.json").write_text(json.dumps(curve))
"""


def peer(folder: Path, rows: int) -> dict[str, Any]:
    """Hugging Face's Trainer, left alone and killed once at a random checkpoint."""

    def process(output: str, mode: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", PEER, str(folder), str(folder / output), mode, str(rows)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    if process("peer-alone", "start").wait() != 0:
        return {"result": "not measured: the peer failed"}
    victim = process("peer-victim", "start")
    while victim.poll() is None and not (folder / "peer-victim" / "checkpoint-40").is_dir():
        time.sleep(0.01)
    time.sleep(0.3)
    victim.kill()
    victim.wait()
    begun = time.perf_counter()
    code = process("peer-victim", "resume").wait()
    if code != 0:
        return {"kills": 1, "result": f"did not resume (exit {code})"}
    alone, resumed = (json.loads((folder / name / "curve.json").read_text()) for name in ("peer-alone", "peer-victim"))
    return {
        "kills": 1,
        "equal": {"losses": alone == resumed},
        "losses_compared": len(alone),
        "seconds_of_last_attempt": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one kill a stage, a small corpus")
    parser.add_argument("--kills", type=int, default=10, help="kills in each of prepare and train")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    kills, documents = (1, 200) if options.quick else (options.kills, 1200)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, documents)
        found = {
            "seed": options.seed,
            "ours": ours(folder, kills, random.Random(options.seed)),
            "resume_to_first_step": resume_seconds(folder),
            "peer": peer(folder, 320 if options.quick else 960),
        }
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if not all(found["ours"]["equal"].values()):
        raise SystemExit("NOT EQUAL")
    if set(found["ours"]["kills"].values()) != {kills}:
        raise SystemExit("fewer kills than were asked for")


if __name__ == "__main__":
    main()
