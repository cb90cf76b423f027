"""How sure a difference between two models is, from their scores of the same documents or items.

A figure is g(sum x / sum w) over documents: bits per byte (x nats / ln 2, w bytes), a mean (w 1) or
a perplexity (g = exp). Documents are resampled with both models' scores together, so that what is
hard for both cancels. The interval is the symmetric studentised bootstrap (Hall 1988, doi
10.1111/j.2517-6161.1988.tb01707.x): estimate +- q x the jackknife's standard error, where q is the
95 % quantile of |estimate* - estimate| / se* and se* the delta method's in the resample.

It was chosen on measured coverage (nominal 95 %, 3,000 samples each; documents of lognormal length,
sigma of its logarithm 0.8 or 1.2, the fall of nats a byte growing with length; the relative change):

    documents                  32 (0.8)  100 (0.8)  32 (1.2)  100 (1.2)
    this interval                94.1 %     95.3 %    90.0 %     92.4 %
    studentised, equal tails     92.8       94.0      87.6       91.1
    BCa                          89.6       92.3      83.2       87.7
    percentile                   90.3       93.2      82.8       87.7

A row has one interval, that of the difference; the change in per cent is the same over the base's
own figure, so that both exclude zero or neither does. The other way round, an interval of the ratio
times the base's figure, covers too little where documents differ in how hard they are:

    documents                        5 (0.8)  32 (0.8)  100 (0.8)  32 (1.2)  100 (1.2)
    the difference                    95.7 %    94.2 %     94.9 %    92.2 %     93.4 %
    its share of the base             96.1      96.5       97.6      93.2       95.3
    difference from the ratio's       93.8      89.2       90.6      87.1       89.4

(``coverage`` in tests/report/test_intervals.py measures the first two lines of this table again.)

Right or wrong answers need no bootstrap: Tango's score interval for the paired difference, which
stays honest where no item changed, and Wilson's for each model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

LEVEL = 0.95
FEWEST = 5
"""Below so many documents there is no interval: the bootstrap has too few different resamples."""
_ROOM = 2_000_000  # numbers in one block of resamples: 16 MB an array
_Z = float(stats.norm.ppf((1 + LEVEL) / 2))


class Estimate(NamedTuple):
    """A figure and its 95 % interval; the bounds are None where there are too few documents for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Paired:
    """Both models' scores of the same n documents: figure = g(sum x / sum w)."""

    base: Array  # (n,) x of the base
    result: Array  # (n,) x of the result
    weight: Array  # (n,) w, above 0
    exponential: bool = False  # g is exp, else the identity

    def __len__(self) -> int:
        return len(self.base)

    def summed(self, groups: Sequence[object]) -> Paired:
        """The scores of whole groups, whose names stand beside each document's: the same figures, fewer documents."""
        names = {name: i for i, name in enumerate(dict.fromkeys(groups))}
        of = np.array([names[name] for name in groups])
        base, result, weight = (
            np.bincount(of, values).astype(np.float64) for values in (self.base, self.result, self.weight)
        )
        return Paired(base, result, weight, self.exponential)


class Change(NamedTuple):
    """Base, result, and result minus base."""

    base: Estimate
    result: Estimate
    difference: Estimate


def bootstrap(scores: Paired, seed: int, resamples: int) -> Change:
    """All three figures with intervals from the same resamples; memory does not grow with n x resamples."""
    values = [float(value) for value, _, _ in _statistics(*_ratios(scores), scores.exponential)]
    estimates = [Estimate(value) for value in values]
    if len(scores) >= FEWEST:
        errors = _jackknife(scores)
        quantiles = _studentised(scores, values, np.random.default_rng(seed), resamples)
        estimates = [_estimate(*three) for three in zip(values, errors, quantiles, strict=True)]
    return Change(*estimates)


def _estimate(value: float, error: float, quantile: float) -> Estimate:
    half = 0.0 if error == 0 else error * quantile
    return Estimate(value, value - half, value + half) if math.isfinite(half) else Estimate(value)


