"""The report of a run: what changed, on how much text, how sure that is, and how to get it again.

``report.json`` holds every figure; the Markdown and the page are drawn from it alone. Two numbers
stand at its head, gain and forgetting, and are never averaged; each carries its interval, its
denominator and its limits.
"""

from __future__ import annotations

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
from rewarm.evaluate.compare import FEW, Row, headline
from rewarm.pipeline import words
from rewarm.pipeline.page import page
from rewarm.pipeline.plots import draw_plots

SCHEMA = 1
_MOST_POINTS = 400  # of one curve, in the report; the run's events.jsonl keeps them all
_ORDER = ("source", "panel", "replay", "task")
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "numpy", "scipy", "lm_eval")

Points = Sequence[tuple[int, int, float]]


def build_report(
    *,
    name: str,
    base: Mapping[str, Any],
    result: Mapping[str, Any],
    rows: Sequence[Row],
    metrics: Mapping[str, Points],
    data: Mapping[str, Any],
    recipe_text: str,
    resolved: Mapping[str, Any],
    training: Mapping[str, Any],
    run: str | None = None,
    mixture: Mapping[str, Any] | None = None,
    command: str | None = None,
    created: str | None = None,
) -> dict[str, Any]:
    """report.json as a dictionary.

    Args:
        base: reference, fingerprint and parameters of the base model.
        result: what was scored against it (checkpoint, or version).
        rows: the before/after table, from ``rewarm.evaluate.compare``.
        metrics: each metric's points (step, tokens, value), from ``rewarm.core.events.metrics``.
        data: the dataset's manifest.
        resolved: resolved.json: hyperparameters with origin and reason, ignored, hashes, machine.
        training: steps, tokens, seconds and device.
        mixture: ``{"sources": [(name, times seen an epoch)], "replay": (name, share) or None}``, and where it changes
            in the end ``"anneal": {"share": of the tokens, "shares": [(name, share there)]}``; and
            ``"seen": {name: (documents, tokens)}``, what this run read of each.
        command: what repeats the run.
        created: ISO 8601; now unless given.
    """
    texts = sorted(
        (text_figures(entry, mixture) for entry in data["sources"]), key=lambda text: _ORDER.index(text["role"])
    )
    rows = _with_kinds(rows, texts)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "run": run,
        "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
        "base": {key: base.get(key) for key in ("reference", "fingerprint", "parameters")},
        "result": dict(result),
        "headline": headline(rows),
        "rows": rows,
        "curves": {metric: _thinned(points) for metric, points in metrics.items()},
        "data": {
            "hash": resolved.get("dataset"),
            "tokenizer": data.get("tokenizer"),
            "texts": texts,
            "english_bytes_per_token": data.get("english_bytes_per_token"),
            "near_duplicates": data.get("near_duplicates"),
            "replay_share": mixture["replay"][1] if mixture and mixture["replay"] else None,
            "anneal": mixture.get("anneal") if mixture else None,
        },
        "training": _training(training, metrics),
        "hyperparameters": dict(resolved.get("hyperparameters", {})),
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
    write_file(folder / "report.html", page(report, draw_plots(report)))


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
    if any(row["kind"] == "task" for row in rows):
        found.append("Whether benchmark items stand in the training text was not checked.")
        found.append("Benchmark tasks stand in neither headline number.")
    else:
        found.append("Bits per byte cannot see a loss of in-context learning (arXiv 2506.00288); no task probed it.")
    return found


def _names(rows: Iterable[Row]) -> str:
    return ", ".join(dict.fromkeys(row["task"] for row in rows))


def _with_kinds(rows: Sequence[Row], texts: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows, what was learned first, each knowing whether it measures a source, a panel, the replay or a task."""
    roles = {text["name"]: text["role"] for text in texts}
    known: list[Row] = [{**row, "kind": roles.get(row["task"], "task")} for row in rows]
    return sorted(known, key=lambda row: _ORDER.index(row["kind"]))


def text_figures(entry: Mapping[str, Any], mixture: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One source, replay or panel: documents in, and where each of them went."""
    rejected, filtered = dict(entry.get("rejected", {})), dict(entry.get("filtered", {}))
    tokens, size = entry["tokens"] + entry["held_out_tokens"], entry["bytes"] + entry["held_out_bytes"]  # all kept
    weights = dict(mixture["sources"]) if mixture else {}
    documents_seen, tokens_seen = (mixture or {}).get("seen", {}).get(entry["name"], (None, None))
    return {
        "name": entry["name"],
        "role": entry["role"],
        "documents_in": entry["documents_in"],
        "accepted": entry["accepted"],
        "held_out": entry["held_out"],
        "rejected": rejected,
        "filtered": filtered,
        "bytes": size,
        "tokens": tokens,
        "held_out_bytes": entry["held_out_bytes"],
        "held_out_tokens": entry["held_out_tokens"],
        "bytes_per_token": size / tokens if tokens else None,
        "weight": weights.get(entry["name"]),
        "documents_seen": documents_seen,
        "tokens_seen": tokens_seen,
        "bad_files": list(entry.get("bad_files", [])),
        "ignored_files": dict(entry.get("ignored_files", {"count": 0, "first": []})),
        "samples": dict(entry.get("samples", {})),
        "sites": list(entry.get("sites", [])),
    }


def _training(training: Mapping[str, Any], metrics: Mapping[str, Points]) -> dict[str, Any]:
    speeds = sorted(value for _, _, value in metrics.get("perf/tokens_per_second", ()))
    losses = [value for _, _, value in metrics.get("train/loss", ())]
    return {
        **training,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
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


# --- Markdown ---


def markdown(report: Mapping[str, Any]) -> str:
    """The report as GitHub-flavoured Markdown."""
    parts = [
        f"# {words.plain(report['name'])}: before and after",
        f"Base model `{words.code(report['base']['reference'])}`, {words.short_date(report['created'])}.",
        *(words.headline_markdown(line) for line in words.headlines(report)),
        "## Before and after",
        results_table(report["rows"]),
        *(words.plain(note) for note in words.notes(report["rows"])),
        "## Training",
        words.markdown_table(("", ""), words.training_facts(report)),
        "## Data",
        data_table(report["data"]),
        *(words.plain(line) for line in words.data_notes(report["data"])),
        "## What this does not show",
        "\n".join(f"- {words.plain(line)}" for line in report["limits"]),
    ]
    if report["ignored"]:
        lines = [f"- `{words.code(item['field'])}`: ignored because {item['because']}" for item in report["ignored"]]
        parts += ["## Ignored settings", "\n".join(lines)]
    repeat = report["repeat"]
    parts += [
        "## How to get it again",
        words.fenced(repeat["command"], "sh"),
        words.fenced(repeat["recipe"], "yaml"),
        words.markdown_table(("", ""), words.repeat_facts(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def results_table(rows: Sequence[Row]) -> str:
    """The before/after table in Markdown."""
    return words.markdown_table(words.RESULT_HEADS, [words.result_cells(row) for row in rows])


def data_table(data: Mapping[str, Any]) -> str:
    """The table of sources in Markdown."""
    return words.markdown_table(*words.data_rows(data["texts"]))
