"""The before/after table again, from the items that a run keeps: to check a report, and to compare any two models.

``results/baseline.json`` and ``results/evaluate.json`` of a run hold every score of every document and item, of the
base and of the result. Nothing else is needed to compute the table: no model, no data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import orjson

from rewarm.core.errors import DataError
from rewarm.report.compare import Item, Kind, Role, Row, compare, compare_tasks
from rewarm.report.intervals import FEWEST

Half = Literal["development", "test"]
Scores = dict[str, Any]
"""What such a file holds: ``texts``, and ``tasks`` with their metrics."""


def half(items: Sequence[Item], which: Half) -> list[Item]:
    """That half of the items, parted by a hash; all of them where a half would be too few for an interval."""
    parts: dict[Half, list[Item]] = {"development": [], "test": []}
    for item in items:
        parts["test" if sha256(str(item["id"]).encode()).digest()[0] % 2 else "development"].append(item)
    return parts[which] if min(map(len, parts.values())) >= FEWEST else list(items)


def read_scores(path: Path) -> Scores:
    """The items of one model.

    Raises:
        DataError: if the file is not there, or damaged.
    """
    try:
        found: Scores = orjson.loads(path.read_bytes())
        return {"texts": found["texts"], "tasks": found["tasks"]}
    except FileNotFoundError:
        raise DataError("this run keeps no items: it has not come so far", where=path) from None
    except (OSError, orjson.JSONDecodeError, KeyError) as error:
        raise DataError(f"the items cannot be read: {error}", where=path) from None


def recompute(report: Mapping[str, Any], base: Scores, result: Scores) -> list[Row]:
    """The rows of ``report`` from the items of both models, in another order perhaps."""
    choice = report["result"].get("choice") or {}
    part: Half | None = "test" if choice.get("rule") == "best" or report.get("pilot") else None
    return _rows(report["rows"], base, result, _seed(report), part, flagged_items(report["data"]["texts"]))


def differences(report: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """What of the report's table is not what ``rows`` say, a line each."""
    found = {(row["task"], row["metric"]): row for row in rows}
    wrong = []
    for told in report["rows"]:
        name = f"{told['task']} ({told['metric']})"
        row = found.pop((told["task"], told["metric"]), None)
        if row is None:
            wrong.append(f"{name}: there are no items of it")
            continue
        fields = [key for key, value in row.items() if not _same(told.get(key), value)]
        wrong += [f"{name}: {key} is {told.get(key)} in the report and {row[key]} from the items" for key in fields]  # type: ignore[literal-required]
    return wrong + [f"{task} ({metric}): it is not in the report" for task, metric in found]


def compare_scores(report: Mapping[str, Any], before: Scores, after: Scores) -> tuple[list[Row], list[str]]:
    """The table of two models over the documents and items that both were scored on, and what was left out.

    ``report`` is that of the model ``after``: it says what was to be learned and what to be kept.

    Raises:
        DataError: if there is nothing that both were scored on.
    """
    notes: list[str] = []
    first: Scores = {"texts": {}, "tasks": {}}
    second: Scores = {"texts": {}, "tasks": {}}
    for kind in ("texts", "tasks"):
        for name in (name for name in after[kind] if name in before[kind]):
            ours, theirs = _items(before[kind][name]), _items(after[kind][name])
            common = [id for id in theirs if id in ours and _identity(ours[id]) == _identity(theirs[id])]
            if len(common) < max(len(ours), len(theirs)):
                notes.append(f"{name}: {len(common):,} common items, of {len(ours):,} and {len(theirs):,}")
            if common:
                first[kind][name] = _with_items(before[kind][name], [ours[id] for id in common])
                second[kind][name] = _with_items(after[kind][name], [theirs[id] for id in common])
        if left := sorted(set(before[kind]) ^ set(after[kind])):
            notes.append(f"only one of the two was scored on {', '.join(left)}")
    if not second["texts"] and not second["tasks"]:
        raise DataError("the two models were scored on nothing in common", remedy="give both recipes the same panels")
    return _rows(report["rows"], first, second, _seed(report), None, flagged_items(report["data"]["texts"])), notes


def flagged_items(texts: Iterable[Mapping[str, Any]]) -> dict[str, set[str]] | None:
    """Ids of the benchmark items found in what was trained on, by task; None where not all sources were searched."""
    trained = [text for text in texts if text["role"] != "panel"]
    searched = {text["name"] for text in trained if text["decontaminated"]}
    if not searched or not searched >= {text["name"] for text in trained if text["role"] == "source"}:
        return None
    found: dict[str, set[str]] = {}
    for text in trained:
        for rule, items in text["flagged"].items():
            found.setdefault(rule.partition("-gram of ")[2], set()).update(items)
    return found


def text_rows(
    kinds: Mapping[str, Kind],
    base: Mapping[str, Sequence[Item]],
    result: Mapping[str, Sequence[Item]],
    seed: int,
    part: Half | None,
) -> list[Row]:
    """A row for each text that ``result`` has, over the documents in it; with ``part``, over those of that half.

    All that ``base`` has are parted: what a few of them have decided is not reported on the same ones.
    """
    rows = []
    for name, kind in kinds.items():
        if name in result:
            there = {item["id"] for item in result[name]}
            here = {item["id"] for item in (half(base[name], part) if part else base[name])}
            both = there & here or there
            before, after = ([item for item in items if item["id"] in both] for items in (base[name], result[name]))
            role: Role = "gain" if kind == "source" else "forgetting"
            rows.append(compare(name, "bits_per_byte", role, before, after, seed=seed, kind=kind))
    return rows


def _rows(
    told: Sequence[Row], base: Scores, result: Scores, seed: int, part: Half | None, flagged: dict[str, set[str]] | None
) -> list[Row]:
    kinds = {row["task"]: row["kind"] for row in told if row["kind"] != "task"}
    rows = text_rows(kinds, base["texts"], result["texts"], seed, part)
    general = {row["task"] for row in told if row["kind"] == "task" and row["role"] == "forgetting"}
    before, after = ({name: _result(name, task) for name, task in one["tasks"].items()} for one in (base, result))
    return [*rows, *compare_tasks(before, after, general, seed=seed, flagged=flagged)]


def _result(name: str, task: Mapping[str, Any]) -> Any:
    """A task's scores as ``compare_tasks`` takes them."""
    metrics = {metric: SimpleNamespace(**figure) for metric, figure in task["metrics"].items()}
    return SimpleNamespace(asked=name, metrics=metrics, items=task["items"])


def _seed(report: Mapping[str, Any]) -> int:
    return int(report["hyperparameters"]["seed"]["value"])


def _items(scored: Any) -> dict[str, Item]:
    return {str(item["id"]): item for item in (scored if isinstance(scored, list) else scored["items"])}


def _with_items(scored: Any, items: list[Item]) -> Any:
    return items if isinstance(scored, list) else {**scored, "items": items}


def _identity(item: Item) -> Any:
    """What tells that two models read the same: the hash of a task's item; a text's id is its hash already."""
    return item.get("hash", item.get("bytes"))


def _same(told: Any, value: Any) -> bool:
    """Whether two figures are equal, but for the last digits: sums in another order differ there."""
    if isinstance(value, dict) and isinstance(told, dict):
        return all(_same(told.get(key), one) for key, one in value.items())
    if isinstance(value, float) and isinstance(told, (int, float)):
        return math.isclose(told, value, rel_tol=1e-9, abs_tol=1e-12)
    return bool(told == value)
