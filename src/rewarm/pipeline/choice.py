"""Which weights of a training are published, by a rule that stands in the recipe before anything is scored.

With ``publish: best`` it is the candidate of the greatest gain whose forgetting lies within ``max_forgetting``.
Whoever picks the best of several by a score cannot report that score: it flatters. So every text's held-out
documents are parted in two by a hash; the one half (development) chooses, the other (test) is reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rewarm.core.errors import UserError
from rewarm.report.compare import Headline, Row, headline


def keeps(rows: Sequence[Row], max_forgetting: float) -> bool:
    """Whether at most so many per cent were forgotten."""
    return _forgetting(headline(rows)) <= max_forgetting


def choose(candidates: Mapping[str, Sequence[Row]], max_forgetting: float, close: float = 0.0) -> str:
    """The name of the candidate that gains most within the budget; of the one that forgets least, where none is.

    Args:
        close: a gain smaller by this share of the greatest is as good; of such, the one that forgets least is taken.
    """
    found = {name: headline(rows) for name, rows in candidates.items()}
    gains = {name: _gain(both) for name, both in found.items() if _forgetting(both) <= max_forgetting}
    enough = max(gains.values(), default=0.0) - close * abs(max(gains.values(), default=0.0))
    good = [name for name, gain in gains.items() if gain >= enough]
    return min(good or found, key=lambda name: _forgetting(found[name]))


def judge(rule: str, max_forgetting: float | None, rows: Sequence[Row]) -> dict[str, Any]:
    """Whether the chosen weights keep the budget, on the rows that decided; nothing where there is no budget."""
    if max_forgetting is None:
        return {}
    forgetting = _forgetting(headline(rows))
    measured = forgetting if math.isfinite(forgetting) else None
    facts = {"rule": rule, "max_forgetting": max_forgetting, "forgetting": measured}
    return {"choice": {**facts, "kept": forgetting <= max_forgetting}}


def refuse(choice: Mapping[str, Any], weights: str) -> UserError:
    """What a run says that could not keep its budget."""
    which = f"the least of all candidates ({weights})" if choice["rule"] == "best" else weights
    figure = "not measured" if choice["forgetting"] is None else f"{choice['forgetting']:.3g} %"
    return UserError(
        f"nothing is published: forgetting is {figure}, {which}, and max_forgetting is {choice['max_forgetting']:g} %",
        where="evaluation.max_forgetting",
        remedy="raise data.replay.share or lower hyperparameters.learning_rate (pilot: true looks for both); the run's "
        "report says what each candidate gained and forgot",
    )


def _gain(both: Headline) -> float:
    return float(both["gain"]["percent"]) if both["gain"] else 0.0


def _forgetting(both: Headline) -> float:
    """In per cent of the base's bits per byte; endless where it was not measured: no budget is kept blindly."""
    return float(both["forgetting"]["percent"]) if both["forgetting"] else float("inf")
