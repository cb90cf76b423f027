"""The in-context probe: every answer follows from its prompt, and from nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rewarm.evaluate.harness import check_tasks, run_tasks
from rewarm.evaluate.tasks.general import in_context


def rows(kind: str) -> list[dict[str, Any]]:
    return list(in_context.items(kind)["test"])


def test_a_line_is_copied() -> None:
    for row in rows("copy"):
        *shown, last = row["prompt"].split("\n")
        assert len(shown) == 3 and all(re.fullmatch(r"(.+) \| \1", line) for line in shown)
        assert f"{last}{row['target']}" == f"{row['target'][1:]} |{row['target']}"


def test_a_pair_is_looked_up() -> None:
    for row in rows("map"):
        *shown, last = row["prompt"].split("\n")
        assert (
            shown.count(f"{last}{row['target']}") == 1 and len({word for line in shown for word in line.split()}) == 17
        )


def test_a_sum_is_right_and_its_rule_is_shown() -> None:
    for row in rows("arithmetic"):
        sums = [re.fullmatch(r"(\d+) \+ (\d+) = (\d+)", line) for line in (row["prompt"] + row["target"]).split("\n")]
        found = [tuple(map(int, one.groups())) for one in sums if one]
        assert len(found) == 7 and all(a + b == c for a, b, c in found) and len({b for _, b, _ in found}) == 1


@pytest.mark.parametrize("kind", in_context.KINDS)
def test_the_items_are_the_same_everywhere(kind: str) -> None:
    assert rows(kind) == rows(kind) and len({row["prompt"] for row in rows(kind)}) == in_context.ITEMS


def test_the_group_is_one_figure_of_all_items(folder: Path) -> None:
    check_tasks(["in_context"], None)
    found = run_tasks(folder, ["in_context"], limit=4)
    assert len(found["in_context"].items) == 12 and set(found["in_context"].metrics) == {"acc"}
    assert found["in_context_map"].metrics["perplexity"].value > 1
