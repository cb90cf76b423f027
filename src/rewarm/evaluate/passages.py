"""Which items of a task ask about the same text: such are right or wrong together, and an interval must know it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rewarm.core.storage import sha256_bytes

FIELDS = ("passage", "article", "story", "context", "flores_passage")
"""Fields that hold what several items ask about, as boolq, drop, race, coqa, squad and belebele call it."""
LONG = 200
"""Characters from which on a common beginning is a passage, if it is half of the shorter prompt as well."""


def passages(documents: Sequence[Mapping[str, Any]], prompts: Sequence[str]) -> list[str | None]:
    """For each item a mark that those on its passage share; None where it has no passage, or one to itself.

    Args:
        prompts: without examples; used where no field holds the passage, as it stands within the question.
    """
    fields = [next((d[f] for f in FIELDS if isinstance(d.get(f), str)), None) for d in documents]
    if any(text is not None for text in fields):
        return [None if text is None else _mark(text) for text in fields]
    found: list[str | None] = [None] * len(prompts)
    for a, b in pairwise(sorted(range(len(prompts)), key=prompts.__getitem__)):
        shared = os.path.commonprefix([prompts[a], prompts[b]])  # noqa: RUF071 - of characters, not of folders
        if len(shared) >= max(LONG, min(len(prompts[a]), len(prompts[b])) / 2):
            found[a] = found[b] = found[a] or _mark(shared)
    return found


def _mark(text: str) -> str:
    return sha256_bytes(text.encode(errors="surrogatepass"))[:16]