def _statistics(base: Array, result: Array, exponential: bool) -> list[tuple[Array, Array, Array]]:
    """Base, result, difference: each its value and its derivatives by both models' ratios.

    ``base`` and ``result`` are ratios sum x / sum w, of any equal shape.
    """
    b, r = (np.exp(base), np.exp(result)) if exponential else (base, result)
    db, dr = (b, r) if exponential else (np.ones_like(b), np.ones_like(r))
    zero = np.zeros_like(b)
    return [(b, db, zero), (r, zero, dr), (r - b, -db, dr)]


def _ratios(scores: Paired) -> tuple[Array, Array]:
    total = scores.weight.sum()
    return scores.base.sum() / total, scores.result.sum() / total


def _jackknife(scores: Paired) -> list[float]:
    """The standard error of each statistic, from leaving each document out once."""
    n, weight = len(scores), scores.weight.sum() - scores.weight
    base, result = (scores.base.sum() - scores.base) / weight, (scores.result.sum() - scores.result) / weight
    left = [value for value, _, _ in _statistics(base, result, scores.exponential)]  # (n,) each
    return [float(np.sqrt((n - 1) / n * ((value - value.mean()) ** 2).sum())) for value in left]


def _studentised(scores: Paired, values: list[float], rng: np.random.Generator, resamples: int) -> list[float]:
    """For each statistic, the quantile of |estimate* - estimate| / se* over the resamples."""
    n = len(scores)
    block = max(1, _ROOM // n)
    found: list[list[Array]] = [[] for _ in values]
    for start in range(0, resamples, block):
        drawn = rng.integers(0, n, size=(min(block, resamples - start), n))  # (k, n)
        base, result, weight = scores.base[drawn], scores.result[drawn], scores.weight[drawn]  # (k, n) each
        total = weight.sum(axis=1)
        b, r = base.sum(axis=1) / total, result.sum(axis=1) / total  # (k,)
        base -= b[:, None] * weight  # what is left of each document beside the ratio
        result -= r[:, None] * weight
        scale = n / (n - 1) / total**2
        bb, rr, br = ((x * y).sum(axis=1) * scale for x, y in ((base, base), (result, result), (base, result)))
        for i, (value, by_base, by_result) in enumerate(_statistics(b, r, scores.exponential)):
            variance = by_base**2 * bb + by_result**2 * rr + 2 * by_base * by_result * br
            away, error = np.abs(value - values[i]), np.sqrt(np.maximum(variance, 0))
            known = error > 1e-9 * away  # else one document was drawn n times, and its spread is rounding
            found[i].append(np.divide(away, error, out=np.where(away > 0, np.inf, 0.0), where=known))
    return [float(np.quantile(np.concatenate(parts), LEVEL, method="higher")) for parts in found]


def wilson(share: float, n: int) -> Estimate:
    """Wilson's score interval of a share of n."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def tango(won: int, lost: int, n: int) -> Estimate:
    """(won - lost) / n with its score interval: items that only the one, or only the other, got right of n.

    Tango 1998, Statistics in Medicine 17:891. Where nothing changed it is +- z^2 / (n + z^2).
    """

    def score(delta: float) -> float:
        b = -won - lost + (2 * n - won + lost) * delta
        q = (math.sqrt(max(b * b + 8 * n * lost * delta * (1 - delta), 0.0)) - b) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        away = won - lost - n * delta
        return away / math.sqrt(variance) if variance > 0 else 0.0 if away == 0 else math.inf

    def bound(outside: float) -> float:
        inside = (won - lost) / n
        for _ in range(60):  # the score falls as delta rises, so halving finds where it passes z
            middle = (inside + outside) / 2
            if abs(score(middle)) < _Z:
                inside = middle
            else:
                outside = middle
        return inside

    return Estimate((won - lost) / n, bound(-1.0), bound(1.0))


def sign_flips(differences: Array, seed: int, flips: int) -> float:
    """The two-sided p that the differences fall as often to the one side as to the other.

    A randomisation test: the share of random signs under which the sum lies as far from zero, the signs found among
    them (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).
    """
    found, rng, beyond = abs(float(differences.sum())), np.random.default_rng(seed), 0
    block = max(1, _ROOM // len(differences))
    for start in range(0, flips, block):
        signs = rng.choice((-1.0, 1.0), size=(min(block, flips - start), len(differences)))
        beyond += int((np.abs(signs @ differences) >= found - 1e-9).sum())
    return (beyond + 1) / (flips + 1)


def mcnemar(won: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test that both models get the same share right."""
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
