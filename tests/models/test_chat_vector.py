"""The chat vector: trained + (instruct - base), by tensor, with the instruct model's settings around it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.core.errors import ModelError
from rewarm.models import chat_vector
from rewarm.models.chat_vector import add_chat_vector, check_instruct
from tests.pipeline.conftest import make_model

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def changed(base: Path, target: Path, seed: int, template: str | None = None) -> Path:
    """A model like ``base`` with other weights, and perhaps a chat template."""
    shutil.copytree(base, target)
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(target)
    if template:
        (target / "chat_template.jinja").write_text(template)
    return target


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, Path, Path]:
    make_model(tmp_path / "base")
    base = tmp_path / "base"
    return changed(base, tmp_path / "trained", 1), base, changed(base, tmp_path / "instruct", 2, TEMPLATE)


@pytest.mark.parametrize("shard", [1 << 30, 1 << 14])
def test_the_sum_is_what_it_says(
    three: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    monkeypatch.setattr(chat_vector, "SHARD", shard)
    trained, base, instruct = three
    target = tmp_path / "target"
    target.mkdir()
    check_instruct(instruct, base)
    add_chat_vector(trained, base, instruct, target)
    assert (len(list(target.glob("*.safetensors"))) > 1) is (shard < 1 << 20)
    new, old, taught, found = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (trained, base, instruct, target)
    )
    assert found.keys() == new.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, new[name] + (taught[name] - old[name]))
    tokenizer = AutoTokenizer.from_pretrained(target)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "user: hi\nassistant:"


def test_another_shape_is_refused(three: tuple[Path, Path, Path]) -> None:
    _, base, instruct = three
    model = AutoModelForCausalLM.from_pretrained(instruct)
    model.resize_token_embeddings(408)
    model.save_pretrained(instruct)
    with pytest.raises(ModelError, match=r"of model.embed_tokens.weight \[400, 48\] it has one of \[408, 48\]"):
        check_instruct(instruct, base)


def test_another_vocabulary_is_refused(three: tuple[Path, Path, Path]) -> None:
    _, base, instruct = three
    path = instruct / "tokenizer.json"
    path.write_text(path.read_text().replace('"a":', '"@@":', 1).replace('"b":', '"a":', 1).replace('"@@":', '"b":', 1))
    with pytest.raises(ModelError, match="its tokenizer is not the base's: token"):
        check_instruct(instruct, base)
