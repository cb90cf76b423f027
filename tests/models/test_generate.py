"""Completions: deterministic by their seed, and made of new text only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.core.errors import ModelError, UserError
from rewarm.models.generate import _pieces, complete, generate, load_writer
from tests.pipeline.conftest import make_model as make_bytes_model

from .conftest import MakeModel


def test_greedy_takes_the_likeliest_token_each_time(make_model: MakeModel) -> None:
    folder = make_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("word3 word8 a", return_tensors="pt")["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    start = ids.shape[1]
    for _ in range(5):
        with torch.no_grad():
            best = model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
        ids = torch.cat([ids, best.view(1, 1)], 1)
        if best == 2:
            break
    want = tokenizer.decode(ids[0, start:], skip_special_tokens=True)
    assert generate(folder, "word3 word8 a", max_tokens=5) == want
    assert generate(folder, "word3 word8 a", max_tokens=5, seed=9) == want


def test_sampling_follows_the_seed_and_leaves_the_generator_alone(make_model: MakeModel) -> None:
    folder = make_model()
    state = torch.get_rng_state()
    texts = [generate(folder, "word3", max_tokens=12, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(state, torch.get_rng_state())


def test_an_empty_prompt_starts_from_bos(make_model: MakeModel) -> None:
    assert isinstance(generate(make_model(), "", max_tokens=2), str)


def test_a_bad_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        generate(tmp_path / "absent", "word3")


def test_a_stop_text_that_spans_tokens_ends_it(make_model: MakeModel) -> None:
    writer = load_writer(make_model(eos_token_id=None))
    whole = "".join(complete(writer, "word3", max_tokens=12)[1])
    for stop in (whole[3:9], whole[-2:], whole[:1]):
        done, pieces = complete(writer, "word3", max_tokens=12, stop=["not there", stop])
        assert "".join(pieces) == whole[: whole.index(stop)] and done.finish == "stop"


def test_a_character_of_several_tokens_comes_whole(tmp_path: Path) -> None:
    make_bytes_model(tmp_path)
    writer = load_writer(tmp_path)
    text = "a\u20ac\U0001f600b"
    ids = iter(writer.tokenizer(text)["input_ids"])
    pieces = list(_pieces(writer, ids))
    assert "".join(pieces) == text and "\u20ac" in pieces and not any("\ufffd" in piece for piece in pieces)
    cut = writer.tokenizer("ab\U0001f600")["input_ids"][:-1]
    assert "".join(_pieces(writer, iter(cut))) == "ab"  # the limit falls within a character


def test_a_prompt_that_is_too_long_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(UserError, match="exceeds the 128"):
        generate(make_model(), "word3 " * 120, max_tokens=9)
