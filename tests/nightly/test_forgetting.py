"""The forgetting experiment in its short form: what a recipe of model and corpus alone keeps of the old language."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "forgetting.py"


@pytest.mark.nightly
def test_the_default_keeps_what_the_naive_recipe_destroys(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--rates", "4e-3", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(
        [*command, "--arms", "naive", "schedule", "default", "corpus"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_bytes())["summary"]
    assert found["naive"]["forgetting"]["mean"] > 1.0
    assert found["default"]["share"]["mean"] < 0.25 and found["corpus"]["share"]["mean"] < 0.35
