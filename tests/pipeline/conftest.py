"""A tiny real model, a small corpus and a recipe: a whole run in seconds."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rewarm.core.run import Run, list_runs
from rewarm.core.workspace import Workspace

END = "<|endoftext|>"
VOCABULARY = 400


def sentences(count: int, seed: int, words: list[str]) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(5, 60))) + "." for _ in range(count)]


NEW = [f"{a}{b}{c}" for a in ("nh", "tr", "ph") for b in "aeo" for c in ("ng", "m", "i")]
OLD = [f"{a}{b}{c}" for a in ("st", "bl", "cr") for b in "aeo" for c in ("nd", "ck", "ll")]


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))


def make_model(folder: Path, texts: list[str] | None = None, positions: int = 256) -> None:
    """A Llama of two layers with random weights; its tokenizer is learned from ``texts``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts or sentences(300, 0, NEW + OLD), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=positions, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)


RECIPE = """\
name: tiny
base_model: ./model
data:
  sources:
    - {name: new, path: new.jsonl}
  replay: {name: old, path: old.jsonl, share: 0.25}
hyperparameters:
  learning_rate: 3e-3
  epochs: 2
  batch_size: 2
  gradient_accumulation_steps: 2
  max_sequence_length: 64
  logging_steps: -1
  checkpoint_strategy: steps
  checkpoint_steps: 4
infrastructure: {devices: cpu, threads: 1}
evaluation:
  panels:
    - {name: other, path: other.jsonl}
  at: [0.5]
"""


@dataclass(frozen=True)
class Bench:
    """A folder with a recipe, and a workspace of its own."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "home")

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "REWARM_HOME": str(self.workspace.root), "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}

    def rewarm(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """The command line as a user has it."""
        command = [sys.executable, "-c", "from rewarm.cli.main import main; main()", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=timeout
        )

    def run(self) -> Run:
        return list_runs(self.workspace)[-1]


def make_bench(folder: Path, **replace: Any) -> Bench:
    make_model(folder / "model")
    write_jsonl(folder / "new.jsonl", sentences(400, 1, NEW))
    write_jsonl(folder / "old.jsonl", sentences(200, 2, OLD))
    write_jsonl(folder / "other.jsonl", sentences(60, 3, OLD[::2]))
    text = RECIPE
    for old, new in replace.items():
        text = text.replace(old, new)
    (folder / "recipe.yaml").write_text(text)
    return Bench(folder)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench whose recipe has run to its end."""
    bench = make_bench(tmp_path_factory.mktemp("finished"))
    done = bench.rewarm("run", "recipe.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return bench
