"""One CUDA GPU, under 8 minutes: is the loop right there, and how fast is it on Llama-3.2-1B's shape?

Checks, on a small random Llama with grouped heads: the attention kernel against plain attention, each document
by itself; loss and gradients of packed batches against the same, fp32 and bf16; that a step makes the host
wait for nothing; that compiled layers compute the same; that training stopped and resumed goes on.
Speed: random weights of Llama-3.2-1B's shape, sequence 2,048, packed documents from the real loader,
bf16 over fp32 master weights, AdamW. MFU counts the causal half of attention (7.82 GFLOP a token).

    python benchmarks/gpu.py [--json PATH] [--minutes 7.5] [--dry-run]
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder: its tokenize.py would hide the standard library's

import argparse
import contextlib
import gc
import itertools
import json
import math
import random
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = 1309
WANTED = 60_000  # tokens per second on an H100 or H200
BIG: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
}
SMALL: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--minutes", type=float, default=7.5, help="begin nothing that would end later than this")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on whatever device there is")
    arguments = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not arguments.dry_run:
        print("not measured: no CUDA device")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    deadline = time.monotonic() + 60 * arguments.minutes
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "dry_run": arguments.dry_run,
        "checks": {},
        "speeds": [],
    }

    def keep() -> None:  # after each part, so that a crash loses nothing
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n")

    with tempfile.TemporaryDirectory() as scratch:
        for name, check in CHECKS.items():
            figures["checks"][name] = attempt(check, Path(scratch), device)
            say(f"check {name}: {figures['checks'][name]}")
            keep()
        for speed in measure_speeds(Path(scratch), device, deadline, arguments.dry_run):
            figures["speeds"].append(speed)
            say(f"speed {speed}")
            keep()
    report(figures)
    if not all(result["passed"] for result in figures["checks"].values()):
        raise SystemExit(1)


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def attempt(check: Callable[[Path, Any], dict[str, Any]], scratch: Path, device: Any) -> dict[str, Any]:
    """The result of a check; an error is a result, too, so that the other parts still run."""
    began = time.monotonic()
    try:
        result = check(scratch, device)
    except Exception as error:
        traceback.print_exc()
        result = {"passed": False, "error": f"{type(error).__name__}: {error}"[:400]}
    return {**result, "seconds": round(time.monotonic() - began, 1)}


# -- parts ------------------------------------------------------------------------------------------------------


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A tokenizer of one word a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{number}": number for number in range(vocabulary)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w1").save_pretrained(folder)


def write_dataset(scratch: Path, name: str, vocabulary: int, tokens: int) -> Path:
    """A dataset of random documents, about 500 tokens each, some of several rows; its folder."""
    from rewarm.data.prepare import build_dataset
    from rewarm.recipe.recipe import Recipe

    tokenizer = scratch / f"{name}-tokenizer"
    write_tokenizer(tokenizer, vocabulary)
    draw = random.Random(SEED)
    lines = []
    while tokens > 0:
        length = min(8192, max(4, round(draw.lognormvariate(5.8, 0.9))))
        lines.append(json.dumps({"text": " ".join(f"w{draw.randrange(2, vocabulary)}" for _ in range(length))}))
        tokens -= length
    (scratch / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    source = {"name": "text", "path": str(scratch / f"{name}.jsonl")}
    recipe = Recipe.model_validate({"name": name, "base_model": str(tokenizer), "data": {"sources": [source]}})
    return build_dataset(recipe, tokenizer, scratch / "datasets", workers=1).path


def batches_of(dataset: Path, rows: int, length: int, *, pad: bool = False) -> Any:
    from rewarm.data.batches import Batches
    from rewarm.data.dataset import Dataset
    from rewarm.data.plan import Plan
    from rewarm.recipe.mixture import Mixture

    corpus = Dataset.open(dataset)
    plan = Plan(corpus, Mixture({"text": corpus.sources["text"].tokens}), 1, length, SEED)
    return Batches(plan, rows, 1, pad=pad)


def small_base(scratch: Path) -> Path:
    """A folder with a small random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = scratch / "small"
    if not folder.exists():
        write_tokenizer(folder, SMALL["vocab_size"])
        torch.manual_seed(SEED)
        config = LlamaConfig(**SMALL, tie_word_embeddings=True, eos_token_id=1)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def small_batches(scratch: Path, *, pad: bool = False) -> Any:
    found = list((scratch / "small-set").glob("*")) if (scratch / "small-set").exists() else []
    if not found:
        (scratch / "small-set").mkdir()
        (scratch / "small-set" / "path").write_text(str(write_dataset(scratch, "few", SMALL["vocab_size"], 60_000)))
    return batches_of(Path((scratch / "small-set" / "path").read_text()), 2, 512, pad=pad)


