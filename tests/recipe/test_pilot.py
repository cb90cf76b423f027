"""The pilot's rule: what is tried after what, and how long."""

from __future__ import annotations

import pytest

from rewarm.recipe.pilot import Arm, next_arm, pilot_steps, with_pilot

BEGIN = Arm(4e-5, 0.25)


def tried(kept: str, begin: Arm = BEGIN) -> list[tuple[float, float]]:
    """The arms that are tried where the first, second, ... keeps the tolerance (y) or does not (n)."""
    arms: list[tuple[Arm, bool]] = []
    arm: Arm | None = begin
    for one in kept:
        if arm is None:
            break
        arms.append((arm, one == "y"))
        arm = next_arm(arms)
    return [(arm.learning_rate, arm.replay_share) for arm, _ in arms]


@pytest.mark.parametrize(
    ("kept", "arms"),
    [
        ("yyy", [(4e-5, 0.25), (8e-5, 0.25), (8e-5, 0.125)]),
        ("yny", [(4e-5, 0.25), (8e-5, 0.25), (8e-5, 0.5)]),
        ("nyy", [(4e-5, 0.25), (4e-5, 0.5), (4e-5, 0.375)]),
        ("nny", [(4e-5, 0.25), (4e-5, 0.5), (2e-5, 0.5)]),
    ],
)
def test_each_run_follows_from_the_one_before(kept: str, arms: list[tuple[float, float]]) -> None:
    assert tried(kept) == arms


def test_without_replay_the_rate_is_all_there_is() -> None:
    assert tried("nny", Arm(4e-5, 0.0)) == [(4e-5, 0.0), (2e-5, 0.0), (1e-5, 0.0)]
    assert tried("nyy", Arm(4e-5, 0.0)) == [(4e-5, 0.0), (2e-5, 0.0)]


def test_what_there_is_no_text_for_is_not_tried() -> None:
    assert next_arm([(BEGIN, False)], lambda arm: arm.replay_share <= 0.25) == Arm(2e-5, 0.25)
    assert next_arm([(BEGIN, True)] * 3) is None


def test_one_or_two_per_cent_of_the_updates_but_never_too_few() -> None:
    assert [pilot_steps(steps) for steps in (10, 100, 1000, 4000, 100_000)] == [10, 20, 20, 60, 1500]


def test_what_was_resolved_is_told_as_it_was_trained() -> None:
    rate = {"value": 4e-5, "origin": "recommended", "reason": "the middle"}
    before = {"hyperparameters": {"learning_rate": rate, "epochs": {"value": 1}}, "replay": None}
    assert with_pilot(before, None) == before
    assert with_pilot(before, {"learning_rate": 2e-5, "replay_share": 0.0})["replay"] is None
    measured = {"value": {"share": 0.15, "generate": {"tokens": 9}}, "origin": "recommended", "reason": "a domain"}
    after = with_pilot({**before, "replay": measured}, {"learning_rate": 8e-5, "replay_share": 0.3})
    chosen = after["hyperparameters"]["learning_rate"]
    assert (chosen["value"], chosen["origin"]) == (8e-5, "pilot") and "4e-05" in chosen["reason"]
    assert after["replay"]["value"] == {"share": 0.3, "generate": {"tokens": 9}}
    assert "0.15: a domain" in after["replay"]["reason"]
    assert before["hyperparameters"]["learning_rate"] is rate
