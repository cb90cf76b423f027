from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rewarm.report.compare import compare
from rewarm.report.intervals import tango
from tests.report.made_up import documents


def coverage(n: int, sigma: float, samples: int, resamples: int) -> dict[str, float]:
    """How often the intervals hold the truth; ``coverage(32, 0.8, 3000, 1000)`` gives figures of the docstring."""
    population, result = documents(1_000_000, sigma, np.random.default_rng(99))
    sums = [
        sum(item[key] for item in side) for side, key in ((population, "nll"), (result, "nll"), (population, "bytes"))
    ]
    base = sums[0] / sums[2] / math.log(2)
    difference = sums[1] / sums[2] / math.log(2) - base
    truth = {"difference": difference, "percent": 100 * (sums[1] / sums[0] - 1), "base": base}
    rng = np.random.default_rng(1)
    hits = dict.fromkeys(truth, 0)
    for seed in range(samples):
        row: Any = compare("x", "bits_per_byte", "gain", *documents(n, sigma, rng), seed=seed, resamples=resamples)
        for name, value in truth.items():
            low, high = (f"{name}_low", f"{name}_high") if name != "difference" else ("low", "high")
            hits[name] += row[low] <= value <= row[high]
    return {name: count / samples for name, count in hits.items()}


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    found = coverage(n=32, sigma=0.8, samples=400, resamples=500)
    assert 0.91 <= found["difference"] <= 0.99
    assert 0.92 <= found["percent"] <= 1.0
    assert 0.91 <= found["base"] <= 1.0


@pytest.mark.parametrize(("won", "lost", "n"), [(0, 0, 1), (1, 0, 1), (0, 1, 1), (5, 0, 5), (0, 5, 5), (3, 2, 5)])
def test_tiny_tasks_have_honest_bounds(won: int, lost: int, n: int) -> None:
    _, low, high = tango(won, lost, n)
    assert low is not None and high is not None
    assert -1 <= low <= (won - lost) / n <= high <= 1
    assert high - low > 0.3


def test_the_paired_interval_is_tangos() -> None:
    """Its bounds are where the score statistic, with the constrained estimate found by search, passes z."""

    def score(delta: float, won: int, lost: int, n: int) -> float:
        q = np.linspace(max(0, -delta), (1 - delta) / 2, 2_000_001)[1:-1]  # P(only the base is right)
        rest = np.maximum(1 - 2 * q - delta, 1e-300)
        likelihood = won * np.log(np.maximum(q + delta, 1e-300)) + lost * np.log(q) + (n - won - lost) * np.log(rest)
        best = q[likelihood.argmax()]
        return float((won - lost - n * delta) / math.sqrt(n * (2 * best + delta - delta**2)))

    for won, lost, n in ((12, 2, 50), (4, 9, 40), (20, 1, 30)):
        _, low, high = tango(won, lost, n)
        assert low is not None and high is not None
        assert score(low, won, lost, n) == pytest.approx(1.95996, abs=1e-3)
        assert score(high, won, lost, n) == pytest.approx(-1.95996, abs=1e-3)
