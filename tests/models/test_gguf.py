"""A GGUF file that gguf's own writer made, against the model it was made from."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.core.errors import ModelError
from rewarm.models.causal import load_model
from rewarm.models.folder import check_folder
from rewarm.models.gguf import from_gguf

from .conftest import SHAPE, VOCABULARY, MakeModel

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers.": "blk.",
}


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rotary halves side by side, as the format has them."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder: Path, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(SHAPE["num_attention_heads"])
    writer.add_head_count_kv(SHAPE["num_key_value_heads"])
    writer.add_rope_dimension_count(SHAPE["head_dim"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    words = ["<unk>", "<s>", "</s>", *(chr(33 + i) for i in range(94)), "Ġ"]
    words += [f"Ġ{word}" for word in words[3:]][: VOCABULARY - len(words) - 1]
    words.append("<|endoftext|>")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (VOCABULARY - 3))
    writer.add_token_merges(["Ġ !", "Ġ #"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, parameter in AutoModelForCausalLM.from_pretrained(folder).named_parameters():
        data = parameter.detach().numpy()
        for part, heads in (("q_proj", SHAPE["num_attention_heads"]), ("k_proj", SHAPE["num_key_value_heads"])):
            data = interleaved(data, heads) if part in name else data
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_becomes_an_ordinary_folder(make_model: MakeModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    base = make_model(tie_word_embeddings=False, rms_norm_eps=1e-6)
    write_gguf(base, tmp_path / "model.gguf")
    capfd.readouterr()
    from_gguf(tmp_path / "model.gguf", tmp_path / "out", torch.float32)
    assert capfd.readouterr().err == ""
    config = check_folder(tmp_path / "out")
    assert config["architectures"] == ["LlamaForCausalLM"] and "quantization_config" not in config
    ids = torch.arange(3, 23)[None]
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (base, tmp_path / "out")]
    with torch.no_grad():
        want, got = (model(input_ids=ids, use_cache=False).logits for model in models)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("b")["input_ids"][-1] == 3 + ord("b") - 33
    from_gguf(tmp_path / "model.gguf", tmp_path / "small")
    assert sum(p.numel() for p in load_model(tmp_path / "small").parameters()) == models[0].num_parameters()
    assert models[0].__class__.from_pretrained(tmp_path / "small").dtype == torch.bfloat16


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGML and so on")
    with pytest.raises(ModelError, match="no GGUF"):
        from_gguf(tmp_path / "model.gguf", tmp_path / "out")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="cannot read"):
        from_gguf(tmp_path / "model.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
