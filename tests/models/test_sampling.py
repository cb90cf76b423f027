"""Texts from nothing: each decided by its number and the seed, drawn as the model believes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rewarm.models.generate import Writer, choose, load_writer
from rewarm.models.sampling import _draws, _texts, sample
from rewarm.recipe.recipe import Generate

from .conftest import MakeModel


@pytest.fixture
def folder(make_model: MakeModel) -> Path:
    return make_model(initializer_range=0.3)


@pytest.fixture
def writer(folder: Path) -> Writer:
    return load_writer(folder)


def test_a_text_depends_on_its_number_not_on_its_neighbours(writer: Writer) -> None:
    settings = Generate(max_tokens=24)
    told: list[int] = []
    together = sample(writer, 1, range(12), settings, told.append)
    assert together == [sample(writer, 1, range(n, n + 1), settings)[0] for n in range(12)]
    assert together == sample(writer, 1, range(5), settings) + sample(writer, 1, range(5, 12), settings)
    assert len(set(together)) > 8
    assert together != sample(writer, 1, range(12), Generate(max_tokens=24, seed=1))
    assert all(a >= b for a, b in itertools.pairwise(told))  # texts end, none begins
    assert told[-1] < 12, "no text ended by itself: the test says too little"


def test_tokens_come_with_the_probability_that_the_model_gives_them(folder: Path, writer: Writer) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        believed = torch.softmax(model(torch.tensor([[1]])).logits[0, -1].double(), -1)
    draws = torch.arange(0, 1, 1e-5, dtype=torch.float64)
    logits = believed.log().float()[None].expand(len(draws), -1)
    drawn = torch.bincount(choose(logits, draws, 1.0, 1.0), minlength=131).double() / len(draws)
    assert (drawn - believed).abs().max() < 2e-5
    # a token written by the loop is the one that its number asks for
    first = _draws(0, 3, 24)[:1]
    token = int(choose(believed.log().float()[None], first, 1.0, 1.0)[0])
    assert writer.tokenizer.decode([token]) in sample(writer, 1, range(3, 4), Generate(max_tokens=2))[0].text


def test_temperature_and_top_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4, -1)
    draws = torch.tensor([0.0, 0.49, 0.79, 0.9999], dtype=torch.float64)
    assert choose(logits, draws, 1.0, 1.0).tolist() == [0, 0, 1, 3]
    # 0.5 and 0.3, as they are to each other
    assert choose(logits, draws, 1.0, 0.7).tolist() == [0, 0, 1, 1]
    assert choose(logits, draws, 1.0, 0.4).tolist() == [0] * 4
    assert choose(logits, draws, 0.25, 1.0).tolist() == [0, 0, 0, 2]


def test_the_cache_changes_nothing(folder: Path, writer: Writer) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    settings = Generate(max_tokens=20)
    for number, found in enumerate(sample(writer, 1, range(6), settings)):
        ids = [1]
        for draw in _draws(0, number, 20):
            with torch.no_grad():
                logits = model(torch.tensor([ids]), use_cache=False).logits[:, -1]
            token = int(choose(logits, draw[None], settings.temperature, settings.top_p)[0])
            if token in (1, 2):
                break
            ids.append(token)
        assert _texts(writer.tokenizer, [ids[1:]], 21)[0] == found


def test_no_longer_than_the_model_can_look_back(make_model: MakeModel) -> None:
    short = load_writer(make_model(max_position_embeddings=8))
    told: list[int] = []
    sample(short, 1, range(4), Generate(max_tokens=1000), told.append)
    assert len(told) <= 7


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two and thr", "One."),
        ('He said "no." Then', 'He said "no."'),
        ("first line\nsecond li", "first line"),
        ("一。二", "一。"),
        ("no pause at all", "no pause at all"),
        ("a half character \ufffd", "a half character"),
    ],
)
def test_a_text_that_is_broken_off_ends_with_a_sentence(text: str, kept: str) -> None:
    class Tokenizer:
        """Gives the text for any ids."""

        def batch_decode(self, rows: list[list[int]], **options: bool) -> list[str]:
            return [text for _ in rows]

        def __call__(self, texts: list[str], **options: bool) -> dict[str, list[list[int]]]:
            return {"input_ids": [[0] * len(t) for t in texts]}

    assert _texts(Tokenizer(), [[0, 0]], 2)[0].text == kept
    assert _texts(Tokenizer(), [[0]], 2)[0].text == text.rstrip("\ufffd").strip()  # ended by itself: whole
