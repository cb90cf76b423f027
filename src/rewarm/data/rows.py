"""The rows of a training as the model sees them, for people to look at: decoded, with every boundary visible."""

from __future__ import annotations

from typing import TypedDict

from rewarm.data.plan import Plan


class Segment(TypedDict):
    """Part of a document in a row: tokens ``begin`` to ``end`` of ``length``; attention stays inside it."""

    source: str
    document: int
    begin: int
    end: int
    length: int
    text: str


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
