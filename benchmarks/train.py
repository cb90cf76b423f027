"""Training speed and peak memory on a CPU: our loop against Hugging Face's Trainer.

Both train the same random Llama (the shape of SmolLM2-135M, or one of 13M parameters) on the same tokens: rows
of 2,048 packed from whole documents, one row a step, fp32 or bf16 autocast, AdamW, the same threads. The Trainer
runs twice: (a) with documents masked, as ours does, which transformers' sdpa path does from ``position_ids``
through a dense mask; (b) unmasked, as plain packing. Each measurement is a process of its own; the three take
turns, so that a machine that grows slower slows all three; the ratio is the median over the rounds.

    python benchmarks/train.py [--quick] [--json [PATH]] [--shape 13M] [--precision bf16]
        [--rounds N] [--steps N] [--threads N]
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder: its tokenize.py would hide the standard library's

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

KINDS = ("ours", "trainer_masked", "trainer_unmasked")
WARM_UP = 1  # steps that are not timed
SEED = 1309
SHAPES: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "13M": {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 32768,
    },
}
WANTED = {"trainer_masked": 2.0, "trainer_unmasked": 0.95}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the 13M shape and one round: under a minute")
    parser.add_argument("--shape", choices=SHAPES, help="default SmolLM2-135M")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of both sides")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, help="measurements of each (default 5; quick 1)")
    parser.add_argument("--steps", type=int, help="timed steps of each measurement (default 3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--document-tokens", type=int, default=512, help="mean length (default 512; log-normal)")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    steps = (arguments.steps or 3) + WARM_UP
    if arguments.child:
        kind, folder = arguments.child
        print(json.dumps(measure(kind, Path(folder), steps, arguments.threads, arguments.precision)))
        return
    shape = arguments.shape or ("13M" if arguments.quick else "SmolLM2-135M")
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), SHAPES[shape], steps, arguments.document_tokens)
        figures = run_rounds(Path(scratch), rounds, steps, arguments.threads, arguments.precision)
    figures |= {"document_tokens": arguments.document_tokens, "precision": arguments.precision}
    figures |= {"shape": shape, "threads": arguments.threads, "rounds": rounds, "steps": steps - WARM_UP}
    report(figures)
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def prepare(scratch: Path, shape: dict[str, Any], steps: int, document_tokens: int) -> None:
    """A random model with a tokenizer, and a dataset of ``steps`` rows of documents of mixed lengths."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from rewarm.data.prepare import build_dataset
    from rewarm.recipe.recipe import Recipe

    words = {f"w{number}": number for number in range(shape["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w1").save_pretrained(scratch / "model")
    torch.manual_seed(SEED)
    config = LlamaConfig(**shape, tie_word_embeddings=True, max_position_embeddings=8192, eos_token_id=1)
    LlamaForCausalLM(config).save_pretrained(scratch / "model")

    draw = random.Random(SEED)
    left, lines = steps * 2048 * 1.3, []
    while left > 0:
        length = max(16, round(draw.lognormvariate(math.log(document_tokens) - 0.8**2 / 2, 0.8)))
        text = " ".join(f"w{draw.randrange(2, shape['vocab_size'])}" for _ in range(length))
        lines.append(json.dumps({"text": text}))
        left -= length
    (scratch / "text.jsonl").write_text("\n".join(lines) + "\n")
    recipe = Recipe.model_validate(
        {
            "name": "speed",
            "base_model": str(scratch / "model"),
            "data": {"sources": [{"name": "text", "path": str(scratch / "text.jsonl")}]},
        }
    )
    dataset = build_dataset(recipe, scratch / "model", scratch / "datasets", workers=1)
    (scratch / "dataset.txt").write_text(str(dataset.path))


def run_rounds(scratch: Path, rounds: int, steps: int, threads: int, precision: str) -> dict[str, Any]:
    """Each kind once a round, in an order that rotates."""
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for place in range(len(KINDS)):
            kind = KINDS[(number + place) % len(KINDS)]
            results[kind].append(run_child(kind, scratch, steps, threads, precision))
            last = results[kind][-1]
            print(
                f"round {number + 1}/{rounds} {kind:17} {last['tokens_per_second']:8.1f} tokens/s, "
                f"{last['processor_seconds_per_step']:.2f} s of processor a step, {last['peak_mb']:.0f} MB, "
                f"first loss {last['first_loss']:.4f}",
                file=sys.stderr,
            )
    return {kind: summary(runs, results["ours"]) for kind, runs in results.items()}


def run_child(kind: str, scratch: Path, steps: int, threads: int, precision: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", kind, str(scratch), "--threads", str(threads)]
    command += ["--precision", precision]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
    done = subprocess.run(
        [*command, "--steps", str(steps - WARM_UP)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def summary(runs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    speeds = [run["tokens_per_second"] for run in runs]
    ratios = [mine["tokens_per_second"] / run["tokens_per_second"] for mine, run in zip(ours, runs, strict=True)]
    return {
        "tokens_per_second": statistics.median(speeds),
        "processor_seconds_per_step": statistics.median(run["processor_seconds_per_step"] for run in runs),
        "peak_mb": statistics.median(run["peak_mb"] for run in runs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "first_loss": runs[0]["first_loss"],
        "last_loss": runs[0]["last_loss"],
        "runs": runs,
    }


# -- in the child -----------------------------------------------------------------------------------------------


def measure(kind: str, folder: Path, steps: int, threads: int, precision: str) -> dict[str, Any]:
    """Train ``steps`` steps; speed over those behind the warm-up, peak resident memory of the whole process."""
    import torch

    torch.set_num_threads(threads)
    marks: list[tuple[float, float]] = []  # clock and processor time after each step
    if kind == "ours":
        losses = train_ours(folder, steps, threads, precision, marks)
    else:
        losses = train_peer(kind, folder, steps, precision, marks)
    timed = len(marks) - WARM_UP
    seconds, busy = (last - first for first, last in zip(marks[WARM_UP - 1], marks[-1], strict=True))
    return {
        "tokens_per_second": timed * 2048 / seconds,
        "processor_seconds_per_step": busy / timed,
        "peak_mb": peak_mb(),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def batches_of(folder: Path) -> Any:
    """The rows that both train on."""
    from rewarm.data.batches import Batches
    from rewarm.data.dataset import Dataset
    from rewarm.data.plan import Plan
    from rewarm.recipe.mixture import Mixture

    dataset = Dataset.open(Path((folder / "dataset.txt").read_text()))
    return Batches(Plan(dataset, Mixture({"text": dataset.sources["text"].tokens}), 1, 2048, SEED), 1, 1)


def train_ours(folder: Path, steps: int, threads: int, precision: str, marks: list[tuple[float, float]]) -> list[float]:
    """The loop as it is, with its loader, its events and its checkpoint at the end."""
    from rewarm.core.events import EventLog, metrics, read_events
    from rewarm.recipe.hyperparameters import Hyperparameters
    from rewarm.train.loop import Job, train

    def stop() -> bool:  # asked after each step
        marks.append((time.perf_counter(), time.process_time()))
        return len(marks) == steps

    run = Path(tempfile.mkdtemp(dir=folder))
    plan = batches_of(folder).plan
    given = Hyperparameters(
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        gradient_accumulation_steps=1,
        mixed_precision="bf16" if precision == "bf16" else "none",
        finetuning_type="full",
        disable_gradient_checkpointing=True,
        checkpoint_strategy="no",
        eval_strategy="no",
        logging_steps=1,
    )
    log = EventLog(run / "events.jsonl", 1)
    train(Job(run, plan.dataset, plan, given, folder / "model", log, threads=threads, stop=stop))
    points = metrics(event for event, _ in read_events(run / "events.jsonl"))
    return [loss for _, _, loss in points["train/loss"]]


def train_peer(kind: str, folder: Path, steps: int, precision: str, marks: list[tuple[float, float]]) -> list[float]:
    """Hugging Face's Trainer on the same rows, with the same targets where documents are masked."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    masked = kind == "trainer_masked"
    batches = batches_of(folder)
    rows = []
    for step in range(steps):
        (row,) = batches.read(step).micro_batches
        one = {"input_ids": row.input_ids, "labels": row.input_ids}
        if masked:
            one |= {"position_ids": row.position_ids, "shift_labels": row.targets}
        rows.append({name: torch.from_numpy(value)[None] for name, value in one.items()})

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="sdpa")
    if masked:
        assert_masked(model)

    class Marks(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.perf_counter(), time.process_time()))

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(dir=folder),
        per_device_train_batch_size=1,
        max_steps=steps,
        optim="adamw_torch_fused",
        learning_rate=1e-4,
        adam_beta2=0.95,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=precision == "bf16",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=SEED,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=lambda items: items[0],
        callbacks=[Marks()],
    )
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(rows)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_masked(model: Any) -> None:
    """A document's logits must not change with the document before it."""
    import torch

    ids = torch.arange(2, 42)[None]
    other = ids.clone()
    other[0, :20] += 50
    positions = torch.cat([torch.arange(20), torch.arange(20)])[None]
    with torch.no_grad():
        one, two = (model(input_ids=x, position_ids=positions, use_cache=False).logits for x in (ids, other))
    if not torch.allclose(one[0, 20:], two[0, 20:], atol=1e-5) or torch.allclose(one[0, :20], two[0, :20]):
        raise SystemExit("the peer does not mask documents: there is nothing to compare with")


# -- the table --------------------------------------------------------------------------------------------------


def report(figures: dict[str, Any]) -> None:
    """Print what was measured."""
    ours = figures["ours"]
    print(
        f"{figures['shape']}, {figures['precision']}, sequence 2048, 1 row a step, "
        f"documents of {figures['document_tokens']} tokens on average, {figures['threads']} threads, "
        f"{figures['steps']} steps, {figures['rounds']} rounds in turn, {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print(f"{'':34}{'tokens/s':>10}{'peak MB':>10}{'ours is':>10}{'wanted':>9}{'first loss':>13}")
    print(f"{'Rewarm, documents masked':34}{ours['tokens_per_second']:10.1f}{ours['peak_mb']:10.0f}", end="")
    print(f"{'':19}{ours['first_loss']:13.4f}")
    for kind, words in (
        ("trainer_masked", "(a) HF Trainer, documents masked"),
        ("trainer_unmasked", "(b) HF Trainer, unmasked packing"),
    ):
        peer = figures[kind]
        print(
            f"{words:34}{peer['tokens_per_second']:10.1f}{peer['peak_mb']:10.0f}{peer['ratio']:9.2f}x"
            f"{WANTED[kind]:8.2f}x{peer['first_loss']:13.4f}"
        )
    falls = [
        f"{kind}: {problem}"
        for kind, wanted in WANTED.items()
        for problem, bad in (
            (f"{figures[kind]['ratio']:.2f}x is below {wanted}x", figures[kind]["ratio"] < wanted),
            ("peak memory is not lower", ours["peak_mb"] >= figures[kind]["peak_mb"]),
        )
        if bad
    ]
    gap = abs(ours["first_loss"] - figures["trainer_masked"]["first_loss"])
    if gap > 1e-3:
        falls.append(f"the first losses of ours and (a) differ by {gap:.4f}: they do not compute the same")
    print("\n" + ("falls short: " + "; ".join(falls) if falls else "all reached"))


if __name__ == "__main__":
    main()
