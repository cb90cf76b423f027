"""``rewarm import`` as its user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rewarm.recipe.load import load_recipe
from tests.recipe.conftest import REFERENCE_JSON


def rewarm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rewarm.cli.main import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_file_is_written_once_and_everything_is_told(tmp_path: Path) -> None:
    (tmp_path / "block.json").write_text(REFERENCE_JSON)
    done = rewarm(tmp_path, "import", "block.json")
    assert done.returncode == 0, done.stderr
    assert "mapped: 35" in done.stdout
    assert "put your text there" in done.stdout
    assert load_recipe(tmp_path / "recipe.yaml").hyperparameters.batch_size == 8

    again = rewarm(tmp_path, "import", "block.json")
    assert again.returncode == 2
    assert "name another file with --out" in again.stderr

    other = rewarm(tmp_path, "import", "block.json", "--out", "other.yaml", "--json")
    found = json.loads(other.stdout)
    assert (found["program"], found["written"], found["counts"]["mapped"]) == ("FPT AI Studio", "other.yaml", 35)
    assert found["recipe"]["hyperparameters"]["epochs"] == 2
