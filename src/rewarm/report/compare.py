"""What changed between two models: the rows of the before/after table, and the two numbers above it.

Gain (on what was to be learned) and forgetting (on what was to be kept) are never averaged
together. Every row is paired by document or item, and carries its interval, its n and its method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from scipy import stats

from rewarm.report.intervals import (
    FEWEST,
    LEVEL,
    Array,
    Estimate,
    Paired,
    bootstrap,
    mcnemar,
    sign_flips,
    tango,
    wilson,
)

if TYPE_CHECKING:
    from rewarm.evaluate.harness import TaskResult

Item = Mapping[str, Any]
Role = Literal["gain", "forgetting"]
Kind = Literal["source", "replay", "panel", "task"]

AGGREGATIONS = ("mean", "perplexity", "weighted_perplexity", "bits_per_byte")
RESAMPLES = 10_000
FEW = 100  # below this many documents, an interval is called approximate


class Figures(TypedDict):
    """Every number is finite or None; ``percent`` and its bounds are the difference's in per cent of the base."""

    base: float
    base_low: float | None
    base_high: float | None
    result: float
    result_low: float | None
    result_high: float | None
    difference: float
    low: float | None
    high: float | None
    percent: float | None
    percent_low: float | None
    percent_high: float | None
    p: float | None
    p_holm: float | None
    """p corrected for all rows that have one (Holm 1979): below 0.05, one in twenty tables without any change."""
    detectable: float | None
    """The smallest change that would have been found with a chance of 80 %, from the interval's width."""
    level: float
    method: str
    note: str | None


class Row(Figures):
    """One line of the before/after table."""

    task: str
    metric: str
    role: Role
    kind: Kind
    higher_is_better: bool
    n: int
    bytes: int | None
    part_of: str | None
    """The group of tasks whose own figure is of the items of this one and its other tasks."""
    flagged: int | None
    """Items that share a run of words with the training text, where these were looked for."""
    clean: Row | None
    """The same over the other items; None where all are flagged, or none."""


def compare(
    task: str,
    metric: str,
    role: Role,
    base_items: Sequence[Item],
    result_items: Sequence[Item],
    *,
    seed: int,
    kind: Kind | None = None,
    aggregation: str = "mean",
    higher_is_better: bool | None = None,
    resamples: int = RESAMPLES,
) -> Row:
    """The row for one metric of one task, from the items of both models (the same ids on both sides).

    Args:
        metric: ``bits_per_byte`` (items with nll and bytes), or the name of an item's value.
        kind: what was measured; source for a gain and panel for a forgetting unless given.
        aggregation: how values become a figure: mean, or perplexity, weighted_perplexity and
            bits_per_byte, whose values are [log-likelihood, weight].
        higher_is_better: by default, true unless the figure is a perplexity or bits per byte.

    Raises:
        ValueError: if the two sides hold different items, or an aggregation is unknown.
    """
    scores, n_bytes = _pair(metric, aggregation, base_items, result_items)
    likelihood = metric == "bits_per_byte" or aggregation != "mean"
    passages = [item.get("passage", item["id"]) for item in base_items]
    if len(set(passages)) < len(passages):
        figures = _passages(scores.summed(passages), seed, resamples, tested=_is_binary(scores))
    else:
        figures = _answers(scores) if _is_binary(scores) else _texts(scores, seed, resamples)
    better = not likelihood if higher_is_better is None else higher_is_better
    return _row(
        task, metric, role, kind or ("source" if role == "gain" else "panel"), better, len(scores), n_bytes, figures
    )


def _row(
    task: str, metric: str, role: Role, kind: Kind, higher_is_better: bool, n: int, bytes: int | None, figures: Figures
) -> Row:
    return {
        "task": task,
        "metric": metric,
        "role": role,
        "kind": kind,
        "higher_is_better": higher_is_better,
        "n": n,
        "bytes": bytes,
        "part_of": None,
        "flagged": None,
        "clean": None,
        **figures,
    }


