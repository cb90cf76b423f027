from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from rewarm.recipe.facts import allowed_cores, usable_memory


@pytest.mark.parametrize(
    ("limit", "granted"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_container_gets_the_cores_it_is_granted(tmp_path: Path, limit: str, granted: int | None) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert allowed_cores(tmp_path) == (granted or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("limit", "granted"), [("1000000", 1_000_000), ("max", None), (str(2**62), None)])
def test_a_container_gets_the_memory_it_is_granted(tmp_path: Path, limit: str, granted: int | None) -> None:
    (tmp_path / "memory.max").write_text(limit)
    assert usable_memory(tmp_path) == (granted or psutil.virtual_memory().total)


def test_without_limits_everything_is_granted(tmp_path: Path) -> None:
    assert usable_memory(tmp_path) == psutil.virtual_memory().total
    assert allowed_cores(tmp_path) == len(os.sched_getaffinity(0))
