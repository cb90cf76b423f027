"""Makers of tiny real parts, importable by the processes that the tests start and kill."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rewarm.core.events import EventLog, metrics, read_events
from rewarm.core.storage import sha256_file
from rewarm.data.dataset import Dataset
from rewarm.data.plan import Plan
from rewarm.data.prepare import build_dataset
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.mixture import build_mixture
from rewarm.recipe.recipe import Data, Recipe, Replay, Source
from rewarm.train.job import Job

WORDS = [f"{a}{b}{c}" for a in "bdgklm" for b in "aeiou" for c in "nrst"]
DEFAULTS: dict[str, Any] = {
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "epochs": 2,
    "finetuning_type": "full",
    "learning_rate": 3e-3,
    "max_sequence_length": 64,
    "disable_gradient_checkpointing": True,
    "mixed_precision": "none",
    "weight_decay": 0.1,
    "logging_steps": 1,
    "checkpoint_strategy": "no",
    "eval_strategy": "no",
    "lr_warmup_steps": 2,
    "lora_rank": 4,
}
KILL_CHANGES: dict[str, Any] = {
    "checkpoint_strategy": "steps",
    "checkpoint_steps": 2,
    "number_of_checkpoints": 2,
    "epochs": 6,
    "lora_dropout": 0.2,
}
DISK_CHANGES: dict[str, Any] = {"checkpoint_strategy": "steps", "checkpoint_steps": 2, "number_of_checkpoints": 2}


def texts(count: int, seed: int) -> list[str]:
    """Documents of 1 to 60 words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 60))) for _ in range(count)]


def make_base(folder: Path, *, vocabulary: int = 384, tied: bool = True) -> Path:
    """A Llama of 2 layers with grouped heads, with a tokenizer of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|bos|>", "<|eos|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts(200, 0), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1], add_bos_token=True, add_eos_token=True
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def mixed(folder: Path) -> Data:
    """A source and a replay source in ``folder``."""
    return Data(
        sources=[Source(name="news", path=str(folder / "news.jsonl"))],
        replay=Replay(name="old", path=str(folder / "old.jsonl"), share=0.25),
    )


def make_dataset(folder: Path, base: Path, documents: int = 60) -> Path:
    """A dataset of a source and a replay source."""
    for name, seed in (("news", 1), ("old", 2)):
        lines = [orjson.dumps({"text": text}) for text in texts(documents, seed)]
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    recipe = Recipe(name="tiny", base_model=str(base), data=mixed(folder))
    return build_dataset(recipe, base, folder / "datasets", workers=1).path


def make_job(folder: Path, base: Path, corpus: Path, *, attempt: int = 1, silent: bool = False, **changes: Any) -> Job:
    """A job in ``folder``; ``changes`` are hyperparameters or fields of the job."""
    fields = {name: changes.pop(name) for name in list(changes) if name in Job.__dataclass_fields__}
    hyperparameters = Hyperparameters(**{**DEFAULTS, **changes})
    dataset = Dataset.open(corpus)
    plan = Plan(
        dataset,
        build_mixture(mixed(folder), {name: source.tokens for name, source in dataset.sources.items()}),
        hyperparameters.epochs,
        hyperparameters.max_sequence_length,
        hyperparameters.seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    log = EventLog(folder / "events.jsonl", attempt, silent=silent)
    log.stage = "train"
    return Job(folder, dataset, plan, hyperparameters, base, log, **{"threads": 1, **fields})


def curve(folder: Path, name: str = "train/loss") -> dict[int, str]:
    """A metric of a run by step, to the last bit."""
    events = (event for event, _ in read_events(folder / "events.jsonl"))
    return {step: value.hex() for step, _, value in metrics(events).get(name, [])}


def weights(checkpoint: Path) -> str:
    """SHA-256 of a checkpoint's parameters."""
    return sha256_file(checkpoint / "model-rank00000.safetensors")


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The events of one kind in a run."""
    return [event for event, _ in read_events(folder / "events.jsonl") if event["kind"] == kind]
