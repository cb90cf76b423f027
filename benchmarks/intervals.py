"""Do the report's intervals hold what they promise? Coverage, and false alarms over ten tasks, beside the usual ways.

    python benchmarks/intervals.py [--quick] [--json]

Documents of lognormal length (sigma of its logarithm 0.8), whose fall of nats a byte grows with length: what news,
laws and web pages look like. The truth is the figure over two million such documents. The peer is the percentile
bootstrap over the same documents, and for tasks McNemar's exact test without a correction.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

if __name__ == "__main__":
    del sys.path[0]  # this folder: its tokenize.py would hide the standard library's

import numpy as np

from rewarm.report.compare import compare, holm
from rewarm.report.intervals import Array, Paired, bootstrap, mcnemar

SIZES = (32, 100, 300, 1000)
SIGMA = 0.8
TASKS, ITEMS = 10, 400


def documents(draw: np.random.Generator, n: int) -> Paired:
    """``n`` documents: bytes, and the bits of both models."""
    size = np.ceil(np.exp(draw.normal(7, SIGMA, n)))
    hard = np.exp(draw.normal(0, 0.25, n))
    fall = 0.04 * np.log(size) + draw.normal(0, 0.1, n)
    return Paired(size * hard, size * hard * (1 - fall), size)


def percentile(scores: Paired, draw: np.random.Generator, resamples: int) -> tuple[float, float]:
    """The percentile bootstrap's interval of the difference."""
    drawn = draw.integers(0, len(scores), size=(resamples, len(scores)))
    change: Array = (scores.result - scores.base)[drawn].sum(axis=1) / scores.weight[drawn].sum(axis=1)
    low, high = np.quantile(change, (0.025, 0.975))
    return float(low), float(high)


def coverage(n: int, samples: int, resamples: int) -> dict[str, float]:
    """In how many per cent of the samples each interval holds the true difference."""
    draw = np.random.default_rng(n)
    whole = documents(draw, 2_000_000)
    truth = (whole.result.sum() - whole.base.sum()) / whole.weight.sum()
    ours = theirs = 0
    for number in range(samples):
        scores = documents(draw, n)
        found = bootstrap(scores, number, resamples).difference
        ours += found.low is not None and found.high is not None and found.low <= truth <= found.high
        low, high = percentile(scores, draw, resamples)
        theirs += low <= truth <= high
    return {"documents": n, "rewarm": 100 * ours / samples, "percentile": 100 * theirs / samples}


def false_alarms(families: int) -> dict[str, float]:
    """In how many per cent of tables without any change at least one row is called changed."""
    draw = np.random.default_rng(7)
    ours = theirs = 0
    for _ in range(families):
        moved = [draw.multinomial(ITEMS, (0.08, 0.08, 0.84))[:2] for _ in range(TASKS)]
        theirs += min(mcnemar(int(won), int(lost)) for won, lost in moved) < 0.05
        rows = holm([_row(int(won), int(lost)) for won, lost in moved])
        ours += any(row["p_holm"] is not None and row["p_holm"] < 0.05 for row in rows)
    return {"tasks": TASKS, "rewarm": 100 * ours / families, "uncorrected": 100 * theirs / families}


def _row(won: int, lost: int):  # type: ignore[no-untyped-def]
    base = [{"id": i, "acc": float(i < lost)} for i in range(ITEMS)]
    result = [{"id": i, "acc": float(lost <= i < lost + won)} for i in range(ITEMS)]
    return compare("task", "acc", "gain", base, result, seed=0, kind="task")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="300 samples in place of 3,000")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    samples, resamples = (300, 1000) if asked.quick else (3000, 2000)
    started, rows = time.monotonic(), []
    for n in SIZES:
        rows.append(coverage(n, samples, resamples))
        print(f"{n:,} documents done, {time.monotonic() - started:.0f} s", file=sys.stderr)
    result = {"samples": samples, "coverage": rows, "false_alarms": false_alarms(samples)}
    if asked.json:
        print(json.dumps(result, indent=1))
        return
    print(f"coverage of the 95 % interval, {samples:,} samples each")
    for row in rows:
        print(
            f"{row['documents']:>6,.0f} documents   rewarm {row['rewarm']:.1f} %   percentile {row['percentile']:.1f} %"
        )
    alarms = result["false_alarms"]
    print(
        f"false alarms over {TASKS} tasks: rewarm {alarms['rewarm']:.1f} %   uncorrected {alarms['uncorrected']:.1f} %"
    )


if __name__ == "__main__":
    main()
