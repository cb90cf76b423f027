"""FLOP per token against the published figures, and the clock."""

from __future__ import annotations

import time

import pytest
import torch
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, MixtralConfig

from rewarm.train.metrics import Clock, flops_per_token, memory_gb, peak_flops

SHAPES = {
    "1B": LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, tie_word_embeddings=True,
    ),
    "3B": LlamaConfig(
        vocab_size=128256, hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
        num_key_value_heads=8, head_dim=128,
    ),
    "8B": LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "length", "gigaflops"),
    [("1B", 2048, 7.817), ("1B", 4096, 8.220), ("1B", 8192, 9.025), ("3B", 2048, 20.33), ("8B", 4096, 48.25)],
)
def test_flops_per_token_of_known_shapes(shape: str, length: int, gigaflops: float) -> None:
    assert flops_per_token(SHAPES[shape], length) == pytest.approx(gigaflops * 1e9, rel=1e-3)


@pytest.mark.parametrize("config", [GPT2Config(), GPTNeoXConfig(), MixtralConfig()])
def test_other_architectures_get_no_figure_rather_than_a_wrong_one(config: object) -> None:
    assert flops_per_token(config, 2048) is None


def test_a_cpu_has_no_known_peak_and_some_memory() -> None:
    assert peak_flops(torch.device("cpu")) is None
    assert 0.05 < memory_gb(torch.device("cpu")) < 64


def test_the_clock_leaves_pauses_out() -> None:
    clock = Clock()
    clock.speed(0)
    clock.add(1000)
    time.sleep(0.2)
    clock.pause(0.1)
    clock.waited(0.05)
    seen = clock.interval()
    assert seen["perf/tokens_per_second"] == pytest.approx(10_000, rel=0.3)
    assert seen["perf/data_wait"] == pytest.approx(0.5, rel=0.3)
    assert clock.speed(1000) == pytest.approx(10_000, rel=0.3)
    clock.restart()
    assert clock.interval()["perf/tokens_per_second"] == 0
