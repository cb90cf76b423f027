"""What `rewarm recommend` prints is a recipe that `rewarm check` takes, with the share of replay that was measured."""

from __future__ import annotations

from pathlib import Path

import yaml

from rewarm.recipe.load import load_recipe
from tests.pipeline.conftest import Bench


def test_the_recommended_recipe_can_be_run(bench: Bench, tmp_path: Path) -> None:
    done = bench.rewarm("recommend", "./model", "new.jsonl")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith("# ") and any(line.startswith("#   learning_rate: ") for line in said)
    recipe = tmp_path / "recommended.yaml"  # another folder: its paths are absolute
    recipe.write_text(done.stdout)
    found = load_recipe(recipe, [])
    assert found.data.replay is not None and found.data.replay.share in (0.05, 0.15, 0.25)
    assert found.data.replay.generate is not None
    assert f"{found.data.replay.share}" in done.stdout and yaml.safe_load(done.stdout)["name"] == "new"
    checked = bench.rewarm("check", str(recipe))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_cannot_be_read_is_said(bench: Bench) -> None:
    (bench.folder / "empty.jsonl").write_text("")
    for corpus in ("empty.jsonl", "nowhere.jsonl"):
        done = bench.rewarm("recommend", "./model", corpus)
        assert done.returncode == 3 and corpus in done.stderr and "Traceback" not in done.stderr
