"""The long campaign of kills: many random moments, several seeds, in prepare and in train."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
def test_killed_anywhere_the_result_is_the_same(seed: int) -> None:
    command = [sys.executable, str(BENCHMARKS / "resume.py"), "--kills", "10", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
