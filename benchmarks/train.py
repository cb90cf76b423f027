"""Training speed and peak memory on a CPU: our loop against Hugging Face's Trainer and LLaMA-Factory's ``stage: pt``.

All train the same random Llama (the shape of SmolLM2-135M, or one of 13M parameters) on the same tokens: rows
of 2,048 packed from whole documents, one row a step, fp32 or bf16 autocast, AdamW, the same threads. The Trainer
runs twice: (a) with documents masked, as ours does, which transformers' sdpa path does from ``position_ids``
through a dense mask; (b) unmasked, as plain packing. LLaMA-Factory packs unmasked, once with (c) gradient
checkpointing off and once with (d) its default, on; each is compared with ours at the same setting. Each measurement
is a process of its own; they take turns, so that a machine that grows slower slows all; the ratio is the median
over the rounds. Beside them: what the machine's matrix products of this model's own shapes allow, two processes
against two threads and one, what checkpoints cost, and the memory of the loss at a vocabulary of 128k.

    python benchmarks/train.py [--quick] [--json [PATH]] [--shape 13M] [--precision bf16]
        [--rounds N] [--steps N] [--threads N] [--llamafactory PYTHON]
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
from typing import Any, NamedTuple

PEERS = Path(__file__).parents[1] / ".peers"
WARM_UP = 1  # steps that are not timed
LENGTH = 2048
SEED = 1309
INTERVAL = 1000  # updates between two checkpoints, the default
Marks = list[tuple[float, float]]
"""Clock and processor time after each step."""
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


class Kind(NamedTuple):
    """Something to measure; a peer is compared with ``ours`` and should be so many times slower."""

    words: str
    ours: str | None = None
    wanted: float = 0.0


KINDS = {
    "ours": Kind("Rewarm, documents masked"),
    "trainer_masked": Kind("(a) HF Trainer, documents masked", "ours", 2.0),
    "trainer_unmasked": Kind("(b) HF Trainer, unmasked packing", "ours", 1.2),
    "llamafactory": Kind("(c) LLaMA-Factory, unmasked packing", "ours", 1.2),
    "ours_recomputing": Kind("Rewarm, gradient checkpointing"),
    "llamafactory_recomputing": Kind("(d) LLaMA-Factory as it comes, gradient checkpointing", "ours_recomputing", 1.2),
}
LOSSES = {"chunked": 16384, "chunked_few": 4096, "full_logits_few": 4096}
"""Tokens at a vocabulary of 128,256; full logits of all of them would take more than this machine has."""
SCALING = {"one_thread": (1, 1), "two_threads": (1, 2), "two_ranks": (2, 1)}
"""Processes and the threads of each; an update has two rows in all of them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the 13M shape and one round: some minutes")
    parser.add_argument("--shape", choices=SHAPES, help="default SmolLM2-135M")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of all")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, help="measurements of each (default 5; quick 1)")
    parser.add_argument("--steps", type=int, help="timed steps of each measurement (default 3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--document-tokens", type=int, default=512, help="mean length (default 512; log-normal)")
    parser.add_argument("--llamafactory", default=peer_python("llamafactory"), help="python that has llamafactory")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or 3
    if arguments.child:
        print(json.dumps(measure(arguments)))
        return
    arguments.shape = arguments.shape or ("13M" if arguments.quick else "SmolLM2-135M")
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    names = ("document_tokens", "precision", "shape", "threads", "rounds", "steps")
    figures = {name: getattr(arguments, name) for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), SHAPES[arguments.shape], arguments.steps + WARM_UP, arguments.document_tokens)
        figures |= run_rounds(Path(scratch), arguments)
    report(figures)
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def peer_python(name: str) -> str | None:
    """The interpreter of a peer's environment, where there is one."""
    made = PEERS / name / "bin" / "python"
    return os.environ.get(f"REWARM_PEER_{name.upper()}") or (str(made) if made.exists() else None)


def prepare(scratch: Path, shape: dict[str, Any], steps: int, document_tokens: int) -> None:
    """A random model with a tokenizer, a dataset of two rows a step of documents of mixed lengths, and the rows."""
    import numpy
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
    left, lines = 2 * steps * LENGTH * 1.3, []
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
    batches = batches_of(scratch)
    rows = [batches.read(step).micro_batches[0].input_ids for step in range(steps)]
    width = min(map(len, rows))  # some are a token longer
    numpy.save(scratch / "rows.npy", numpy.stack([row[:width] for row in rows]))  # for a peer that cannot read ours


