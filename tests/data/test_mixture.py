"""The mixture is the plan's business: whatever the weights, the tokens on disk are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewarm.data.plan import build_plan
from rewarm.data.prepare import build_dataset
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.load import parse_recipe
from rewarm.recipe.recipe import Recipe
from tests.data.conftest import write_jsonl

TEXT = """\
name: a
base_model: o/m
data:
  sources: [{name: law, path: law.jsonl}, {name: best, path: best.jsonl}]
  replay: {name: old, path: old.jsonl, share: 0.25}
"""


@pytest.fixture
def folder(tmp_path: Path, english: list[str]) -> Path:
    for number, name in enumerate(("law", "best", "old")):
        write_jsonl(tmp_path / f"{name}.jsonl", english[number::3])
    return tmp_path


def files(folder: Path) -> dict[str, int]:
    """Every file of tokens in the workspace, and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.bin")}


def test_another_mixture_never_tokenizes_again(folder: Path, tokenizer_folder: Path) -> None:
    def build(*overrides: str) -> tuple[str, list[list[int]]]:
        recipe: Recipe = parse_recipe(TEXT, overrides, folder)
        dataset = build_dataset(recipe, tokenizer_folder, folder / "datasets", workers=1)
        plan = build_plan(recipe, dataset, Hyperparameters(epochs=2, max_sequence_length=64))
        return dataset.hash, plan.part_tokens.tolist()

    first, plain = build()
    before = files(folder)
    assert before
    seen = [plain]
    for overrides in (
        ["data.sources[0].weight=2"],
        ["data.sources[1].tokens=9000"],
        ["data.temperature=3"],
        ["data.replay.share=0.5"],
        ["data.sources[1].max_epochs=9"],
        ["data.anneal={share: 0.2, weights: {best: 1}}"],
    ):
        again, tokens = build(*overrides)
        assert again == first, overrides
        assert files(folder) == before, overrides
        assert tokens not in seen or "max_epochs" in overrides[0]
        seen.append(tokens)
