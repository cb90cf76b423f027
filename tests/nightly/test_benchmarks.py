"""The parts of the benchmark scripts that need no device of their own still run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.nightly
def test_the_gpu_script_passes_its_checks_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--dry-run", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["checks"]) == 5 and all(check["passed"] for check in figures["checks"].values())
    assert figures["speeds"] and all("tokens_per_second" in speed for speed in figures["speeds"])