def run_rounds(scratch: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Each kind once a round, in an order that rotates; the rest once in each of three rounds at most."""
    kinds = [kind for kind in KINDS if given.llamafactory or not kind.startswith("llamafactory")]
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(given.rounds):
        turns = kinds[number % len(kinds) :] + kinds[: number % len(kinds)]
        for kind in [*turns, "products", *(SCALING if number < 3 else ())]:
            found.setdefault(kind, []).append(run_child(kind, scratch, given))
            say(f"round {number + 1}/{given.rounds}", kind, found[kind][-1])
    shapes = dict.fromkeys(("13M", given.shape))
    stalls = {}
    for shape in shapes:
        folder = scratch if shape == given.shape else scratch / shape
        if folder != scratch:
            prepare(folder, SHAPES[shape], 2 * given.steps, given.document_tokens)
        stalls[shape] = run_child("checkpoints", folder, given)
        say("", f"checkpoints {shape}", stalls[shape])
    losses = {kind: run_child(kind, scratch, given) for kind in LOSSES}
    say("", "loss", {kind: loss["megabytes"] for kind, loss in losses.items()})
    return {
        "losses": losses,
        "kinds": {kind: summary(kind, found) for kind in kinds},
        "not_measured": [kind for kind in KINDS if kind not in kinds],
        "products": medians(found["products"]),
        "scaling": {kind: medians(found[kind]) for kind in SCALING},
        "checkpoints": stalls,
    }


def say(when: str, kind: str, result: dict[str, Any]) -> None:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in result.items() if isinstance(value, int | float))
    print(f"{when} {kind:24} {shown}", file=sys.stderr)


def run_child(kind: str, scratch: Path, given: argparse.Namespace, **environment: str) -> dict[str, Any]:
    python = given.llamafactory if kind.startswith("llamafactory") else sys.executable
    threads = SCALING[kind][1] if kind in SCALING else 1 if kind == "rank" else given.threads
    command = [python, __file__, "--child", kind, str(scratch), "--threads", str(threads)]
    command += ["--precision", given.precision, "--steps", str(given.steps)]
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0", "DISABLE_VERSION_CHECK": "1"}
    environment = os.environ | quiet | {"OMP_NUM_THREADS": str(threads)} | environment
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def summary(kind: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The medians of a kind, and how many times as fast ours is, round by round."""
    result = medians(found[kind])
    if ours := KINDS[kind].ours:
        speeds = [[run["tokens_per_second"] for run in found[name]] for name in (ours, kind)]
        ratios = [mine / theirs for mine, theirs in zip(*speeds, strict=True)]
        result |= {"ratio": statistics.median(ratios), "ratios": ratios}
    return result


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {**{name: statistics.median(run[name] for run in runs) for name in runs[0]}, "runs": runs}


# -- in the child -----------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Train; speed over the steps behind the warm-up, peak resident memory of the whole process."""
    kind, folder = given.child[0], Path(given.child[1])
    if kind == "two_ranks":
        return measure_ranks(folder, given)
    import torch

    torch.set_num_threads(given.threads)
    if kind == "products":
        return measure_products(folder, given.precision)
    if kind in LOSSES:
        return measure_loss(kind, LOSSES[kind])
    if kind == "checkpoints":
        return measure_checkpoints(folder, given)
    steps, marks, rows = given.steps + WARM_UP, Marks(), 2 if kind in SCALING or kind == "rank" else 1
    if kind.startswith("llamafactory"):
        losses = train_llamafactory(kind, folder, steps, given.precision, marks)
    elif kind.startswith("trainer"):
        losses = train_trainer(kind, folder, steps, given.precision, marks)
    else:
        changes = {"disable_gradient_checkpointing": kind != "ours_recomputing", "gradient_accumulation_steps": rows}
        losses = train_ours(folder, steps, given, marks, in_ranks=kind == "rank", **changes)
    timed = len(marks) - WARM_UP
    seconds, busy = (last - first for first, last in zip(marks[WARM_UP - 1], marks[-1], strict=True))
    return {
        "tokens_per_second": timed * rows * tokens_of_row(folder) / seconds,
        "processor_seconds_per_step": busy / timed,
        "peak_mb": peak_mb(),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def measure_ranks(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Two processes that train together; speed and losses are those of the first, memory that of both."""
    from concurrent.futures import ThreadPoolExecutor

    store = str(Path(tempfile.mkdtemp(dir=folder)) / "meeting")
    size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MEETING": store}
    with ThreadPoolExecutor(2) as pool:
        ranks = [pool.submit(run_child, "rank", folder, given, **size, RANK=n, LOCAL_RANK=n) for n in ("0", "1")]
        first, second = (rank.result() for rank in ranks)
    return first | {"peak_mb": first["peak_mb"] + second["peak_mb"]}


def measure_products(folder: Path, precision: str) -> dict[str, Any]:
    """Tokens per second where a step were nothing but the products of this model's own matrices, forward and back.

    (N, in) @ (in, out), and the two of the same size for the gradients, at the speed that ``torch.mm`` has here.
    """
    import torch

    shape = json.loads((folder / "model" / "config.json").read_text())
    hidden, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    keys = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    sides = [(hidden, hidden)] * 2 + [(hidden, keys)] * 2 + [(hidden, inner)] * 2 + [(inner, hidden)]
    counts = {side: layers * sides.count(side) for side in sides} | {(hidden, shape["vocab_size"]): 1}
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    length, seconds, flops = tokens_of_row(folder), 0.0, 0.0
    for (width, out), count in counts.items():
        x, w, g = (torch.randn(*side, dtype=dtype) for side in ((length, width), (out, width), (length, out)))
        y, dx, dw = torch.empty_like(g), torch.empty_like(x), torch.empty_like(w)
        for a, b, into in ((x, w.T, y), (g, w, dx), (g.T, x, dw)):
            taken = []
            for _ in range(7):
                began = time.perf_counter()
                torch.mm(a, b, out=into)
                taken.append(time.perf_counter() - began)
            seconds += count * statistics.median(taken)
            flops += count * 2.0 * length * width * out
    return {"tokens_per_second": length / seconds, "gflops_per_second": flops / seconds / 1e9}


def measure_loss(kind: str, tokens: int) -> dict[str, Any]:
    """Peak memory of a loss and its backward pass, beside the gradients that any would leave behind."""
    import torch

    from rewarm.models.loss import Head, linear_cross_entropy_sum

    hidden = torch.randn(tokens, 64, requires_grad=True)
    weight = torch.randn(128256, 64).mul_(0.02).requires_grad_()
    targets = torch.randint(0, len(weight), (tokens,))
    left = 4 * (hidden.numel() + weight.numel())
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_mb()
    if kind.startswith("chunked"):
        loss = linear_cross_entropy_sum(hidden, Head(weight), targets)
    else:
        loss = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    loss.backward()
    megabytes = peak_mb() - before - left / 2**20
    return {"tokens": tokens, "megabytes": megabytes, "logits_megabytes": 4 * tokens * len(weight) / 2**20}


def measure_checkpoints(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What a step waits for a checkpoint, and the steps beside which it is written take longer."""
    from rewarm.core.events import read_events

    marks, steps = Marks(), 2 * given.steps
    run = Path(tempfile.mkdtemp(dir=folder))
    changes = {"checkpoint_strategy": "steps", "checkpoint_steps": given.steps, "logging_steps": 1}
    train_ours(folder, steps, given, marks, run=run, **changes)
    events = [event for event, _ in read_events(run / "events.jsonl")]
    steps_taken = [event["values"]["perf/step_seconds"] for event in events if event["kind"] == "metric"]
    first = next(event for event in events if event["kind"] == "checkpoint")
    alone = statistics.median(steps_taken[WARM_UP : given.steps])
    beside = sum(steps_taken[given.steps :]) - (steps - given.steps) * alone
    return {
        "megabytes": first["bytes"] / 1e6,
        "stalled_seconds": first["stalled"],
        "written_in_seconds": first["seconds"],
        "step_seconds": alone,
        "slower_beside_it_seconds": beside,
        "stall_share_at_default_interval": first["stalled"] / (INTERVAL * alone),
        "whole_share_at_default_interval": (first["stalled"] + max(0.0, beside)) / (INTERVAL * alone),
    }


def tokens_of_row(folder: Path) -> int:
    """A little below the sequence length: rows are all equally long."""
    import numpy

    return int(numpy.load(folder / "rows.npy", mmap_mode="r").shape[1])


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def batches_of(folder: Path) -> Any:
    """The rows that all train on."""
    from rewarm.data.batches import Batches
    from rewarm.data.dataset import Dataset
    from rewarm.data.plan import Plan
    from rewarm.recipe.mixture import Mixture

    dataset = Dataset.open(Path((folder / "dataset.txt").read_text()))
    return Batches(Plan(dataset, Mixture({"text": dataset.sources["text"].tokens}), 1, LENGTH, SEED), 1, 1)


def train_ours(
    folder: Path,
    steps: int,
    options: argparse.Namespace,
    marks: Marks,
    run: Path | None = None,
    in_ranks: bool = False,
    **changes: Any,
) -> list[float]:
    """The loop as it is, with its loader, its events and its checkpoint at the end."""
    import contextlib

    from rewarm.core.events import EventLog, metrics, read_events
    from rewarm.recipe.hyperparameters import Hyperparameters
    from rewarm.train.loop import Job, train
    from rewarm.train.parallel import joined, meeting

    def stop() -> bool:  # asked after each step
        marks.append((time.perf_counter(), time.process_time()))
        return len(marks) == steps

    place = Path(os.environ["MEETING"]) if in_ranks else None
    run = run or (place.parent if place else Path(tempfile.mkdtemp(dir=folder)))
    plan = batches_of(folder).plan
    values = {
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "gradient_accumulation_steps": 1,
        "mixed_precision": "bf16" if options.precision == "bf16" else "none",
        "finetuning_type": "full",
        "disable_gradient_checkpointing": True,
        "checkpoint_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 1,
        **changes,
    }
    values |= {"gradient_accumulation_steps": 1, "distributed_backend": "ddp"} if in_ranks else {}
    log = EventLog(run / "events.jsonl", 1, silent=os.environ.get("RANK", "0") != "0")
    with joined("cpu", meeting(place)) if place else contextlib.nullcontext():
        given = Hyperparameters.model_validate(values)
        train(Job(run, plan.dataset, plan, given, folder / "model", log, threads=options.threads, stop=stop))
    points = metrics(event for event, _ in read_events(run / "events.jsonl"))
    return [loss for _, _, loss in points["train/loss"]]


def train_trainer(kind: str, folder: Path, steps: int, precision: str, marks: Marks) -> list[float]:
    """Hugging Face's Trainer on the same rows, with the same targets where documents are masked."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

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
    arguments = TrainingArguments(
        **alike(folder, steps, precision),
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=lambda items: items[0],
        callbacks=[marker(marks)],
    )
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(rows)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def alike(folder: Path, steps: int, precision: str) -> dict[str, Any]:
    """What Hugging Face's Trainer is told so that it does what ours does, by itself and inside LLaMA-Factory."""
    return {
        "output_dir": tempfile.mkdtemp(dir=folder),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "max_steps": steps,
        "optim": "adamw_torch_fused",
        "learning_rate": 1e-4,
        "adam_beta2": 0.95,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": precision == "bf16",
        "seed": SEED,
    }


def marker(marks: Marks) -> Any:
    """A callback that notes the clock after each step."""
    from transformers import TrainerCallback

    class Marker(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.perf_counter(), time.process_time()))

    return Marker()


def train_llamafactory(kind: str, folder: Path, steps: int, precision: str, marks: Marks) -> list[float]:
    """LLaMA-Factory's ``stage: pt``, by a settings file of its own, on the same rows as it would have packed them."""
    import numpy
    import yaml
    from datasets import Dataset, DatasetDict
    from llamafactory.hparams import get_train_args
    from llamafactory.train.pt.workflow import run_pt

    rows = numpy.load(folder / "rows.npy")[:steps].tolist()
    ones = [[1] * len(row) for row in rows]
    tokenized = Path(tempfile.mkdtemp(dir=folder)) / "tokenized"
    DatasetDict(train=Dataset.from_dict({"input_ids": rows, "attention_mask": ones})).save_to_disk(tokenized)
    settings = folder / f"{kind}.yaml"
    settings.write_text(
        yaml.safe_dump(
            {
                "stage": "pt",
                "do_train": True,
                "finetuning_type": "full",
                "model_name_or_path": str(folder / "model"),
                "template": "default",
                "dataset": "text",
                "tokenized_path": str(tokenized),
                "cutoff_len": LENGTH,
                "packing": True,
                "disable_shuffling": True,
                **({} if kind.endswith("recomputing") else {"disable_gradient_checkpointing": True}),
                **alike(folder, steps, precision),
            }
        )
    )
    model, data, training, finetuning, _ = get_train_args(yaml.safe_load(settings.read_text()))
    run_pt(model, data, training, finetuning, callbacks=[marker(marks)])
    state = json.loads((Path(training.output_dir) / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


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
    kinds, limit = figures["kinds"], figures["products"]
    print(
        f"{figures['shape']}, {figures['precision']}, sequence {LENGTH}, 1 row a step, "
        f"documents of {figures['document_tokens']} tokens on average, {figures['threads']} threads, "
        f"{figures['steps']} steps, {figures['rounds']} rounds in turn, {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print(f"{'':54}{'tokens/s':>10}{'of limit':>10}{'peak MB':>10}{'ours is':>10}{'wanted':>9}{'first loss':>13}")
    for kind, about in KINDS.items():
        if kind not in kinds:
            print(f"{about.words:54} not measured")
            continue
        one = kinds[kind]
        share = one["tokens_per_second"] / limit["tokens_per_second"]
        against = f"{one['ratio']:9.2f}x{about.wanted:8.2f}x" if about.ours else f"{'':19}"
        print(
            f"{about.words:54}{one['tokens_per_second']:10.1f}{share:10.0%}{one['peak_mb']:10.0f}{against}"
            f"{one['first_loss']:13.4f}"
        )
    print(f"\nlimit: {limit['tokens_per_second']:.1f} tokens/s, the products of the model's own matrices and no more,")
    print(f"measured in this run at {limit['gflops_per_second']:.0f} GFLOP/s; recomputing does a third more of them")
    report_scaling(figures["scaling"])
    for shape, cost in figures["checkpoints"].items():
        print(
            f"checkpoint of {shape}, {cost['megabytes']:.0f} MB: steps wait {cost['stalled_seconds']:.3f} s for it, "
            f"it is written in {cost['written_in_seconds']:.1f} s beside steps of {cost['step_seconds']:.2f} s, which "
            f"take {cost['slower_beside_it_seconds']:.2f} s longer in all; every {INTERVAL} steps, waiting takes "
            f"{cost['stall_share_at_default_interval']:.4%} of the time, all of it "
            f"{cost['whole_share_at_default_interval']:.4%}"
        )
    report_losses(figures["losses"])
    falls = shortfalls(figures)
    print("\n" + ("falls short: " + "; ".join(falls) if falls else "all reached"))


def report_losses(losses: dict[str, Any]) -> None:
    many, few, full = (losses[kind] for kind in LOSSES)
    print(
        f"loss, vocabulary 128,256, beside the gradients: {many['tokens']:,} tokens take {many['megabytes']:.0f} MB, "
        f"{many['megabytes'] / many['logits_megabytes']:.1%} of their logits alone; {few['tokens']:,} tokens take "
        f"{few['megabytes']:.0f} MB, {few['megabytes'] / full['megabytes']:.1%} of the {full['megabytes']:.0f} MB of "
        "torch's own with full logits"
    )


def report_scaling(scaling: dict[str, Any]) -> None:
    one, threads, ranks = (scaling[kind] for kind in ("one_thread", "two_threads", "two_ranks"))
    print("\ntwo rows an update:")
    for kind, (processes, each) in SCALING.items():
        speed, memory = scaling[kind]["tokens_per_second"], scaling[kind]["peak_mb"]
        ratio = speed / one["tokens_per_second"]
        print(f"{processes} x {each} threads: {speed:8.1f} tokens/s, {ratio:.2f} of one thread's, {memory:.0f} MB")
    print(
        "Two processes compute a row each without waiting for one another, but hold weights, gradients and moments\n"
        "twice, add up all gradients once an update over loopback, and each makes the whole optimizer step. Two\n"
        "threads share all of that, and wait for each other after every operation. Two processes have "
        f"{ranks['tokens_per_second'] / threads['tokens_per_second']:.2f} times the\n"
        "speed of two threads here; the more rows an update has, the less the sum and the optimizer weigh.\n"
    )


def shortfalls(figures: dict[str, Any]) -> list[str]:
    kinds, falls = figures["kinds"], []
    for kind, about in KINDS.items():
        if kind in kinds and about.ours:
            one, ours = kinds[kind], kinds[about.ours]
            if one["ratio"] < about.wanted:
                falls.append(f"{kind}: {one['ratio']:.2f}x is below {about.wanted}x")
            if ours["peak_mb"] >= one["peak_mb"]:
                falls.append(f"{kind}: peak memory is not lower")
    gap = abs(kinds["ours"]["first_loss"] - kinds["trainer_masked"]["first_loss"])
    if gap > 1e-3:
        falls.append(f"the first losses of ours and (a) differ by {gap:.4f}: they do not compute the same")
    if "llamafactory" in kinds:
        gap = abs(kinds["llamafactory"]["first_loss"] - kinds["trainer_unmasked"]["first_loss"])
        if gap > 0.02:  # it takes the end of a document for padding, and leaves it out of the loss
            falls.append(f"the first losses of (b) and (c) differ by {gap:.4f}: they do not compute the same")
    stalls = {shape: cost["stall_share_at_default_interval"] for shape, cost in figures["checkpoints"].items()}
    falls += [f"checkpoints of {shape} take {share:.1%} of the time" for shape, share in stalls.items() if share > 0.01]
    many = figures["losses"]["chunked"]
    if many["megabytes"] > 0.05 * many["logits_megabytes"]:
        falls.append("the loss takes more than 5 % of what full logits take")
    return falls


if __name__ == "__main__":
    main()
