"""Exported folders, loaded by plain transformers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.core.errors import DataError
from rewarm.core.manifest import write_manifest
from rewarm.models import export as module
from rewarm.models.causal import CausalModel, load_model
from rewarm.models.export import export, export_checkpoint
from rewarm.models.folder import check_folder
from rewarm.models.lora import add_lora
from rewarm.recipe.hyperparameters import Hyperparameters

from .conftest import MakeModel

IDS = torch.arange(3, 23)[None]


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder).float()
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return out


def trained(folder: Path, lora: Hyperparameters | None = None) -> CausalModel:
    """The model as if some steps had changed everything that trains."""
    model = load_model(folder)
    if lora is not None:
        add_lora(model, lora)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def own_logits(model: CausalModel) -> torch.Tensor:
    model.hf.set_attn_implementation("eager")
    with torch.no_grad():
        out: torch.Tensor = model.hf(input_ids=IDS, use_cache=False).logits
    return out


def checkpoint(model: CausalModel, folder: Path) -> Path:
    folder.mkdir()
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(tensors, folder / "model-rank00000.safetensors")
    write_manifest(folder, {"kind": "checkpoint"})
    return folder


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False}),
        ("qwen2", {}),
        ("gemma", {}),
        ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1}),
        ("qwen3_moe", {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}),
    ],
)
def test_plain_transformers_loads_it_with_equal_logits(
    make_model: MakeModel, tmp_path: Path, family: str, values: dict[str, Any]
) -> None:
    base = make_model(family, **values)
    model = trained(base)
    export(model, base, tmp_path / "out")
    torch.testing.assert_close(logits(tmp_path / "out"), own_logits(model), rtol=1e-5, atol=1e-5)
    tied = check_folder(base).get("tie_word_embeddings")
    assert ("lm_head.weight" in load_file(tmp_path / "out" / "model.safetensors")) is not bool(tied)
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    check_folder(tmp_path / "out")


def test_everything_beside_the_weights_is_the_bases(make_model: MakeModel, tmp_path: Path) -> None:
    base = make_model(dtype=torch.bfloat16, tie_word_embeddings=True)
    # This combination of settings is one that transformers refuses to save.
    (base / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.7, "eos_token_id": 2}')
    (base / "LICENSE").write_text("do what you like")
    export(trained(base), base, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "LICENSE"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    config, old = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "out", base))
    assert config == old
    assert "rewarm" not in json.dumps(config)
    assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    text = "word7 word9"
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "out", base)]
    assert tokenizers[0](text)["input_ids"] == tokenizers[1](text)["input_ids"]


def test_another_type_of_weights_on_demand(make_model: MakeModel, tmp_path: Path) -> None:
    base = make_model()
    export(trained(base), base, tmp_path / "out", torch.bfloat16)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_a_base_without_generation_settings_gets_none(make_model: MakeModel, tmp_path: Path) -> None:
    base = make_model()
    (base / "generation_config.json").unlink()
    export(trained(base), base, tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()


def test_large_models_are_cut_into_shards(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", "20KB")
    base = make_model(tie_word_embeddings=True)
    model = trained(base)
    export(model, base, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(logits(tmp_path / "out"), own_logits(model))


@pytest.mark.parametrize("values", [{}, {"merge_adapter": False, "target_modules": ["q_proj"]}, None])
def test_checkpoints_become_whole_models(
    make_model: MakeModel, tmp_path: Path, values: dict[str, object] | None
) -> None:
    base = make_model(tie_word_embeddings=True)
    lora = None if values is None else Hyperparameters.model_validate({"finetuning_type": "lora", **values})
    model = trained(base, lora)
    saved = checkpoint(model, tmp_path / "step-3")
    given = lora or Hyperparameters(finetuning_type="full")
    export_checkpoint(saved, base, tmp_path / "out", given, base_name="some/base")
    torch.testing.assert_close(logits(tmp_path / "out"), own_logits(model), rtol=1e-4, atol=1e-5)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists() is (lora is not None and bool(values))
    if lora is not None and values:
        adapter = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
        assert adapter["base_model_name_or_path"] == "some/base"
    check_folder(tmp_path / "out")


def test_a_checkpoint_of_another_model_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    base, other = make_model(), make_model(name="other", hidden_size=16)
    saved = checkpoint(load_model(other), tmp_path / "step-1")
    with pytest.raises(DataError, match=r"holds 'hf\."):
        export_checkpoint(saved, base, tmp_path / "out", Hyperparameters(finetuning_type="full"))
    with pytest.raises(DataError, match="no manifest"):
        export_checkpoint(tmp_path / "step-2", base, tmp_path / "out", Hyperparameters())
    state = dict(load_model(base).named_parameters())
    state.pop("hf.model.norm.weight")
    with pytest.raises(DataError, match=r"lacks 'model\.norm\.weight'"):
        export(state, base, tmp_path / "out")


def test_damaged_or_partial_checkpoints_are_refused(make_model: MakeModel, tmp_path: Path) -> None:
    base, full = make_model(), Hyperparameters(finetuning_type="full")
    saved = checkpoint(trained(base), tmp_path / "step-1")
    weights = saved / "model-rank00000.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match="SHA-256"):
        export_checkpoint(saved, base, tmp_path / "out", full)
    (saved / "manifest.json").unlink()
    with pytest.raises(DataError, match="no manifest"):
        export_checkpoint(saved, base, tmp_path / "out", full)
    tensors = load_file(weights)
    del tensors["hf.model.norm.weight"]
    save_file(tensors, weights)
    write_manifest(saved, {"kind": "checkpoint"})
    with pytest.raises(DataError, match=r"lacks 1 parameters, the first 'hf\.model\.norm\.weight'"):
        export_checkpoint(saved, base, tmp_path / "out", full)
    weights.unlink()
    write_manifest(saved, {"kind": "checkpoint"})
    with pytest.raises(DataError, match="no weights"):
        export_checkpoint(saved, base, tmp_path / "out", full)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_keep_their_type_where_the_configuration_names_none(
    make_model: MakeModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    base = make_model(dtype=dtype, tie_word_embeddings=True)
    config = json.loads((base / "config.json").read_text())
    config.pop("dtype")
    (base / "config.json").write_text(json.dumps(config))
    export(trained(base), base, tmp_path / "out")
    assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {dtype}


@pytest.mark.parametrize("mask", [0o022, 0o007], ids=oct)
def test_every_file_has_the_mode_of_the_umask(make_model: MakeModel, tmp_path: Path, mask: int) -> None:
    base = make_model(tie_word_embeddings=True)
    lora = Hyperparameters.model_validate({"finetuning_type": "lora", "merge_adapter": False})
    saved = checkpoint(trained(base, lora), tmp_path / "step-3")
    before = os.umask(mask)
    try:
        export_checkpoint(saved, base, tmp_path / "out", lora, base_name="some/base")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"model.safetensors", "adapter_model.safetensors"} < modes.keys()
    assert set(modes.values()) == {0o666 & ~mask}, modes
