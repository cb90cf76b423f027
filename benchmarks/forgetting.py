"""What a run teaches and what it destroys: the naive recipe against Rewarm's, on a model that trains in minutes.

A byte-level Llama of 0.1M parameters first learns English (the Python reference and the READMEs of the packages that
are installed), then Vietnamese law. Every arm has the same base, the same tokens processed (replay counts), the same
batch. *naive* is the reference platform's recipe (no replay, no warm-up, linear), at each of three rates; *default*
and *generated* take the rate that was best for naive's Vietnamese, and leave schedule, warm-up and weight decay to
Rewarm: one replays a quarter of Python reference, the other what the base wrote itself; *schedule* replays nothing.
Forgetting is what bits per byte of package descriptions rise by: short ones, of other packages than the base read, and
of another kind than what is replayed. Vietnamese is measured against the best arm without replay.

    python benchmarks/forgetting.py [--quick] [--seeds N] [--law FILE] [--json PATH]
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder: its tokenize.py would hide the standard library's

import argparse
import json
import math
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rewarm.cli.quickstart import readmes, write_english, write_law
from rewarm.core.run import create_run
from rewarm.core.workspace import Workspace

RATES = (4e-3, 8e-3, 1.6e-2)
LENGTH, ROWS = 128, 16
WANTED = {"default": 0.10, "generated": 0.18}
"""Shares of the naive recipe's forgetting."""
WITHIN = 0.03
"""Bits per byte of Vietnamese that an arm may lose against the best one without replay."""
NAIVE = {"lr_scheduler_type": "linear", "lr_warmup_ratio": 0.0, "weight_decay": 0.0}
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a mean of so many seeds."""


@dataclass(frozen=True)
class Size:
    """Tokens, which are bytes here: of the base's training, of an arm's, and of the replay that the base writes."""

    base: int
    arm: int
    written: int


FULL = Size(base=1_638_400, arm=512_000, written=64_000)
QUICK = Size(base=409_600, arm=204_800, written=16_000)


def make_model(folder: Path, seed: int) -> None:
    """Random weights, and a tokenizer whose tokens are the bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate([*letters, end])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end).save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=257, max_position_embeddings=256, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)


def write_texts(folder: Path, law: Path | None) -> None:
    write_english(folder)
    lines = [json.dumps({"title": name, "text": text}) for name, text in readmes() if len(text.encode()) > 2200]
    (folder / "readmes-en.jsonl").write_text("\n".join(lines) + "\n")
    if law is None:
        write_law(folder, lambda *_: None)
    else:
        (folder / "law-vi.jsonl").write_bytes(law.read_bytes())


def recipe(folder: Path, name: str, base: Path, data: dict[str, Any], seed: int, **values: Any) -> str:
    given = {"finetuning_type": "full", "batch_size": ROWS, "gradient_accumulation_steps": 1, "seed": seed}
    panel = {"name": "panel-en", "path": str(folder / "packages-en.jsonl")}
    return yaml.safe_dump(
        {
            "name": name,
            "base_model": str(base),
            "data": {"held_out": 0.04, **data},
            "hyperparameters": {**given, "max_sequence_length": LENGTH, "eval_strategy": "no", **values},
            "infrastructure": {"devices": "cpu"},
            "evaluation": {"panels": [panel], "max_bytes_per_source": 60_000, "at": []},
        }
    )


def trained(folder: Path, name: str, text: str) -> tuple[Path, dict[str, tuple[float, float]]]:
    """The model that a run of this recipe ends with, and bits per byte before and after, by text."""
    run = create_run(Workspace(folder / "home"), name, text, [], folder)
    with run.log.open("ab") as log:
        code = subprocess.run(
            [sys.executable, "-m", "rewarm.pipeline", str(run.path)], stdout=log, stderr=log
        ).returncode
    if code != 0:
        raise SystemExit(run.log.read_text())
    rows = json.loads((run.results / "rows.json").read_text())
    return run.path / "model", {row["task"]: (row["base"], row["result"]) for row in rows}


