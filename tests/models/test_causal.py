"""Packed training against each document on its own through the plain transformers model."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from rewarm.core.errors import ModelError
from rewarm.data.batches import MicroBatch
from rewarm.models import loss
from rewarm.models.causal import CausalModel, PackedBatch, load_model
from rewarm.models.generate import generate
from rewarm.models.loss import Head
from rewarm.models.packing import cause

from .conftest import VOCABULARY, MakeModel

LENGTHS = (11, 1, 20, 6, 2)
WINDOWED = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"tie_word_embeddings": False, "num_key_value_heads": 4}),
    ("qwen2", {}),
    ("qwen2", {"use_sliding_window": True, **WINDOWED}),
    ("qwen3", {"tie_word_embeddings": True}),
    ("gemma", {}),
    ("gemma2", {**WINDOWED, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
    ("gemma3_text", {**WINDOWED}),
    ("mistral", {"sliding_window": 5}),
    ("granite", {"logits_scaling": 2.0, "attention_multiplier": 0.5, "residual_multiplier": 0.7}),
    ("cohere", {"logit_scale": 0.5, "tie_word_embeddings": True}),
    ("cohere2", {"logit_scale": 0.5, **WINDOWED}),
    ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1, **WINDOWED}),
    ("phi3", {}),
    ("olmo2", {}),
    ("smollm3", {}),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    ("gpt_neox", {"attention_dropout": 0.0, "hidden_dropout": 0.0}),
]
NAMES = [f"{family}{i}" for i, (family, _) in enumerate(FAMILIES)]


def documents() -> tuple[Tensor, ...]:
    ids = torch.randint(0, VOCABULARY, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))
    return ids.split(LENGTHS)


def micro_batch() -> MicroBatch:
    none = np.array([-100])
    targets = [part for document in documents() for part in (document[1:].numpy(), none)]
    return MicroBatch(
        input_ids=torch.cat(documents()).numpy(),
        targets=np.concatenate(targets),
        position_ids=np.concatenate([np.arange(n) for n in LENGTHS]),
        cu_seqlens=np.cumsum([0, *LENGTHS]).astype(np.int32),
        max_seqlen=max(LENGTHS),
        n_targets=sum(LENGTHS) - len(LENGTHS),
        sources=np.repeat(np.arange(len(LENGTHS)), LENGTHS),
    )


def reference(folder: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """The summed loss and its gradients, document by document, by the model's own forward and eager attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").train()
    total = torch.zeros(())
    for document in documents():
        logits = model(input_ids=document[None], use_cache=False).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], document[1:], reduction="sum")
    total.backward()
    return total.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def gradients(model: CausalModel) -> dict[str, Tensor]:
    return {name.removeprefix("hf."): p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    scale = max(grad.abs().max() for grad in want.values())
    for name in want:
        torch.testing.assert_close(got[name] / scale, want[name] / scale, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize(("family", "values"), FAMILIES, ids=NAMES)
def test_equals_each_document_alone(make_model: MakeModel, family: str, values: dict[str, Any]) -> None:
    folder = make_model(family, **values)
    model = load_model(folder).train()
    batch = PackedBatch.of(micro_batch(), "cpu")
    total = model(batch)
    total.backward()
    want, grads = reference(folder)
    assert total.item() == pytest.approx(want.item(), rel=1e-5)
    assert_same(gradients(model), grads)
    nll = model.token_nll(batch)
    assert nll.dtype == torch.float32 and not nll.requires_grad and not nll[batch.targets == -100].any()
    assert nll.sum().item() == pytest.approx(want.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("mamba", {"state_size": 4}),
        ("bloom", {"n_layer": 2, "n_head": 4, "hidden_dropout": 0.0, "attention_dropout": 0.0}),
        (
            "qwen3_next",
            {
                "num_experts": 2,
                "num_experts_per_tok": 1,
                "moe_intermediate_size": 16,
                "shared_expert_intermediate_size": 16,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "layer_types": ["linear_attention", "full_attention"],
            },
        ),
        ("llama4_text", {"attention_chunk_size": 4, "num_local_experts": 2, "layer_types": ["chunked_attention"] * 2}),
        ("bert", {"is_decoder": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_families_that_would_be_trained_wrongly(
    make_model: MakeModel, family: str, values: dict[str, Any]
) -> None:
    folder = make_model(family, **values)
    with pytest.raises(ModelError, match=r"cannot be trained here|not a causal language model"):
        load_model(folder)


def test_the_trial_run_notices_a_head_that_is_computed_wrongly(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model("granite", logits_scaling=2.0)
    load_model(folder)
    monkeypatch.setattr(CausalModel, "head", lambda self: Head(self.hf.lm_head.weight))
    with pytest.raises(ModelError, match=r"granite models cannot be trained here.*predicted differently"):
        load_model(folder)


def test_gradient_checkpointing_gives_the_same_gradients(make_model: MakeModel) -> None:
    model = load_model(make_model(tie_word_embeddings=True)).train()
    batch = PackedBatch.of(micro_batch(), "cpu")
    plain = copy.deepcopy(model)
    plain(batch).backward()
    model.enable_gradient_checkpointing()
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    for layer in model.layers():
        layer.mlp.register_forward_pre_hook(count)
    model(batch).backward()
    assert calls == 2 * len(model.layers())  # once forward, once again in the backward pass
    assert_same(gradients(model), gradients(plain))


def test_accumulation_sums_the_gradients(make_model: MakeModel) -> None:
    model = load_model(make_model(tie_word_embeddings=True)).train()
    batch = PackedBatch.of(micro_batch(), "cpu")
    model(batch).backward()
    once = {name: grad.clone() for name, grad in gradients(model).items()}
    (model(batch) * 0.5).backward()
    assert_same(gradients(model), {name: 1.5 * grad for name, grad in once.items()})


def test_autocast_stays_near_fp32(make_model: MakeModel) -> None:
    model = load_model(make_model()).train()
    batch = PackedBatch.of(micro_batch(), "cpu")
    exact = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(batch)
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(grad.dtype == torch.float32 for grad in gradients(model).values())


def test_padding_changes_nothing(make_model: MakeModel) -> None:
    model = load_model(make_model())
    batch = PackedBatch.of(micro_batch(), "cpu")
    zeros = torch.zeros(5, dtype=torch.int64)
    padded = PackedBatch(
        torch.cat([batch.input_ids, zeros]),
        torch.cat([batch.targets, zeros - 100]),
        torch.cat([batch.position_ids, torch.arange(5)]),
        torch.cat([batch.cu_seqlens, torch.tensor([sum(LENGTHS) + 5], dtype=torch.int32)]),
        batch.max_seqlen,
        batch.n_targets,
    )
    assert model(padded).item() == pytest.approx(model(batch).item(), rel=1e-6)


def test_the_logits_never_exist_in_full(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss.LOGITS, "cpu", 4 * VOCABULARY * 8)
    model = load_model(make_model()).train()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.shape[-1:] == (VOCABULARY,) and out.ndim == 2:
                largest = max(largest, out.shape[0])
            return out

    with Watch():
        model(PackedBatch.of(micro_batch(), "cpu")).backward()
    assert 0 < largest <= 32  # the transposed weight is (32, V); chunks have 8 rows, the row 40 tokens


def test_master_weights_are_fp32_and_layers_are_found(make_model: MakeModel) -> None:
    model = load_model(make_model(dtype=torch.bfloat16, tie_word_embeddings=True))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert len(model.layers()) == 2
    assert all(p.requires_grad for p in model.parameters())
    assert not model.training and not model.has_dropout()


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load(path.read_bytes())
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(UP), rf"1 weights are missing.*{UP}"),
        (lambda t: t.update({UP: t[UP][:40].clone()}), rf"a shape that.*{UP}' is \[40, 32\], not \[48, 32\]"),
        (lambda t: t.update({"model.layers.1.extra.weight": t[UP].clone()}), r"belong to no part.*layers\.1\.extra"),
        (lambda t: t[UP][0].fill_(float("nan")), rf"damaged \(NaN or infinite\).*{UP}"),
        # The trial run reads a few tokens only.
        (lambda t: t["model.embed_tokens.weight"].view(-1)[-1:].fill_(float("inf")), r"damaged.*embed_tokens"),
        (lambda t: t[UP].fill_(1e38), r"damaged: they give no finite numbers"),
    ],
    ids=["missing", "cut", "more", "NaN", "infinite", "overflow"],
)
def test_weights_that_are_not_the_models_are_refused(make_model: MakeModel, change: Any, message: str) -> None:
    folder = make_model(tie_word_embeddings=True)
    rewrite(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert caught.value.where == str(folder) and caught.value.remedy


def test_what_models_do_without_may_lie_beside_them(make_model: MakeModel) -> None:
    folder = make_model()
    layer = "model.layers.0."
    rewrite(
        folder,
        lambda t: t.update(
            {
                f"{layer}self_attn.rotary_emb.inv_freq": torch.ones(4),
                "mtp.layers.0.fc.weight": torch.ones(4, 4),
                **{f"{k.replace(layer, 'model.layers.2.')}": v.clone() for k, v in t.items() if k.startswith(layer)},
            }
        ),
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 1}))
    assert len(load_model(folder).layers()) == 2
    gpt2 = make_model("gpt2", name="gpt2", n_embd=32, n_layer=2, n_head=4)
    rewrite(gpt2, lambda t: t.update({"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8)}))
    load_model(gpt2)


def test_a_head_of_its_own_is_not_taken_for_a_tied_one(make_model: MakeModel) -> None:
    folder = make_model(tie_word_embeddings=True)
    rewrite(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    model = load_model(folder)  # a copy is no head of its own
    assert model.head().weight is model.hf.get_input_embeddings().weight
    rewrite(folder, lambda t: t["lm_head.weight"][0].add_(1))
    with pytest.raises(ModelError, match="a head of their own") as caught:
        load_model(folder)
    assert caught.value.where == str(folder) and "tie_word_embeddings" in str(caught.value.remedy)


def test_why_transformers_cannot_load_it_is_said(make_model: MakeModel) -> None:
    folder = make_model()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": "x"}))
    for look in (load_model, lambda folder: generate(folder, "word3")):
        with pytest.raises(ModelError, match=r"cannot load it.*'rms_norm_eps'.*expected float") as caught:
            look(folder)
        assert caught.value.where == str(folder)
    assert cause(KeyError("nope")) == "KeyError: 'nope'"
    assert cause(ValueError("checked by 'validator':\n   the width is odd\n a hint")) == (
        "ValueError: checked by 'validator': the width is odd"
    )
