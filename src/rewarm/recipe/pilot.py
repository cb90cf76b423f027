"""The pilot's rule: which short runs are tried, one after the other, to choose learning rate and replay together.

Each has its own warm-up and decay over 1.5 % of the updates, at least 20. In continual pretraining the loss on the old
text follows log(share of replay) - log(rate): half the rate keeps as much as twice the replay (Sailor, arXiv
2404.03608). So where a run forgets more than it may, the next one replays twice as much, or has half the rate where
that cannot be; where it keeps within, the next one has twice the first rate, or less replay. Of all tried, the one that
gains most within the tolerance is taken, of gains within a twentieth the one that forgets least; where none is within,
the one that forgets least of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rewarm.core.errors import DataError
from rewarm.core.run import Run
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.recipe import Recipe

RUNS = 3
SHARE, FEWEST = 0.015, 20
"""Of the run's updates that each takes, and how many at least: fewer would be the noise of single batches."""
TOLERANCE = 1.0
"""Per cent of forgetting, where the recipe sets no ``max_forgetting``."""
MOST_REPLAY = 0.5
CLOSE = 0.05
"""Share of the greatest gain by which one may be smaller and as good: short runs do not tell such apart."""


class Arm(NamedTuple):
    """What a short run tries."""

    learning_rate: float
    replay_share: float


def pilot_steps(steps: int) -> int:
    """Updates of each short run before a training of ``steps``."""
    return min(steps, max(FEWEST, round(SHARE * steps)))


def next_arm(tried: Sequence[tuple[Arm, bool]], allowed: Callable[[Arm], bool] = lambda arm: True) -> Arm | None:
    """What to try after ``tried``, each with whether it kept the tolerance; None where nothing is left to learn.

    Args:
        allowed: whether there is text enough for so much replay.
    """
    (rate, share), kept = tried[-1]
    if len(tried) == RUNS:
        return None
    failed = [arm for arm, well in tried if not well]
    if kept:
        between = (share + max((arm.replay_share for arm in failed), default=0.0)) / 2
        ideas = [Arm(2 * tried[0][0].learning_rate, share), Arm(rate, between)]
    else:
        ideas = [Arm(rate, min(2 * share, MOST_REPLAY)), Arm(rate / 2, share)]
    known = [arm for arm, _ in tried]
    fresh = (Arm(idea.learning_rate, round(idea.replay_share, 4)) for idea in ideas)
    return next((a for a in fresh if a not in known and allowed(a) and not any(_bolder(a, f) for f in failed)), None)


def with_choice(
    recipe: Recipe, values: Hyperparameters, facts: Mapping[str, Any] | None
) -> tuple[Recipe, Hyperparameters]:
    """Recipe and hyperparameters as the training takes them, where ``facts`` are those of the stage baseline."""
    if not facts or not (chosen := facts.get("pilot")):
        return recipe, values
    arm = Arm(**chosen)
    return with_arm(recipe, arm), values.model_copy(update={"learning_rate": arm.learning_rate})


def with_pilot(resolved: Mapping[str, Any], chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    """``resolved.json`` as the training takes it, where ``chosen`` is the arm that the pilot took."""
    if not chosen:
        return dict(resolved)
    arm, values, replay = Arm(**chosen), dict(resolved["hyperparameters"]), resolved.get("replay")
    why = "what the pilot's short runs chose"
    reason = f"{why}; they began with {values['learning_rate']['value']:g}"
    values["learning_rate"] = {"value": arm.learning_rate, "origin": "pilot", "reason": reason}
    if replay or arm.replay_share:
        share = {**(replay["value"] if replay else {}), "share": arm.replay_share}
        reason = f"{why}; they began with {replay['value']['share']:g}: {replay['reason']}" if replay else why
        replay = {"value": share, "origin": "pilot", "reason": reason}
    return {**resolved, "hyperparameters": values, "replay": replay}


def chosen_of(run: Run) -> dict[str, Any] | None:
    """What the pilot of a run chose; None where there was none, or not yet."""
    try:
        baseline = run.stage("baseline")
    except DataError:  # a damaged record: the stage runs again
        return None
    return baseline and baseline["facts"].get("pilot")


def with_arm(recipe: Recipe, arm: Arm) -> Recipe:
    """The recipe with so much replay; without any text for it, the same."""
    if recipe.data.replay is None:
        return recipe
    replay = recipe.data.replay.model_copy(update={"share": arm.replay_share})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"replay": replay})})


def _bolder(arm: Arm, failed: Arm) -> bool:
    """Whether ``arm`` must be expected to forget as much as ``failed`` did."""
    if arm.replay_share and failed.replay_share:
        return arm.learning_rate / arm.replay_share >= failed.learning_rate / failed.replay_share
    return arm.learning_rate >= failed.learning_rate and arm.replay_share <= failed.replay_share