def of_source(folder: Path, name: str, tokens: int) -> dict[str, Any]:
    return {"name": name, "path": str(folder / f"{name}.jsonl"), "tokens": tokens, "max_epochs": 16}


def one_seed(folder: Path, seed: int, size: Size) -> dict[str, dict[str, float]]:
    """Forgetting and Vietnamese bits per byte of each arm."""
    make_model(folder / f"random-{seed}", seed)
    english = [of_source(folder, name, size.base // 2) for name in ("python-en", "readmes-en")]
    text = recipe(folder, "base", folder / f"random-{seed}", {"sources": english}, seed, learning_rate=4e-3)
    base, _ = trained(folder, "base", text)

    def arm(name: str, rate: float, replay: dict[str, Any] | None, **values: Any) -> dict[str, float]:
        share = replay["share"] if replay else 0.0
        data: dict[str, Any] = {"sources": [of_source(folder, "law-vi", round((1 - share) * size.arm))]}
        if replay:
            data["replay"] = {"name": "replay", "max_epochs": 16, **replay}
        _, bits = trained(folder, name, recipe(folder, name, base, data, seed, learning_rate=rate, **values))
        before, after = bits["panel-en"]
        found = {"forgetting": after - before, "new": bits["law-vi"][1], "english_before": before, "rate": rate}
        print(
            f"seed {seed}  {name:12} {json.dumps({key: round(value, 4) for key, value in found.items()})}", flush=True
        )
        return found

    tuned = [arm("naive", rate, None, **NAIVE) for rate in RATES]
    best = min(tuned, key=lambda found: found["new"])
    write = {"tokens": size.written, "max_tokens": 256, "seed": seed}
    corpus = {"share": 0.25, "path": str(folder / "python-en.jsonl")}
    return {
        "naive": best,
        "schedule": arm("schedule", best["rate"], None),
        "default": arm("default", best["rate"], corpus),
        "generated": arm("generated", best["rate"], {"share": 0.25, "generate": write}),
    }


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean and the half-width of its 95 % interval over seeds; none for a single one."""
    n = len(values)
    half = T_95[n] * statistics.stdev(values) / math.sqrt(n) if n > 1 else None
    return {"mean": statistics.fmean(values), "half_width": half}


def summary(seeds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Of each arm with replay: its share of naive's forgetting, and its Vietnamese against the best without."""
    return {
        name: {
            "share": spread([arms[name]["forgetting"] / arms["naive"]["forgetting"] for arms in seeds]),
            "new": spread([arms[name]["new"] - min(arms["naive"]["new"], arms["schedule"]["new"]) for arms in seeds]),
            "wanted": wanted,
        }
        for name, wanted in WANTED.items()
    }


def tell(found: dict[str, Any]) -> None:
    for name, arm in found.items():
        share, new = arm["share"], arm["new"]
        print(
            f"{name}: forgets {100 * share['mean']:.1f}{_width(share, 100)} % of what naive forgets (wanted: at most "
            f"{100 * arm['wanted']:.0f}); Vietnamese {new['mean']:+.3f}{_width(new)} bits per byte against the "
            f"best arm without replay (wanted: at most +{WITHIN})"
        )


def _width(part: dict[str, float | None], scale: float = 1.0) -> str:
    return "" if part["half_width"] is None else f" +- {scale * part['half_width']:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the base's training, two fifths of an arm's")
    parser.add_argument("--seeds", type=int, choices=range(1, 6), default=1)
    parser.add_argument("--law", type=Path, help="jsonl of the new language, in place of the downloaded one")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder, given.law)
        seeds = [one_seed(folder, seed, QUICK if given.quick else FULL) for seed in range(given.seeds)]
    found = summary(seeds)
    tell(found)
    if given.json:
        given.json.write_text(json.dumps({"seeds": seeds, "summary": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
