"""The report of a run: what changed, on how much text, how sure that is, and how to get it again.

``report.json`` holds every figure; the Markdown and the page are drawn from it alone. Two numbers
stand at its head, gain and forgetting, and are never averaged; each carries its interval, its
denominator and its limits.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

import rewarm
from rewarm.core.manifest import to_json
from rewarm.core.storage import write_file
from rewarm.recipe.pilot import Arm, with_pilot
from rewarm.report import words
from rewarm.report.compare import FEW, Row, headline
from rewarm.report.markdown import markdown
from rewarm.report.page import page

SCHEMA = 1
_MOST_POINTS = 400  # of one curve, in the report; the run's events.jsonl keeps them all
_MOST_SEGMENTS = 8  # of one row of the training
_ORDER = ("source", "panel", "replay", "task")
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "numpy", "scipy", "lm_eval")

Points = Sequence[tuple[int, int, float]]


def build_report(
    *,
    name: str,
    base: Mapping[str, Any],
    result: Mapping[str, Any],
    rows: Sequence[Row],
    candidates: Sequence[Mapping[str, Any]] = (),
    metrics: Mapping[str, Points],
    data: Mapping[str, Any],
    recipe_text: str,
    resolved: Mapping[str, Any],
    training: Mapping[str, Any],
    run: str | None = None,
    pilot: Mapping[str, Any] | None = None,
    mixture: Mapping[str, Any] | None = None,
    first_rows: Sequence[Sequence[Mapping[str, Any]]] = (),
    command: str | None = None,
    created: str | None = None,
) -> dict[str, Any]:
    """report.json as a dictionary.

    Args:
        base: reference, fingerprint and parameters of the base model.
        result: what was scored against it (checkpoint, or version).
        rows: the before/after table, from ``rewarm.report.compare``.
        candidates: other weights of the same training: ``{"weights": their name, "rows": as above}``.
        metrics: each metric's points (step, tokens, value), from ``rewarm.core.events.metrics``.
        data: the dataset's manifest.
        resolved: resolved.json: hyperparameters with origin and reason, ignored, hashes, machine.
        training: steps, tokens, seconds and device.
        pilot: the short runs and what was chosen by them, see ``rewarm.pipeline.pilot``.
        mixture: ``{"sources": [(name, times seen an epoch)], "replay": (name, share) or None}``, and where it changes
            in the end ``"anneal": {"share": of the tokens, "shares": [(name, share there)]}``; and
            ``"seen": {name: (documents, tokens)}``, what this run read of each.
        first_rows: the first rows of the training as the model sees them, from ``rewarm.data.rows``.
        command: what repeats the run.
        created: ISO 8601; now unless given.
    """
    texts = sorted(
        (words.text_figures(entry, mixture) for entry in data["sources"]), key=lambda text: _ORDER.index(text["role"])
    )
    rows = _with_kinds(rows, texts)
    if pilot:
        resolved = with_pilot(resolved, {name: pilot["runs"][pilot["chosen"]][name] for name in Arm._fields})
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "run": run,
        "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
        "base": {key: base.get(key) for key in ("reference", "fingerprint", "parameters")},
        "result": dict(result),
        "headline": headline(rows),
        "rows": rows,
        "candidates": [
            {**other, "headline": headline(kinds), "rows": kinds}
            for other in candidates
            for kinds in [_with_kinds(other["rows"], texts)]
        ],
        "curves": {metric: _thinned(points) for metric, points in metrics.items()},
        "data": {
            "hash": resolved.get("dataset"),
            "tokenizer": data.get("tokenizer"),
            "texts": texts,
            "english_bytes_per_token": data.get("english_bytes_per_token"),
            "near_duplicates": data.get("near_duplicates"),
            "replay_share": mixture["replay"][1] if mixture and mixture["replay"] else None,
            "replay": resolved.get("replay"),
            "anneal": mixture.get("anneal") if mixture else None,
            "first_rows": [_row_figures(row) for row in first_rows],
        },
        "training": _training(training, metrics),
        "pilot": pilot,
        "hyperparameters": resolved.get("hyperparameters", {}),
        "ignored": [dict(item) for item in resolved.get("ignored", [])],
        "repeat": {
            "command": command or "rewarm run recipe.yaml",
            "recipe": recipe_text,
            "hashes": _hashes(base, resolved, data),
            "versions": _versions(),
            "machine": resolved.get("machine"),
        },
    }
    report["limits"] = limits(report)
    told: dict[str, Any] = orjson.loads(to_json(report))  # in the order that a reader of the file sees
    return told


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.json, report.md and report.html (one page that needs nothing else) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "report.json", to_json(report))
    write_file(folder / "report.md", markdown(report))
    write_file(folder / "report.html", page(report))


def limits(report: Mapping[str, Any]) -> list[str]:
    """What the figures do not show, in sentences."""
    rows, forgetting = report["rows"], report["headline"]["forgetting"]
    found = []
    if names := _names(row for row in rows if row["n"] < FEW and row["low"] is not None):
        found.append(f"Fewer than {FEW} documents or items were scored of {names}: those intervals are approximate.")
    if names := _names(row for row in rows if row["n"] < FEW and row["low"] is None):
        found.append(f"Too few documents or items were scored of {names} for an interval: chance may have made it all.")
    if names := _names(row for row in rows if row["n"] >= FEW and row["low"] is None):
        found.append(f"No interval is known for the metric of {names}.")
    found.append("One seed: the intervals cover the choice of documents, not what another training run would change.")
    if len(rows) > 1:
        found.append(f"Each interval holds by itself with 95 %; all {len(rows)} together hold with less.")
    found.append(
        "The held-out text comes from the same sources as the training text. Exact duplicates were removed, near "
        f"duplicates were {'too' if report['data']['near_duplicates'] else 'not looked for'}; other text of the kind "
        "may gain less."
    )
    if forgetting is None:
        found.append("Forgetting was not measured: there is no panel and no replayed text.")
    elif forgetting["replayed"]:
        found.append(
            "Forgetting was measured on the kind of text that was replayed; what was not replayed may have lost more."
        )
    found += _contamination(report["data"]["texts"], any(row["kind"] == "task" for row in rows))
    if any(row["kind"] == "task" for row in rows):
        found.append("Benchmark tasks stand in neither headline number.")
    if not any(row["task"].startswith("in_context") for row in rows):
        said = "Bits per byte cannot see a loss of in-context learning (arXiv 2506.00288)"
        found.append(f"{said}; evaluation.general_tasks: [in_context] probes it, and was not asked for.")
    return found


def _contamination(texts: Sequence[Mapping[str, Any]], tasks: bool) -> list[str]:
    """Whether the training text was held against benchmark items, and what stands in it of them."""
    trained = [text for text in texts if text["role"] != "panel"]
    unchecked = [text["name"] for text in trained if not text["decontaminated"]]
    if not trained or len(unchecked) == len(trained):
        missing = "there was no decontaminate step, so a score may owe something to items that stand in it."
        return [f"Whether benchmark items stand in the training text was not checked: {missing}"] if tasks else []
    flagged = len({(rule, item) for text in trained for rule, items in text["flagged"].items() for item in items})
    found = [
        f"Documents that share a run of words with a benchmark item were not trained on ({flagged:,} items found)."
    ]
    if unchecked:
        found.append(f"Benchmark items were not looked for in {', '.join(unchecked)}.")
    return [*found, "Items in other words, and what the base had read before, are not found that way."]


def _names(rows: Iterable[Row]) -> str:
    return ", ".join(dict.fromkeys(row["task"] for row in rows))


def _with_kinds(rows: Sequence[Row], texts: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows, what was learned first, each knowing whether it measures a source, a panel, the replay or a task."""
    roles = {text["name"]: text["role"] for text in texts}
    known: list[Row] = [{**row, "kind": roles.get(row["task"], "task")} for row in rows]
    return sorted(known, key=lambda row: _ORDER.index(row["kind"]))


