"""The rows of a training as the model sees them, for people to look at: decoded, with every boundary visible."""

from __future__ import annotations

from typing import TypedDict

from rewarm.data.dataset import Dataset
from rewarm.data.plan import Plan, build_plan
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.recipe import Recipe


class Segment(TypedDict):
    """Part of a document in a row: tokens ``begin`` to ``end`` of ``length``; attention stays inside it."""

    source: str
    document: int
    begin: int
    end: int
    length: int
    text: str


def first_rows(recipe: Recipe, dataset: Dataset, values: Hyperparameters, count: int) -> list[list[Segment]]:
    """The first ``count`` rows of a run, or all, whatever its world size; ``values`` are all filled in."""
    plan = build_plan(recipe, dataset, values)
    return [segments_of(plan, row) for row in range(min(count, plan.total_rows))]


def segments_of(plan: Plan, row: int) -> list[Segment]:
    """What stands in a row, in order, decoded with its control tokens."""
    found: list[Segment] = []
    for piece in plan.pieces(row):
        tokens = plan.documents[piece.source].read(piece.document, piece.begin, piece.end)
        found.append(
            {
                "source": plan.names[piece.source],
                "document": piece.document,
                "begin": piece.begin,
                "end": piece.end,
                "length": piece.length,
                "text": plan.dataset.decode(tokens),
            }
        )
    return found
