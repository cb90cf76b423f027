"""A report like that of a real run, from made-up items, for the tests of the report and the card."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rewarm.report.build import build_report
from rewarm.report.compare import Row, compare

RECIPE = """\
name: legal-vi
base_model: HuggingFaceTB/SmolLM2-135M
data:
  sources:
    - {name: law, path: corpus/law/*.jsonl.gz}
  replay: {path: corpus/english, share: 0.25}
hyperparameters: {learning_rate: 0.0001, max_sequence_length: 512}
evaluation:
  tasks: [lambada_vi]
  panels: [{name: topics, path: corpus/topics}]
"""


def text_items(n: int, nats_per_byte: float, change: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Items of ``n`` documents for a base, and for a result that pays ``change`` (a share) more or less."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(7, 0.8, n)).round()
    base = [
        {"id": f"{i:016x}", "nll": float(s * nats_per_byte * rng.normal(1, 0.1)), "bytes": int(s)}
        for i, s in enumerate(sizes)
    ]
    return base, [{**item, "nll": item["nll"] * (1 + change + rng.normal(0, 0.03))} for item in base]


def answers(n: int, share: float, won: float, lost: float, seed: int) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    before = rng.random(n) < share
    after = np.where(before, rng.random(n) > lost, rng.random(n) < won)
    base, result = ([{"id": str(i), "acc": float(v)} for i, v in enumerate(side)] for side in (before, after))
    return base, result


def entry(name: str, role: str, documents: int, held_out: int, size: int, tokens: int) -> dict[str, Any]:
    """One text as a dataset's manifest describes it."""
    return {
        "name": name,
        "role": role,
        "documents_in": documents,
        "accepted": documents - held_out - 15,
        "held_out": held_out,
        "rejected": {"broken UTF-8": 1, "empty text": 2},
        "filtered": {"duplicate": 12},
        "tokens": tokens,
        "bytes": size,
        "held_out_tokens": tokens // 50,
        "held_out_bytes": size // 50,
    }


def rows() -> list[Row]:
    table = [
        compare("law", "bits_per_byte", "gain", *text_items(32, 1.9, -0.27, 1), seed=7, resamples=500),
        compare("replay", "bits_per_byte", "forgetting", *text_items(79, 0.8, 0.004, 2), seed=7, resamples=500),
        compare("topics", "bits_per_byte", "forgetting", *text_items(140, 0.7, 0.008, 3), seed=7, resamples=500),
    ]
    return [*table, compare("lambada_vi", "acc", "gain", *answers(500, 0.2, 0.15, 0.1, 4), seed=7, kind="task")]


def curves() -> dict[str, list[tuple[int, int, float]]]:
    steps = range(1, 60)
    loss = [(s, 512 * s, 2.4 * math.exp(-s / 20) + 1.7 + 0.1 * math.sin(9 * s)) for s in steps]
    rate = [(s, 512 * s, 1e-4 * min(s / 6, 1, (60 - s) / 12)) for s in steps]
    at = (0, 1, 3, 6, 12, 30, 60)
    held = {
        "law": lambda s: 2.74 * (0.73 + 0.27 * math.exp(-s / 15)),
        "replay": lambda s: 1.15 * (1 + 0.02 * math.exp(-(((s - 4) / 4) ** 2)) + 0.004 * s / 60),
        "topics": lambda s: 1.01 * (1 + 0.03 * math.exp(-(((s - 4) / 4) ** 2)) + 0.008 * s / 60),
    }
    points = {f"eval/{name}/bits_per_byte": [(s, 512 * s, f(s)) for s in at] for name, f in held.items()}
    return {
        "train/loss": loss,
        "train/lr": rate,
        "perf/tokens_per_second": [(s, 512 * s, 235.0) for s in steps],
        **points,
    }


def sample_report(**changes: Any) -> dict[str, Any]:
    """A whole report; ``changes`` replace arguments of ``build_report``."""
    arguments: dict[str, Any] = {
        "name": "legal-vi",
        "run": "20261123T130642-legal-vi-3fa2",
        "created": "2026-11-23T13:20:00+00:00",
        "base": {"reference": "HuggingFaceTB/SmolLM2-135M", "fingerprint": "ab" * 32, "parameters": 134_515_008},
        "result": {"checkpoint": "checkpoints/step-59"},
        "rows": rows(),
        "metrics": curves(),
        "data": {
            "tokenizer": "cd" * 32,
            "sources": [
                entry("topics", "panel", 160, 145, 0, 0) | {"held_out_bytes": 470_000, "held_out_tokens": 104_000},
                entry("law", "source", 2_702, 32, 2_960_000, 2_466_000),
                entry("replay", "replay", 812, 79, 1_310_000, 288_000),
            ],
        },
        "mixture": {
            "sources": [("law", 1.0)],
            "replay": ("replay", 0.25),
            "seen": {"law": (25, 22_656), "replay": (21, 7_552)},
        },
        "recipe_text": RECIPE,
        "resolved": {
            "dataset": "ef" * 16,
            "recipe": "01" * 32,
            "code": {"version": "0.1.0", "sha256": "23" * 32},
            "machine": {"system": "Linux", "cores": 2, "memory": 8_000_000_000, "gpus": []},
            "hyperparameters": {
                "learning_rate": {"value": 1e-4, "origin": "recipe", "reason": "given"},
                "lr_scheduler_type": {
                    "value": "wsd",
                    "origin": "recommended",
                    "reason": "warm-up, stable, decay over the last 20 %: a later run can go on from the stable part",
                },
                "seed": {"value": 1309, "origin": "platform", "reason": "the reference platform's default"},
            },
            "ignored": [{"field": "eval_steps", "because": 'eval_strategy is "no"'}],
        },
        "training": {"steps": 59, "tokens": 30_208, "device": "cpu", "seconds": 142.3},
    }
    return build_report(**{**arguments, **changes})