def bf16(device: Any) -> Any:
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16)


def distance(one: Any, two: Any) -> float:
    """|one - two| / |two| over all entries together, of tensors or lists of them."""
    pairs = list(zip(one, two, strict=True)) if isinstance(one, list) else [(one, two)]
    off = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    return math.sqrt(off / max(sum(float(b.double().square().sum()) for _, b in pairs), 1e-30))


# -- checks -----------------------------------------------------------------------------------------------------


def check_attention(scratch: Path, device: Any) -> dict[str, Any]:
    """The packed kernel with fewer key heads than query heads, forward and backward, against plain attention."""
    import torch

    from rewarm.models.attention import packed_attention

    torch.manual_seed(SEED)
    lengths = (5, 130, 1, 64, 200)
    n, dtype = sum(lengths), torch.bfloat16 if device.type == "cuda" else torch.float32
    q, k, v = (torch.randn(1, heads, n, 64, device=device, dtype=dtype) for heads in (8, 2, 2))
    weight = torch.randn(1, n, 8, 64, device=device, dtype=dtype)
    bounds = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    packed = [x.clone().requires_grad_() for x in (q, k, v)]
    out, _ = packed_attention(
        torch.nn.Identity(), *packed, cu_seqlens=bounds, max_seqlen=max(lengths),
        lengths=() if device.type == "cuda" else lengths, scaling=64**-0.5,
    )  # fmt: skip
    (out * weight).sum().backward()
    plain = [x.float().requires_grad_() for x in (q, k, v)]
    parts, start = [], 0
    for length in lengths:
        a, b, c = (x[:, :, start : start + length] for x in plain)
        b, c = b.repeat_interleave(4, 1), c.repeat_interleave(4, 1)
        scores = (a @ b.transpose(2, 3) * 64**-0.5).masked_fill(
            torch.ones(length, length, device=device, dtype=torch.bool).triu(1), float("-inf")
        )
        parts.append((scores.softmax(-1) @ c).transpose(1, 2))
        start += length
    reference = torch.cat(parts, 1)
    (reference * weight.float()).sum().backward()
    off = distance(out.detach(), reference.detach())
    gradients = distance([x.grad for x in packed], [x.grad for x in plain])
    limit = 0.02 if dtype == torch.bfloat16 else 1e-4
    return {"passed": off < limit and gradients < limit, "output": off, "gradient": gradients, "limit": limit}


