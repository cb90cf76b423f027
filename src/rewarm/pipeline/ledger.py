"""Which documents went into a step of a run, and which versions of the Model Hub have seen a text."""

from __future__ import annotations

import contextlib
import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from rewarm.core.errors import DataError, UserError
from rewarm.core.run import Run
from rewarm.core.workspace import Workspace
from rewarm.data.dataset import Dataset
from rewarm.data.plan import Plan, build_plan
from rewarm.data.rows import Segment, segments_of
from rewarm.data.scan import Scan, identity
from rewarm.data.selection import read_choice
from rewarm.data.shards import HELD, TRAIN
from rewarm.hub.models import list_models
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.load import recipe_of
from rewarm.recipe.pilot import with_choice


class Order(NamedTuple):
    """What a run trains on: its rows in order, how many an update has, and the updates that left no trace."""

    plan: Plan
    rows_per_step: int
    rewinds: list[tuple[int, int]]


class Sighting(NamedTuple):
    """A text in a version's own training data, or (without a source) in those of its base."""

    version: str
    source: str
    document: int | None
    role: str  # trained, held out, or through its base
    steps: list[int] | None  # the updates that it stood in, where the run is still there


def order_of(run: Run) -> Order:
    """The order of a run's training. Raises ``UserError`` where the run has not come that far."""
    prepared, trained = run.stage("prepare"), run.stage("train")
    if prepared is None:
        raise UserError("has not prepared its data yet", where=run.id, remedy=f"rewarm runs logs -f {run.id}")
    facts, baseline = prepared["facts"], run.stage("baseline")
    values = Hyperparameters.model_validate(facts["hyperparameters"])
    recipe = recipe_of(run)
    if recipe.has_pilot and baseline is None:
        raise UserError("has not chosen its replay yet", where=run.id, remedy=f"rewarm runs logs -f {run.id}")
    recipe, values = with_choice(recipe, values, baseline and baseline["facts"])
    dataset = Dataset.open(run.workspace.datasets / facts["dataset"], verify=False)
    rows = values.batch_size * values.gradient_accumulation_steps * recipe.infrastructure.world_size
    rewinds: list[tuple[int, int]] = []
    if trained is not None:
        rows, rewinds = trained["facts"]["rows_per_step"], trained["facts"]["rewinds"]
    else:
        from rewarm.train.checkpoint import list_checkpoints, read_state  # and torch, seconds that few questions need

        if there := list_checkpoints(run.checkpoints):
            state = read_state(there[-1])
            rows, rewinds = state["identity"]["rows of an update"], state["skipped"]
    return Order(build_plan(recipe, dataset, values), rows, rewinds)


def documents_of(run: Run, step: int) -> tuple[list[Segment], bool]:
    """What stood in update ``step`` (from 1), row by row, and whether it left a trace in the weights."""
    order = order_of(run)
    steps = -(-order.plan.total_rows // order.rows_per_step)
    if not 1 <= step <= steps:
        raise UserError(f"there is no step {step}", where=run.id, remedy=f"take one from 1 to {steps}")
    rows = range((step - 1) * order.rows_per_step, min(step * order.rows_per_step, order.plan.total_rows))
    found = list(itertools.chain.from_iterable(segments_of(order.plan, row) for row in rows))
    return found, not _left_no_trace(order, step)


def _left_no_trace(order: Order, step: int) -> bool:
    if not order.rewinds:
        return False
    from rewarm.train.guard import was_skipped  # and torch

    return was_skipped(order.rewinds, step)


def mark_of(given: str) -> bytes:
    """What a text is known by: of the file ``given``, as it was after cleaning, or written out as 32 hex digits."""
    path = Path(given)
    if path.is_file():
        return identity(unicodedata.normalize("NFC", path.read_text(encoding="utf-8")).encode())
    with contextlib.suppress(ValueError):
        if len(mark := bytes.fromhex(given)) == 16:
            return mark
    raise UserError("is neither a file nor a hash of 32 hex digits", where=given)


def sightings(workspace: Workspace, mark: bytes) -> Iterator[Sighting]:
    """Every version that has seen the text, the oldest of each name first.

    Raises:
        DataError: what was kept of a dataset's texts is gone, so nobody can tell.
    """
    seen = set()
    for version in list_models(workspace.models):
        lineage, name = version.lineage, str(version)
        dataset = lineage.get("dataset")  # an imported version has none
        for source, document, role in _places(workspace, dataset, mark) if dataset else ():
            steps = _steps(workspace, lineage["run"], source, document) if role == "trained" else None
            seen.add(name) if role == "trained" else None
            yield Sighting(name, source, document, role, steps)
        if lineage.get("base", {}).get("reference") in seen:
            seen.add(name)
            yield Sighting(name, "", None, "through its base", None)


def _places(workspace: Workspace, dataset: str, mark: bytes) -> Iterator[tuple[str, int, str]]:
    """Source, index and role of a text in a dataset."""
    manifest = workspace.datasets / dataset / "manifest.json"
    if not manifest.is_file():
        raise DataError("this dataset is gone, so nobody can tell what is in it", where=manifest.parent)
    every = orjson.loads(manifest.read_bytes())["sources"]
    if (chosen := read_choice(workspace.datasets / ".choices" / f"{dataset}.bin")) is None:
        raise DataError("what became of its documents is not known any more", where=manifest.parent)
    for source, of_source in zip(every, chosen.choices, strict=True):
        before = {TRAIN: 0, HELD: 0}
        for name, flags in zip(source["scans"], of_source, strict=True):
            scan = Scan.load(workspace.datasets / ".scans" / f"{name}.scan")
            if scan is None:
                raise DataError("what was read of this source is gone or damaged", where=source["name"])
            for index in np.flatnonzero((scan.ids == np.frombuffer(mark, np.uint8)).all(1)):
                if (flag := flags[index]) in before:
                    role = "trained" if flag == TRAIN else "held out"
                    yield source["name"], before[flag] + int((flags[:index] == flag).sum()), role
            before = {flag: count + int((flags == flag).sum()) for flag, count in before.items()}


def _steps(workspace: Workspace, run: str, source: str, document: int) -> list[int] | None:
    """The updates of the published checkpoint that a document stood in."""
    found = Run(workspace.runs / run)
    trained = found.stage("train") if found.path.is_dir() else None
    if trained is None:
        return None
    order = order_of(found)
    rows = order.plan.rows_with(source, document)
    steps = {row // order.rows_per_step + 1 for row in rows}
    return sorted(s for s in steps if s <= trained["facts"]["steps"] and not _left_no_trace(order, s))
