"""What a recipe would do, found out before anything heavy starts."""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewarm.cli.show import console, print_table, progress_bar
from rewarm.core.amounts import amount, duration, size
from rewarm.core.errors import EXIT_DONE, EXIT_RESOURCE, DataError
from rewarm.core.storage import free_bytes
from rewarm.core.workspace import Workspace
from rewarm.data.dataset import Dataset, SourceInfo
from rewarm.data.plan import build_plan, sizes_of
from rewarm.data.prepare import find_dataset
from rewarm.data.sample import Estimate as Sampled
from rewarm.data.sample import sample_texts, with_own_replay
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.models.folder import is_folder
from rewarm.pipeline.base import Base, locate
from rewarm.recipe.estimate import (
    Estimate,
    Scored,
    Times,
    cost,
    estimate,
    flops_per_second,
    held_out,
    measuring_advice,
    scored,
    scoring_seconds,
    shortages,
)
from rewarm.recipe.facts import Machine
from rewarm.recipe.mixture import build_mixture, describe
from rewarm.recipe.pilot import RUNS, pilot_steps
from rewarm.recipe.recipe import Recipe
from rewarm.recipe.resolve import Resolved, resolve, training_tokens
from rewarm.recipe.verdicts import chat_advice, check_chat, document_end_advice, replay_advice
from rewarm.train.calendar import build_calendar

_NONE = ("pilot", 0.0)


@dataclass(frozen=True)
class _Texts:
    """What is known of the texts: exactly where the dataset exists already, else from samples."""

    shown: dict[str, Sampled]
    sizes: dict[str, int]
    """Tokens to train on."""
    held: dict[str, Scored]
    dataset: Dataset | None = None