def _row_figures(row: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row of the training: how much is in it, and its first segments with the ends of their texts."""
    segments = [{**segment, "text": _ends(segment["text"])} for segment in row[:_MOST_SEGMENTS]]
    return {"tokens": sum(part["end"] - part["begin"] for part in row), "count": len(row), "segments": segments}


def _ends(text: str) -> str:
    """``text``, its middle left out where it is long."""
    head, tail = 300, 150
    if len(text) <= head + tail + 50:
        return text
    return f"{text[:head]} [... {len(text) - head - tail:,} characters ...] {text[-tail:]}"


def _training(training: Mapping[str, Any], metrics: Mapping[str, Points]) -> dict[str, Any]:
    speeds = sorted(value for _, _, value in metrics.get("perf/tokens_per_second", ()))
    losses = [value for _, _, value in metrics.get("train/loss", ())]
    few = max(3, round(0.05 * len(losses))) if len(losses) >= 6 else len(losses) // 2 or len(losses)
    return {
        **training,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "first_loss": math.fsum(losses[:few]) / few if few else None,
        "last_loss": math.fsum(losses[-few:]) / few if few else None,
        "loss_points": few,
    }


def _thinned(points: Points) -> list[list[float]]:
    """At most so many points, evenly over their order, the first and the last among them."""
    if len(points) > _MOST_POINTS:
        last = len(points) - 1
        points = [points[round(i * last / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]
    return [list(point) for point in points]


def _hashes(base: Mapping[str, Any], resolved: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "base": base.get("fingerprint"),
        "dataset": resolved.get("dataset"),
        "tokenizer": data.get("tokenizer"),
        "recipe": resolved.get("recipe"),
        "code": (resolved.get("code") or {}).get("sha256"),
    }
    return {name: str(value) for name, value in found.items() if value}


def _versions() -> dict[str, str]:
    found = {"rewarm": rewarm.__version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
