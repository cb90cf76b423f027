"""LoRA: what trains, what merging gives, and that peft itself loads what we save."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from rewarm.core.errors import UserError
from rewarm.core.manifest import write_manifest
from rewarm.models.causal import CausalModel, PackedBatch, load_model
from rewarm.models.export import export_checkpoint
from rewarm.models.lora import add_lora, linear_modules, merged, save_adapter
from rewarm.recipe.hyperparameters import Hyperparameters

from .conftest import VOCABULARY, MakeModel


def batch() -> PackedBatch:
    ids = torch.randint(0, VOCABULARY, (12,), generator=torch.Generator().manual_seed(3))
    targets = torch.cat([ids[1:], torch.tensor([-100])])
    positions = torch.cat([torch.arange(5), torch.arange(7)])
    targets[4] = -100
    return PackedBatch(ids, targets, positions, torch.tensor([0, 5, 12], dtype=torch.int32), 7, 10)


def adapted(folder: Path, **values: object) -> CausalModel:
    model = load_model(folder)
    torch.manual_seed(0)
    add_lora(model, Hyperparameters.model_validate({"lora_dropout": 0.0, "lora_rank": 4, **values}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)  # as if trained
    return model


def test_adapters_alone_train_on_every_linear_layer_but_the_head(make_model: MakeModel) -> None:
    model = adapted(make_model(tie_word_embeddings=False))
    assert linear_modules(load_model(make_model(name="again"))) == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    model.train()(batch()).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * 2 and all("lora_" in name and "lm_head" not in name for name in trained)


def test_with_gradient_checkpointing_and_dropout_the_adapters_still_get_gradients(make_model: MakeModel) -> None:
    model = adapted(make_model(), lora_dropout=0.5)
    assert model.has_dropout() and not any(module.training for module in model.modules())
    model.train()
    assert torch.equal(model.token_nll(batch()), model.token_nll(batch()))  # dropout is for training only
    assert model.training
    model.enable_gradient_checkpointing()
    model.train()(batch()).backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_merging_keeps_what_the_model_says(make_model: MakeModel) -> None:
    folder = make_model(tie_word_embeddings=True)
    model = adapted(folder)
    before = model.token_nll(batch())
    plain = load_model(folder)
    assert not torch.allclose(before, plain.token_nll(batch()), atol=1e-3)
    plain.hf.load_state_dict(dict(merged(model)), strict=False)
    torch.testing.assert_close(plain.token_nll(batch()), before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.token_nll(batch()), before)  # merged() changed nothing


def test_peft_loads_the_saved_adapter(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model()
    model = adapted(folder, target_modules=["q_proj", "down_proj"], lora_alpha=7)
    save_adapter(model, tmp_path / "adapter", str(folder))
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter").eval()
    ids = batch().input_ids[:5]
    logits = theirs(input_ids=ids[None], use_cache=False).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    torch.testing.assert_close(model.token_nll(batch())[:4], nll, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("whole", [["embeddings"], ["norms"], ["norms", "embeddings"]], ids=str)
def test_embeddings_and_norms_train_whole_by_choice(
    make_model: MakeModel, tmp_path: Path, whole: list[str], tied: bool
) -> None:
    folder = make_model(tie_word_embeddings=tied)
    model = adapted(folder, additional_target=whole)
    trained = {name.split(".")[-2] for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name}
    embeddings = {"embed_tokens"} if tied else {"embed_tokens", "lm_head"}
    norms = {"input_layernorm", "post_attention_layernorm", "norm"}
    assert trained == {name for wanted in whole for name in {"embeddings": embeddings, "norms": norms}[wanted]}
    assert (model.head().weight is model.hf.get_input_embeddings().weight) == tied
    model.train()(batch()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                parameter += 0.1 * torch.randn_like(parameter)  # as if trained
    model.eval()
    before = model.token_nll(batch())
    plain = load_model(folder)
    plain.hf.load_state_dict(dict(merged(model)), strict=False)
    torch.testing.assert_close(plain.token_nll(batch()), before, rtol=1e-4, atol=1e-5)
    save_adapter(model, tmp_path / "adapter", str(folder))
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter").eval()
    ids = batch().input_ids[:5]
    logits = theirs(input_ids=ids[None], use_cache=False).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    torch.testing.assert_close(before[:4], nll, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["int4", "int8"])
@pytest.mark.gpu
def test_adapters_of_a_quantised_base_are_merged_into_the_original(
    make_model: MakeModel, tmp_path: Path, kind: Literal["int4", "int8"]
) -> None:
    folder = make_model(hidden_size=128, intermediate_size=128, head_dim=32)  # blocks of 64 share a scale
    values = Hyperparameters(finetuning_type="lora", quantization_bit=kind, lora_rank=4)
    model = load_model(folder, device="cuda", quantization=kind)
    add_lora(model, values)
    layers = [p for name, p in model.named_parameters() if name.endswith("base_layer.weight")]
    assert len(layers) == 2 * 7 and all(p.dtype in (torch.uint8, torch.int8) for p in layers)
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(adapters) == 2 * 7 * 2 and all(p.dtype == torch.float32 for p in adapters.values())
    moved = PackedBatch(*(x.cuda() if isinstance(x, torch.Tensor) else x for x in vars(batch()).values()))
    optimizer = torch.optim.AdamW(adapters.values(), lr=1e-2)
    losses = []
    for _ in range(5):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model.train()(moved)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    checkpoint = tmp_path / "step-5"
    checkpoint.mkdir()
    save_file({name: p.detach().cpu() for name, p in adapters.items()}, checkpoint / "model-rank00000.safetensors")
    write_manifest(checkpoint, {})
    export_checkpoint(checkpoint, folder, tmp_path / "model", values, torch.float32)
    plain, exported = load_model(folder), load_model(tmp_path / "model")
    unadapted = "model.embed_tokens.weight"
    assert torch.equal(plain.hf.get_parameter(unadapted), exported.hf.get_parameter(unadapted))
    change = exported.hf.model.layers[0].mlp.up_proj.weight - plain.hf.model.layers[0].mlp.up_proj.weight
    assert 0 < torch.linalg.matrix_rank(change.detach(), tol=1e-6) <= 4  # nothing but the adapter: no rounding


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank(make_model: MakeModel) -> None:
    folder = make_model()
    models = [adapted(folder, lora_rank=4, lora_alpha=alpha, use_rslora=rs) for alpha, rs in ((4, True), (8, False))]
    one, two = (model.token_nll(batch()) for model in models)  # 4 / sqrt(4) and 8 / 4
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("wanted", ["q_prj", ["v_proj", "lm_head"], ["embed_tokens"], []])
def test_unknown_modules_are_refused_with_the_nearest_name(make_model: MakeModel, wanted: str | list[str]) -> None:
    model = load_model(make_model())
    with pytest.raises(UserError, match=r"did you mean 'q_proj'" if wanted == "q_prj" else r"target_modules"):
        add_lora(model, Hyperparameters(target_modules=wanted))
    assert not any("lora_" in name for name, _ in model.named_parameters())
