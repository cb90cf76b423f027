from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rewarm.evaluate.store import cached, key_of

FACTS = {"model": "ab" * 32, "task": "bits_per_byte", "version": 1, "window": 2048}
ITEMS = [{"id": f"{i:04x}", "nll": 0.1 * i, "bytes": i + 1} for i in range(100)]


class Computed:
    """Counts how often scores were computed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> list[dict[str, Any]]:
        self.times += 1
        return ITEMS


def test_a_model_is_scored_once(tmp_path: Path) -> None:
    compute = Computed()
    assert cached(tmp_path, FACTS, compute) == ITEMS
    assert cached(tmp_path, FACTS, compute) == ITEMS
    assert compute.times == 1
    assert {path.name for path in (tmp_path / key_of(FACTS)).iterdir()} == {
        "items.jsonl",
        "results.json",
        "manifest.json",
    }


@pytest.mark.parametrize("change", [{"model": "cd" * 32}, {"window": 1024}, {"task": "x"}, {"extra": None}])
def test_everything_that_a_score_depends_on_is_in_its_key(tmp_path: Path, change: dict[str, Any]) -> None:
    compute = Computed()
    cached(tmp_path, FACTS, compute)
    cached(tmp_path, {**FACTS, **change}, compute)
    assert compute.times == 2


@pytest.mark.parametrize("name", ["items.jsonl", "results.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_entry_is_computed_again_with_a_warning(tmp_path: Path, name: str, damage: str) -> None:
    compute, warnings = Computed(), list[str]()
    cached(tmp_path, FACTS, compute)
    file = tmp_path / key_of(FACTS) / name
    data = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    else:
        middle = len(data) // 2
        data[middle] ^= 1
        file.write_bytes(data if damage == "flip" else data[:middle])
    assert cached(tmp_path, FACTS, compute, warn=warnings.append) == ITEMS
    assert compute.times == 2 and len(warnings) == 1
    assert cached(tmp_path, FACTS, compute) == ITEMS
    assert compute.times == 2


def test_an_error_while_scoring_stores_nothing(tmp_path: Path) -> None:
    def fail() -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, FACTS, fail)
    assert list(tmp_path.iterdir()) == []


ENDLESS = """
import sys
from pathlib import Path
from rewarm.evaluate.store import cached
items = [{"id": f"{i:04x}", "nll": 0.1 * i, "bytes": i + 1} for i in range(2000)]
print("ready", flush=True)
number = 0
while True:
    cached(Path(sys.argv[1]), {"number": number}, lambda: items)
    number += 1
"""


def test_kill_at_any_moment_leaves_whole_entries_or_none(tmp_path: Path) -> None:
    for delay in (0.01, 0.03, 0.05, 0.08, 0.13):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.kill()
        process.communicate()
    entries = [path for path in tmp_path.iterdir() if not path.name.startswith(".tmp-")]
    warnings: list[str] = []
    for number in range(len(entries)):
        found = cached(tmp_path, {"number": number}, Computed(), warn=warnings.append)
        assert len(found) == 2000  # stored whole; Computed would give 100
    assert entries and not warnings


def test_two_at_once_store_the_same_scores(tmp_path: Path) -> None:
    """A second run finishes the same scores while the first computes them; both read one entry."""

    def compute() -> list[dict[str, Any]]:
        cached(tmp_path, FACTS, lambda: ITEMS)
        return ITEMS

    assert cached(tmp_path, FACTS, compute) == ITEMS
    assert [path.name for path in tmp_path.iterdir()] == [key_of(FACTS)]