def examine(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    """The findings as one JSON object; what makes the run impossible is under ``problems``.

    Raises:
        UserError: if model or texts cannot be read at all.
    """
    tasks, folders = recipe.evaluation.all_tasks, recipe.evaluation.folders
    if tasks or any(folders):
        from rewarm.evaluate.harness import check_tasks  # torch and the harness, which few checks need
        from rewarm.pipeline.items import with_items

        check_tasks(tasks, *folders)
        recipe = with_items(recipe, workspace, None)  # as a run had them when it made the dataset
    with progress_bar() as progress:
        of_a_hub = "/" in recipe.base_model and not is_folder(recipe.base_model)
        base = locate(recipe.base_model, workspace, progress, weights=not of_a_hub)  # those are fetched by the run
        given = recipe
        if recipe.leaves_replay_open:
            recipe = with_own_replay(recipe, base.folder, 0.25)
        texts = _texts(recipe, base, workspace)
    check_chat(recipe, base.folder)
    instruct = recipe.evaluation.instruct_model
    if instruct and not of_a_hub and (is_folder(instruct) or "@" in instruct):  # what a hub has is checked by the run
        from rewarm.pipeline.prepare import locate_instruct

        locate_instruct(recipe, base, workspace, lambda what, done, total, unit: None)
    tokenizer = DocumentTokenizer.load(base.folder, recipe.data.document_tokens)
    ends = [*document_end_advice(recipe, tokenizer), *chat_advice(recipe, base.folder), *replay_advice(given)]
    machine = Machine.here()
    resolved = resolve(recipe, base.facts, texts.sizes, machine)
    values = resolved.hyperparameters
    speed = flops_per_second(machine, resolved.device)
    needs = _needs(recipe, base, texts, resolved, speed)
    asked, bytes_on_curve = _asked(recipe, base.folder, tokenizer), recipe.evaluation.bytes_on_curve
    scores = {name: scored(held, recipe.evaluation.max_bytes_per_source) for name, held in texts.held.items()}
    evaluations = _evaluations(recipe, resolved, needs)
    once = scoring_seconds(base.facts, scores.values(), speed)
    point = scoring_seconds(base.facts, (scored(held, bytes_on_curve) for held in texts.held.values()), speed)
    answering = scoring_seconds(base.facts, asked.values(), speed)
    training = None if needs.seconds is None or point is None else needs.seconds + evaluations * point
    judging = None if once is None or answering is None else once + answering
    trying = _piloting(recipe, needs, point)
    times = Times(0.0 if texts.dataset else None, judging, trying, training, judging)
    free = free_bytes(workspace.root)
    problems = shortages(needs, base.facts, values, machine, resolved.place, free, workspace.root)
    return {
        "name": recipe.name,
        "base_model": {"reference": base.reference, "folder": str(base.folder), "parameters": base.parameters},
        "dataset": texts.dataset and texts.dataset.hash,
        "texts": {name: asdict(text) for name, text in texts.shown.items()},
        "scored": {name: asdict(score) for name, score in scores.items()},
        "tasks": {name: {"requests": task.documents, "tokens": task.tokens} for name, task in asked.items()},
        "mixture": describe(build_mixture(recipe.data, texts.sizes), texts.sizes, values.epochs),
        "needs": asdict(needs),
        "times": {**asdict(times), "total": times.total},
        "device_hours": None if times.total is None else times.total / 3600 * resolved.devices,
        "cost": cost(recipe.infrastructure.cost_per_hour, times.total, resolved.devices),
        "machine": asdict(machine),
        **resolved.to_json(),
        "advice": [*resolved.advice, *ends, *measuring_advice(scores, times, evaluations * (point or 0.0))],
        "problems": problems,
        "exit_code": EXIT_RESOURCE if problems else EXIT_DONE,
    }


def _asked(recipe: Recipe, base: Path, tokenizer: DocumentTokenizer) -> dict[str, Scored]:
    """The requests of each benchmark task, and the tokens of them all."""
    asked = recipe.evaluation
    if not asked.all_tasks:
        return {}
    from rewarm.evaluate.harness import sample_requests

    found = sample_requests(base, asked.all_tasks, *asked.folders, num_fewshot=asked.num_fewshot, limit=asked.limit)
    work = {}
    for name, (requests, texts) in found.items():
        sizes = sum(len(text.encode()) for text in texts), sum(map(len, tokenizer.encode_batch(texts)))
        work[name] = Scored(requests, *(round(size / max(1, len(texts)) * requests) for size in sizes))
    return work


def _texts(recipe: Recipe, base: Base, workspace: Workspace) -> _Texts:
    dataset = None
    if recipe.data.replay is None or recipe.data.replay.generate is None:
        with contextlib.suppress(DataError):  # a damaged one is made again; a missing text is told of below
            dataset = find_dataset(recipe, base.folder, workspace.datasets)
    if dataset is not None:
        entries = {entry["name"]: entry for entry in dataset.manifest["sources"]}
        whole = {name: (_all(info), _held(info)) for name, info in dataset.sources.items()}
        shown = {
            name: Sampled(entries[name]["files"], t.bytes, t.documents, t.tokens, True, entries[name]["filtered"])
            for name, (t, _) in whole.items()
        }
        return _Texts(shown, sizes_of(dataset), {name: held for name, (_, held) in whole.items()}, dataset)
    shown = _sampled(recipe, base)
    panels = {panel.name for panel in recipe.evaluation.panels}
    held = {
        name: held_out(t.documents, t.bytes, t.tokens, 1.0 if name in panels else recipe.data.held_out)
        for name, t in shown.items()
    }
    return _Texts(shown, {name: text.tokens - held[name].tokens for name, text in shown.items()}, held)


def _held(info: SourceInfo) -> Scored:
    return Scored(info.held_out_documents, info.held_out_bytes, info.held_out_tokens)


def _all(info: SourceInfo) -> Scored:
    held = _held(info)
    return Scored(info.documents + held.documents, info.bytes + held.bytes, info.tokens + held.tokens)


def _sampled(recipe: Recipe, base: Base) -> dict[str, Sampled]:
    """An estimate for each text; replay that the base model is yet to write is what the recipe asks for."""
    replay = recipe.data.replay
    if replay is None or replay.generate is None:
        return sample_texts(recipe, base.folder)
    there = recipe.model_copy(update={"data": recipe.data.model_copy(update={"replay": None})})
    wanted = replay.generate.tokens
    documents = -(-wanted // replay.generate.max_tokens)
    return {**sample_texts(there, base.folder), replay.name: Sampled(0, 4 * wanted, documents, wanted)}


def _needs(recipe: Recipe, base: Base, texts: _Texts, resolved: Resolved, speed: float | None) -> Estimate:
    """With the plan's own count of tokens and rows where the dataset exists."""
    values, place = resolved.hyperparameters, resolved.place
    if texts.dataset is not None:
        plan = build_plan(recipe, texts.dataset, values)
        return estimate(base.facts, values, plan.total_tokens, speed, rows=plan.total_rows, place=place)
    total = training_tokens(recipe, texts.sizes, values.epochs)
    for row in describe(build_mixture(recipe.data, texts.sizes), texts.sizes, values.epochs):
        text = texts.shown[row["name"]]
        if row["passes"] and row["passes"] % 1:  # whole documents are taken: half a one too much, and one at least
            mean = text.tokens / max(1, text.documents)
            total += math.ceil(max(mean / 2, mean - row["passes"] * texts.sizes[row["name"]]))
    dataset_bytes = sum(texts.sizes.values()) * (2 if base.facts.vocabulary <= 65536 else 4)
    return estimate(base.facts, values, total, speed, dataset_bytes, place=place)


def _evaluations(recipe: Recipe, resolved: Resolved, needs: Estimate) -> int:
    """How often an evaluation interrupts the training; behind the last step only where the best is to be kept."""
    values = resolved.hyperparameters
    calendar = build_calendar(
        values,
        total=needs.steps,
        rows_per_step=values.batch_size * values.gradient_accumulation_steps * resolved.devices,
        epoch_ends=[math.ceil(needs.rows * (epoch + 1) / values.epochs) for epoch in range(values.epochs)],
        evaluate_at=[max(1, round(share * needs.steps)) for share in recipe.evaluation.at],
    )
    return len(calendar.evaluations - (set() if values.save_best_checkpoint else {needs.steps}))


def _piloting(recipe: Recipe, needs: Estimate, point: float | None) -> float | None:
    """Seconds of all short runs that the pilot may do, each with an evaluation behind it."""
    if not recipe.has_pilot:
        return 0.0
    if needs.seconds is None or point is None:
        return None
    return RUNS * (needs.seconds * pilot_steps(needs.steps) / needs.steps + point)


def print_findings(found: dict[str, Any]) -> None:
    """The findings for people; nothing that stands in them is left out."""
    out, base = console(), found["base_model"]
    out.print(f"{found['name']}: {base['reference']}, {amount(base['parameters'])} parameters, on {found['device']}\n")
    _print_texts(found)
    _print_plan(found)
    chosen = [
        (name, str(item["value"]).lower() if isinstance(item["value"], bool) else item["value"], item["reason"])
        for name, item in found["hyperparameters"].items()
        if item["origin"] == "recommended"
    ]
    if chosen:
        print_table("chosen for you", ("hyperparameter", "value", "because"), chosen)
    for item in found["ignored"]:
        out.print(f"ignored: {item['field']}, because {item['because']}")
    for note in found["advice"]:
        out.print(f"note: {note}")
    for problem in found["problems"]:
        out.print(f"problem: {problem}")


def _print_texts(found: dict[str, Any]) -> None:
    """What is read, what is asked, and how much of each text comes in training."""
    heads = ("name", "files", "documents", "text", "tokens", "documents scored", "dropped")
    rows: list[Any] = []
    for name, t in found["texts"].items():
        counts = (amount(t["files"]), _about(t, t["documents"]), size(t["bytes"]), _about(t, t["tokens"]))
        rows.append((name, *counts, f"~{amount(found['scored'][name]['documents'])}", _dropped(t)))
    print_table("texts", heads, rows, right=(1, 2, 3, 4, 5))
    if found["tasks"]:
        rows = [(name, f"~{amount(t['requests'])}", f"~{amount(t['tokens'])}") for name, t in found["tasks"].items()]
        print_table("the benchmark tasks", ("task", "requests", "tokens"), rows, right=(1, 2))
    about = _sure(found)
    rows = []
    for row in found["mixture"]:
        passes = "" if row["passes"] is None else f"{about}{row['passes']:.2f}"
        end = "as before" if row["anneal_share"] is None else f"{100 * row['anneal_share']:.1f} %"
        rows.append((row["name"], about + amount(row["epoch_tokens"]), f"{100 * row['share']:.1f} %", passes, end))
    mixture = ("source", "tokens an epoch", "share", "passes in all", "share in the end")
    print_table("the mixture", mixture, rows, right=(1, 2, 3, 4))


def _print_plan(found: dict[str, Any]) -> None:
    """The size of the run, and what it takes."""
    needs, about = found["needs"], _sure(found)
    rows = [
        ("training tokens", about + amount(needs["tokens"])),
        ("sequences", about + amount(needs["rows"])),
        ("steps", about + amount(needs["steps"])),
        ("memory" + (" of each device" if found["devices"] > 1 else ""), f"~{size(needs['memory'])}"),
        ("disk", f"~{size(needs['disk'])} (checkpoints of {size(needs['checkpoint'])})"),
    ]
    print_table("the run", ("what", "how much"), rows)
    times = [(stage, _time(stage, seconds)) for stage, seconds in found["times"].items() if (stage, seconds) != _NONE]
    if found["device_hours"] is not None:
        times.append((f"{'GPU' if found['device'] == 'cuda' else 'CPU'}-hours", f"~{found['device_hours']:.3g}"))
    if found["cost"]:
        times.append(("cost", f"~{found['cost']}"))
    print_table("the time", ("stage", "how long"), times)


def _sure(found: dict[str, Any]) -> str:
    """What stands before a figure that the plan of the dataset gives, once it is there."""
    return "" if found["dataset"] else "~"


def _dropped(text: dict[str, Any]) -> str:
    """How many documents the steps drop, and most of them for what."""
    if not text["dropped"]:
        return ""
    return f"{_about(text, sum(text['dropped'].values()))}, most by {max(text['dropped'], key=text['dropped'].get)}"


def _about(text: dict[str, Any], value: int) -> str:
    return ("" if text["exact"] else "~") + amount(value)


def _time(stage: str, seconds: float | None) -> str:
    if stage == "prepare":
        return "not known; it is not in the total" if seconds is None else "done already"
    return "not known for this device" if seconds is None else f"~{duration(seconds)}"
