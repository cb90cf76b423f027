from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from rewarm.core.errors import ModelError
from rewarm.evaluate.bits_per_byte import bits_per_byte, choose, score_documents, window_of
from rewarm.models.causal import CausalModel, load_model

BOS, EOS = 0, 1
CPU = torch.device("cpu")


@dataclass
class Texts:
    """Documents of given tokens; a token is a byte."""

    all: list[list[int]]
    ids: list[str]
    sizes: list[int] | None = None

    @property
    def bytes(self) -> list[int]:
        return self.sizes or [max(1, len(tokens) - 2) for tokens in self.all]

    def __len__(self) -> int:
        return len(self.all)

    def tokens(self, index: int) -> NDArray[np.uint16]:
        return np.asarray(self.all[index], dtype=np.uint16)


def texts(lengths: list[int]) -> Texts:
    rng = np.random.default_rng(7)
    documents = [[BOS, *rng.integers(2, 258, n).tolist(), EOS] for n in lengths]
    return Texts(documents, [f"{(i * 7919) % 1000:04x}" for i in range(len(lengths))])


@pytest.fixture(scope="module")
def model(folder: Path) -> CausalModel:
    return load_model(folder, device=CPU)


def score(model: CausalModel, documents: Texts, **changes: Any) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {
        "context_id": BOS,
        "bos_id": BOS,
        "eos_id": EOS,
        "window": 64,
        "max_bytes": 1_000_000,
        "device": CPU,
    }
    return score_documents(model, documents, **{**settings, **changes})


def plain(folder: Path, text: list[int], context: int, window: int) -> float:
    """Nats of ``text``, one forward pass of the stock model a token: slow, and obviously right.

    Behind the first window a token belongs to a block of half a window, and is seen with what the
    window that ends with its block leaves in front of it.
    """
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    everything, total = [context, *text], 0.0
    for place in range(len(text)):
        behind = place - window
        block_end = window if behind < 0 else window + (behind // (window // 2) + 1) * (window // 2)
        start = max(0, min(block_end, len(text)) - window)
        inputs = torch.tensor([everything[start : place + 1]])
        with torch.no_grad():
            total -= float(stock(inputs).logits[0, -1].double().log_softmax(-1)[text[place]])
    return total


@pytest.mark.parametrize("window", [16, 64])
def test_equals_the_stock_model_document_by_document(folder: Path, model: CausalModel, window: int) -> None:
    documents = texts([1, 5, 15, 16, 17, 24, 25, 40, 63, 64, 65, 96, 97, 130])
    items = score(model, documents, window=window, forward_tokens=100)
    by_id = {item["id"]: item for item in items}
    assert [item["id"] for item in items] == sorted(documents.ids)
    for i, name in enumerate(documents.ids):
        reference = plain(folder, documents.all[i][1:-1], BOS, window)
        assert by_id[name]["nll"] == pytest.approx(reference, rel=1e-5)
        assert by_id[name]["bytes"] == documents.bytes[i]
    nats = sum(item["nll"] for item in items)
    assert bits_per_byte(items) == pytest.approx(nats / math.log(2) / sum(documents.bytes))


def test_packing_and_its_room_change_nothing(model: CausalModel) -> None:
    documents = texts([3, 50, 200, 7, 64, 1])
    alone = score(model, documents, forward_tokens=1)
    together = score(model, documents, forward_tokens=4096)
    assert [item["nll"] for item in together] == pytest.approx([item["nll"] for item in alone], rel=1e-5)


def test_control_tokens_around_a_document_are_context_only(model: CausalModel) -> None:
    around = texts([20])
    bare = Texts([around.all[0][1:-1]], around.ids, [20])
    assert score(model, bare)[0]["nll"] == pytest.approx(score(model, around)[0]["nll"], rel=1e-6)
    other = score(model, around, context_id=EOS)
    assert other[0]["nll"] != pytest.approx(score(model, around)[0]["nll"], rel=1e-3)


def test_without_bos_and_eos_the_first_token_costs_what_a_guess_costs(folder: Path, model: CausalModel) -> None:
    text = texts([30]).all[0][1:-1]
    items = score(model, Texts([text], ["a"], [30]), context_id=None, bos_id=None, eos_id=None)
    rest = plain(folder, text[1:], text[0], 64)
    assert items[0]["nll"] == pytest.approx(math.log(258) + rest, rel=1e-5)


def test_the_budget_buys_whole_documents_in_order_of_id() -> None:
    documents = Texts([[2]] * 5, ["e", "a", "d", "b", "c"], [10, 20, 30, 1000, 40])
    assert choose(documents, 10_000) == [1, 3, 4, 2, 0]
    assert choose(documents, 60) == [1, 4]  # b alone is more than the budget, d no longer fits
    assert choose(documents, 59) == [1]
    assert choose(documents, 5) == [0]  # all are larger: the smallest
    assert choose(Texts([], [], []), 5) == []
    assert choose(documents, 5, among=60) == [1]  # of those that the larger budget pays for


def test_progress_is_in_bytes_and_ends_at_the_total(model: CausalModel) -> None:
    seen: list[tuple[str, float, float, str]] = []
    documents = texts([100, 100, 100])
    score(model, documents, forward_tokens=64, progress=lambda *what: seen.append(what), what="score law")
    assert seen[0] == ("score law", 0, 300, "bytes") and seen[-1] == ("score law", 300, 300, "bytes")
    assert [done for _, done, _, _ in seen] == sorted(done for _, done, _, _ in seen)
    assert len({done for _, done, _, _ in seen}) > 2


def test_a_stop_leaves_the_model_as_it_was(model: CausalModel) -> None:
    def stop(what: str, done: float, total: float, unit: str) -> None:
        if done:
            raise KeyboardInterrupt

    model.train()
    with pytest.raises(KeyboardInterrupt):
        score(model, texts([100, 100]), forward_tokens=64, progress=stop)
    assert model.training
    model.eval()


def test_broken_weights_are_an_error_that_names_the_document(folder: Path) -> None:
    broken = load_model(folder, device=CPU)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(ModelError, match="not a number for the document 0000"):
        score(broken, texts([5]))


def test_window_is_what_the_model_has_positions_for() -> None:
    assert window_of(2048, SimpleNamespace(max_position_embeddings=512)) == 512
    assert window_of(256, SimpleNamespace(max_position_embeddings=512)) == 256
    assert window_of(256, SimpleNamespace()) == 256