def compare_tasks(
    base: Mapping[str, TaskResult],
    result: Mapping[str, TaskResult],
    general: Collection[str] = (),
    *,
    seed: int,
    flagged: Mapping[str, set[str]] | None = None,
) -> list[Row]:
    """A row for each metric of each task, for two models scored by ``rewarm.evaluate.harness.run_tasks``.

    Each p is corrected for the number of rows (``p_holm``). A metric of which no interval is known (F1 over a whole
    corpus, BLEU) gets a row with its figures alone.

    Args:
        general: names asked for whose fall is forgetting; what any other task shows counts as a gain.
        flagged: for each task, the ids of the items that share a run of words with the training text; unset where
            these were not looked for.
    """
    marked = {f"{task}:{item}" for task, items in (flagged or {}).items() for item in items}  # in a group's result
    rows: list[Row] = []
    for name, after in result.items():
        before = base[name]
        role: Role = "forgetting" if after.asked in general else "gain"
        for metric, figure in after.metrics.items():
            better = figure.higher_is_better
            if figure.aggregation in AGGREGATIONS:
                about: dict[str, Any] = {"aggregation": figure.aggregation, "higher_is_better": better}
                row_of = partial(compare, name, metric, role, seed=seed, kind="task", **about)
                found = None if flagged is None else flagged.get(name, set()) | marked
                rows.append(_with_clean(row_of, before.items, after.items, found))
                continue
            was, now = before.metrics[metric].value, figure.value
            alone = _figures(Estimate(was), Estimate(now), Estimate(now - was), "none: not a mean over items")
            rows.append(_row(name, metric, role, "task", better, len(after.items), None, alone))
    groups = {part: name for name, one in result.items() for part in _parts(one, result)}
    return holm([{**row, "part_of": groups.get(row["task"])} for row in rows])


def _parts(pooled: TaskResult, results: Mapping[str, TaskResult]) -> set[str]:
    """The tasks whose items make up a group's result: these are called TASK:ITEM there."""
    parts = {str(item["id"]).rpartition(":")[0] for item in pooled.items}
    return parts if parts <= results.keys() else set()


def _with_clean(
    row_of: Callable[[Sequence[Item], Sequence[Item]], Row],
    base: Sequence[Item],
    result: Sequence[Item],
    flagged: set[str] | None,
) -> Row:
    """The row of all items; with it the row of those that are not flagged."""
    row = row_of(base, result)
    if flagged is None:
        return row
    clean = [(before, after) for before, after in zip(base, result, strict=True) if str(after["id"]) not in flagged]
    row["flagged"] = len(result) - len(clean)
    row["clean"] = row_of(*zip(*clean, strict=True)) if 0 < len(clean) < len(result) else None
    return row


def holm(rows: Sequence[Row]) -> list[Row]:
    """The rows with ``p_holm``: Holm's step-down correction (Scandinavian Journal of Statistics 6:65, 1979)."""
    corrected: dict[int, float] = {}
    highest = 0.0
    tested = sorted((p, i) for i, row in enumerate(rows) if (p := row["p"]) is not None)
    for before, (p, i) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - before)))
        corrected[i] = highest
    return [{**row, "p_holm": corrected.get(i)} for i, row in enumerate(rows)]


def _pair(metric: str, aggregation: str, base: Sequence[Item], result: Sequence[Item]) -> tuple[Paired, int | None]:
    if not base or [item["id"] for item in base] != [item["id"] for item in result]:
        raise ValueError(f"{metric}: the two models were not scored on the same items")
    if metric == "bits_per_byte" and "nll" in base[0]:
        if [item["bytes"] for item in base] != [item["bytes"] for item in result]:
            raise ValueError("bits_per_byte: the two models were not scored on the same texts")
        b, r, w = (_numbers(items, key) for items, key in ((base, "nll"), (result, "nll"), (base, "bytes")))
        return Paired(b / math.log(2), r / math.log(2), w), int(w.sum())
    b, r = _numbers(base, metric), _numbers(result, metric)
    if aggregation == "mean":
        return Paired(b, r, np.ones(len(b))), None
    if aggregation in ("perplexity", "weighted_perplexity"):
        return Paired(-b[:, 0], -r[:, 0], b[:, 1], exponential=True), None
    if aggregation == "bits_per_byte":
        return Paired(-b[:, 0] / math.log(2), -r[:, 0] / math.log(2), b[:, 1]), int(b[:, 1].sum())
    raise ValueError(f"{metric}: no interval is known for the aggregation {aggregation!r}")


