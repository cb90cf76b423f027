"""What the names of base models mean: a folder, a version of ours, a hub id; and nothing by its name alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rewarm.core.errors import ModelError
from rewarm.core.workspace import Workspace
from rewarm.hub.models import publish
from rewarm.pipeline.base import Base, locate
from rewarm.recipe.facts import ModelFacts

from .conftest import MakeModel


def find(reference: str, root: Path, weights: bool = True) -> Base:
    return locate(reference, Workspace(root / "home"), lambda *progress: None, weights=weights)


@pytest.fixture
def versions(make_model: MakeModel, tmp_path: Path) -> Path:
    """The folder of the models, with tiny@1 and tiny@2."""
    folder, models = make_model(), Workspace(tmp_path / "home").models
    for _ in range(2):
        publish(models, "tiny", lambda target: shutil.copytree(folder, target, dirs_exist_ok=True) and None, {})
    return models


@pytest.mark.parametrize("name", ["user@corp/model", "user@corp/me@home"])
def test_a_folder_may_have_an_at_in_its_path(make_model: MakeModel, tmp_path: Path, name: str) -> None:
    folder = make_model(name=name)
    assert find(str(folder), tmp_path).folder == folder


def test_a_dot_is_a_folder(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_model())
    assert find(".", tmp_path).folder == Path()
    with pytest.raises(ModelError, match="no such folder"):
        find("~nobody-of-this-name/model", tmp_path)


@pytest.mark.parametrize("weights", [True, False])
def test_versions_are_found_and_their_hashes_compared(versions: Path, tmp_path: Path, weights: bool) -> None:
    assert find("tiny@1", tmp_path, weights).folder == versions / "tiny" / "1"
    path = versions / "tiny" / "1" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    if not weights:
        find("tiny@1", tmp_path, weights)
        path.write_bytes(b"cut")
    with pytest.raises(ModelError, match=r"manifest[\s\S]*what to do:"):
        find("tiny@1", tmp_path, weights)
    (path.parent / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match="manifest"):
        find("tiny@1", tmp_path, weights)


def test_a_name_alone_is_refused_and_its_newest_version_named(versions: Path, tmp_path: Path) -> None:
    for name in ("tiny", "tinny"):
        with pytest.raises(ModelError, match="neither a hub id") as caught:
            find(name, tmp_path)
        assert caught.value.remedy == "write tiny@2"  # as fit for a recipe as for a command
    with pytest.raises(ModelError, match="neither a hub id") as caught:
        find("something", tmp_path)
    assert "rewarm models ls" in str(caught.value.remedy)


@pytest.mark.parametrize("text", ["x", [1], None])
def test_facts_come_from_whole_configurations_only(text: object) -> None:
    config = {"hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": -5, "text_config": text}
    facts = ModelFacts.of(config)
    assert (facts.hidden, facts.layers, facts.positions) == (32, 2, None)