def reference_gradients(base: Path, device: Any, micro_batch: Any) -> tuple[float, list[Any]]:
    """Mean loss and gradients by plain transformers in fp32, each segment by itself."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").to(device)
    total = torch.zeros((), device=device)
    bounds = micro_batch.cu_seqlens.tolist()
    for first, last in itertools.pairwise(bounds):
        ids, goals = (torch.from_numpy(x[first:last]).to(device) for x in (micro_batch.input_ids, micro_batch.targets))
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits, goals, reduction="sum", ignore_index=-100)
    (total / micro_batch.n_targets).backward()
    return float(total.detach()) / micro_batch.n_targets, [p.grad for p in model.parameters()]


def check_gradients(scratch: Path, device: Any) -> dict[str, Any]:
    """Loss and gradients of our packed model, fp32 and under bf16, against the reference."""
    import torch

    from rewarm.models.causal import PackedBatch, load_model

    torch.backends.cuda.matmul.allow_tf32 = False
    base = small_base(scratch)
    micro_batch = small_batches(scratch).read(0).micro_batches[0]
    loss, gradients = reference_gradients(base, device, micro_batch)
    results: dict[str, Any] = {"passed": True, "documents": len(micro_batch.cu_seqlens) - 1}
    for name, context, limits in (
        ("fp32", contextlib.nullcontext, (1e-5, 1e-3)),
        ("bf16", lambda: bf16(device), (2e-3, 0.05)),
    ):
        model = load_model(base, device=device).train()
        with context():
            ours = model(PackedBatch.of(micro_batch, device))
        (ours / micro_batch.n_targets).backward()
        off = abs(float(ours.detach()) / micro_batch.n_targets - loss) / loss
        gradient = distance([p.grad for p in model.parameters()], gradients)
        results[name] = {"loss": off, "gradient": gradient, "limits": limits}
        results["passed"] &= off < limits[0] and gradient < limits[1]
    return results


def small_training(scratch: Path, device: Any, *, compiled: bool = False) -> Any:
    from rewarm.models.causal import load_model

    return training_of(load_model(small_base(scratch), device=device), device, compiled=compiled, recompute=False)


def training_of(model: Any, device: Any, *, compiled: bool, recompute: bool) -> Any:
    """What the loop trains."""
    from rewarm.recipe.hyperparameters import Hyperparameters
    from rewarm.train.checkpoint import Training
    from rewarm.train.optimizer import build_optimizer
    from rewarm.train.tally import Tally

    if recompute:
        model.enable_gradient_checkpointing()
    if compiled:
        for layer in model.layers():
            layer.compile()
    model.train()
    given = Hyperparameters(learning_rate=1e-4, weight_decay=0.1)
    return Training(model, build_optimizer(model, given), Tally(device, scaled=False))


def step(training: Any, batch: Any, device: Any) -> None:
    """One update of the loop, in bf16."""
    from rewarm.train.loop import train_step

    train_step(training, batch, 1e-4, 1.0, lambda: bf16(device), lambda tokens: None)


def check_no_waiting(scratch: Path, device: Any) -> dict[str, Any]:
    """The host must not wait for the device inside a step."""
    import torch

    if device.type != "cuda":
        return {"passed": True, "note": "only on CUDA"}
    training, batches = small_training(scratch, device), small_batches(scratch)
    for number in range(2):
        step(training, batches.read(number), device)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step(training, batches.read(2), device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename}:{w.lineno}: {w.message}"[:200] for w in caught if "synchroniz" in str(w.message)]
    return {"passed": not waits, "waits": waits[:5]}


def check_compiled(scratch: Path, device: Any) -> dict[str, Any]:
    """Steps with compiled layers give the losses of steps without; and few of them have to compile."""
    from rewarm.train.loop import fixed_shape

    curves, seconds = [], []
    for compiled in (False, True):
        training, batches, losses = small_training(scratch, device, compiled=compiled), small_batches(scratch), []
        if compiled:
            batches = small_batches(scratch, pad=True)
        for number in range(6 if device.type == "cuda" else 2):  # on a CPU every new set of lengths compiles
            batch = batches.read(number)
            began = time.monotonic()
            step(training, fixed_shape(batch, 512) if compiled and device.type == "cuda" else batch, device)
            seen = training.tally.read()
            training.tally.reset()
            losses.append(seen["loss"] / seen["targets"])
            if compiled:
                seconds.append(round(time.monotonic() - began, 2))
        curves.append(losses)
    off = max(abs(a - b) / a for a, b in zip(*curves, strict=True))
    return {"passed": off < 5e-3, "largest difference of losses": off, "seconds of each compiled step": seconds}


def check_resume(scratch: Path, device: Any) -> dict[str, Any]:
    """The whole loop: 6 steps at once, and 3 + a stop + 3. Equal to the last bit is promised on CPUs only."""
    from rewarm.core.events import EventLog, metrics, read_events
    from rewarm.recipe.hyperparameters import Hyperparameters
    from rewarm.train.loop import Job, train

    plan = small_batches(scratch).plan
    given = Hyperparameters(
        finetuning_type="full", learning_rate=1e-3, mixed_precision="bf16", batch_size=4, max_sequence_length=512,
        gradient_accumulation_steps=4, logging_steps=1, eval_strategy="no", checkpoint_strategy="no",
    )  # fmt: skip

    def run(name: str, attempt: int, stop_at: int) -> Any:
        asked: list[int] = []

        def stop() -> bool:
            asked.append(1)
            return len(asked) == stop_at

        folder = scratch / name
        folder.mkdir(exist_ok=True)
        log = EventLog(folder / "events.jsonl", attempt)
        outcome = train(Job(folder, plan.dataset, plan, given, small_base(scratch), log, device=device, stop=stop))
        log.close()
        points = metrics(event for event, _ in read_events(folder / "events.jsonl"))
        return outcome, [loss for _, _, loss in points["train/loss"]]

    outcome, whole = run("whole", 1, 6)
    run("parts", 1, 3)
    again, parts = run("parts", 2, 3)
    off = max(abs(a - b) for a, b in zip(whole, parts, strict=True))
    good = outcome.step == again.step == 6 and off < 1e-2 and whole[-1] < whole[0]
    return {"passed": good, "largest difference of losses": off, "bit-equal": off == 0.0, "losses": whole}


CHECKS: dict[str, Callable[[Path, Any], dict[str, Any]]] = {
    "attention": check_attention,
    "gradients": check_gradients,
    "no waiting": check_no_waiting,
    "resume": check_resume,
    "compiled": check_compiled,
}


# -- speed ------------------------------------------------------------------------------------------------------


def measure_speeds(scratch: Path, device: Any, deadline: float, dry: bool) -> Any:
    """One setting after the other, the most telling first; what does not fit in the time is said to be left out."""
    import torch

    shape = {**SMALL, "num_hidden_layers": 1} if dry else BIG
    length, warm, timed = (128, 2, 2) if dry else (2048, 4, 8)
    largest = 2 if dry else 16
    say("building the dataset")
    tokens = round(largest * length * (warm + timed + 1) * 1.15)
    dataset = write_dataset(scratch, "many", shape["vocab_size"], tokens)
    settings = [
        (largest, False, False),
        (largest, True, False),
        (largest // 2, True, False),
        (largest // 2, False, False),
        (largest, True, True),
    ]
    for rows, compiled, recompute in settings[: 2 if dry else None]:
        setting = {"batch_size": rows, "compiled": compiled, "gradient_checkpointing": recompute}
        if time.monotonic() > deadline - (5 if dry else 75):
            yield {**setting, "result": "not measured: out of time"}
            continue
        try:
            yield {**setting, **measure(dataset, shape, length, setting, device, warm, timed)}
        except torch.OutOfMemoryError:
            yield {**setting, "result": "out of memory"}
        except Exception as error:
            traceback.print_exc()
            yield {**setting, "result": f"{type(error).__name__}: {error}"[:300]}
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def measure(
    dataset: Path, shape: dict[str, Any], length: int, setting: dict[str, Any], device: Any, warm: int, timed: int
) -> dict[str, Any]:
    """Tokens per second of the loop's step with the real loader, over ``timed`` steps behind ``warm`` ones."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rewarm.data.batches import prefetch
    from rewarm.models.attention import PACKED
    from rewarm.models.causal import CausalModel
    from rewarm.train.loop import fixed_shape
    from rewarm.train.metrics import flops_per_token, memory_gb, peak_flops

    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(SEED)
    config = LlamaConfig(**shape, tie_word_embeddings=True, attn_implementation=PACKED, use_cache=False)
    began = time.monotonic()
    with device:
        model = CausalModel(LlamaForCausalLM(config))
    training = training_of(model, device, compiled=setting["compiled"], recompute=setting["gradient_checkpointing"])
    batches = batches_of(dataset, setting["batch_size"], length, pad=setting["compiled"])
    reader = prefetch(batches, 0)
    tokens, first_step, marks = 0, 0.0, []
    for number in range(warm + timed):
        batch = next(reader)[1]
        if setting["compiled"] and device.type == "cuda":
            batch = fixed_shape(batch, length)
        step(training, batch, device)
        if number == 0:
            wait(device)
            first_step = time.monotonic() - began
        if number == warm - 1:
            wait(device)
            marks.append(time.monotonic())
        tokens += batch.tokens if number >= warm else 0
    wait(device)
    marks.append(time.monotonic())
    reader.close()
    seen = training.tally.read()
    speed = tokens / (marks[1] - marks[0])
    flops, peak = flops_per_token(config, length), peak_flops(device)
    return {
        "result": "measured",
        "tokens_per_second": speed,
        "mfu_causal": speed * flops / peak if flops and peak else None,
        "memory_gb": memory_gb(device),
        "seconds_per_step": (marks[1] - marks[0]) / timed,
        "seconds_to_first_step": first_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": seen["loss"] / max(seen["targets"], 1),
        "skipped": seen["skipped"],
    }


def wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def report(figures: dict[str, Any]) -> None:
    """The table: short, and last."""
    print(f"\n{figures['device']}, torch {figures['torch']}{', DRY RUN: no figure counts' * figures['dry_run']}\n")
    for name, result in figures["checks"].items():
        print(f"check {name:12} {'passed' if result['passed'] else 'FAILED: ' + json.dumps(result)[:300]}")
    print("\nbatch  compiled  recompute  tokens/s  MFU (causal)  peak GB  first step s")
    for row in figures["speeds"]:
        head = f"{row['batch_size']:5}  {row['compiled']!s:8}  {row['gradient_checkpointing']!s:9}"
        if row["result"] != "measured":
            print(f"{head}  {row['result']}")
            continue
        mfu = "-" if row["mfu_causal"] is None else f"{row['mfu_causal']:.1%}"
        print(
            f"{head}  {row['tokens_per_second']:8,.0f}  {mfu:>12}  {row['memory_gb']:7.1f}"
            f"  {row['seconds_to_first_step']:12.1f}"
        )
    best = max((row.get("tokens_per_second", 0.0) for row in figures["speeds"]), default=0.0)
    if not figures["dry_run"]:
        print(f"\nbest {best:,.0f} tokens/s; wanted {WANTED:,}: {'reached' if best >= WANTED else 'NOT reached'}")


if __name__ == "__main__":
    main()