def _numbers(items: Sequence[Item], key: str) -> Array:
    values = np.asarray([item[key] for item in items], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{key}: a score is not a finite number")
    return values


def _passages(scores: Paired, seed: int, resamples: int, *, tested: bool) -> Figures:
    """Items that share passages, summed by passage: items on one passage are right or wrong together (2411.00640)."""
    n, change = len(scores), bootstrap(scores, seed, resamples)
    method = f"paired bootstrap over {n:,} passages, symmetric studentised, {resamples:,} resamples, seed {seed}"
    p = sign_flips(scores.result - scores.base, seed, resamples) if tested else None
    if p is not None:
        method += "; p from sign flips of the passages"
    note = f"only {n} passages" if n < FEW else None
    return _figures(*change, method if n >= FEWEST else "none: too few passages", p=p, note=note)


def _texts(scores: Paired, seed: int, resamples: int) -> Figures:
    n, change = len(scores), bootstrap(scores, seed, resamples)
    method = f"paired bootstrap over documents, symmetric studentised, {resamples:,} resamples, seed {seed}"
    note = None
    if change.difference.low is None:
        method, note = "none: too few documents", f"only {n} document{'s' if n > 1 else ''}: too few for an interval"
    elif n < FEW:
        note = f"only {n} documents: the interval is approximate"
    return _figures(*change, method, relative=True, note=note)


def _is_binary(scores: Paired) -> bool:
    values = np.concatenate((scores.base, scores.result))
    return bool((scores.weight == 1).all() and not scores.exponential and np.isin(values, (0.0, 1.0)).all())


def _answers(scores: Paired) -> Figures:
    """Right or wrong answers: a share of n, and how many items only the one or only the other got right."""
    n = len(scores)
    won = int(((scores.result == 1) & (scores.base == 0)).sum())
    lost = int(((scores.base == 1) & (scores.result == 0)).sum())
    notes = [f"only {n} items"] * (n < FEW) + ["no item changed"] * (won + lost == 0)
    return _figures(
        wilson(float(scores.base.mean()), n),
        wilson(float(scores.result.mean()), n),
        tango(won, lost, n),
        "Tango's score interval over paired items; p from McNemar's exact test",
        p=mcnemar(won, lost),
        note="; ".join(notes) or None,
    )


def _figures(
    base: Estimate,
    result: Estimate,
    difference: Estimate,
    method: str,
    *,
    relative: bool = False,
    p: float | None = None,
    note: str | None = None,
) -> Figures:
    whole = base.value if relative and base.value > 0 else None  # of nothing, there is no share
    percent = [None if part is None or whole is None else 100 * part / whole for part in difference]
    return {
        "base": base.value,
        "base_low": base.low,
        "base_high": base.high,
        "result": result.value,
        "result_low": result.low,
        "result_high": result.high,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "percent": percent[0],
        "percent_low": percent[1],
        "percent_high": percent[2],
        "p": p,
        "p_holm": None,
        "detectable": _detectable(difference),
        "level": LEVEL,
        "method": method,
        "note": note,
    }


def _detectable(difference: Estimate) -> float | None:
    """Power 80 % needs 2.80 standard errors where the interval reaches 1.96 of them to either side."""
    if difference.low is None or difference.high is None:
        return None
    return float(
        (difference.high - difference.low) / 2 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / stats.norm.ppf(0.975)
    )


class Headline(TypedDict):
    """Gain and forgetting, each with its interval, never averaged together. None: not measured."""

    gain: dict[str, Any] | None
    forgetting: dict[str, Any] | None


def headline(rows: Sequence[Row]) -> Headline:
    """The two numbers of a run, in per cent of the base's bits per byte.

    ``gain``: how far bits per byte fell, the mean over the sources learned. ``forgetting``: how far
    they rose (below zero: they fell), the mean over the panels that were never replayed, or over the
    replayed text where there is no such panel; the worst of them is named, because a mean can hide
    it. Tasks stand in neither: no rule but a person's knowledge says which of the two they show.
    """
    learned, watched = _bits(rows, "source"), _bits(rows, "panel")
    replayed = not watched
    watched = watched or _bits(rows, "replay")
    gain = {**_mean(learned, -1), "of": [row["task"] for row in learned]} if learned else None
    forgetting: dict[str, Any] | None = None
    if watched:
        worst = max(watched, key=lambda row: row["percent"] or 0.0)
        forgetting = {
            **_mean(watched, 1),
            "of": [row["task"] for row in watched],
            "worst": {"of": worst["task"], **_mean([worst], 1)},
            "replayed": replayed,
        }
    return {"gain": gain, "forgetting": forgetting}


def _bits(rows: Sequence[Row], kind: Kind) -> list[Row]:
    return [
        row for row in rows if row["metric"] == "bits_per_byte" and row["kind"] == kind and row["percent"] is not None
    ]


def _mean(rows: Sequence[Row], sign: int) -> dict[str, float | None]:
    """The mean of the rows' changes in per cent, times ``sign``.

    The texts are independent, so their distances to the bounds add as squares (the method of
    variance estimates recovery, Zou and Donner 2008).
    """
    value = sign * math.fsum(row["percent"] or 0.0 for row in rows) / len(rows)
    below, above = [], []
    for row in rows:
        percent, low, high = row["percent"], row["percent_low"], row["percent_high"]
        if percent is None or low is None or high is None:
            return {"percent": value, "low": None, "high": None}
        below.append(percent - low)
        above.append(high - percent)
    if sign < 0:
        below, above = above, below
    k = len(rows)
    return {"percent": value, "low": value - math.hypot(*below) / k, "high": value + math.hypot(*above) / k}
