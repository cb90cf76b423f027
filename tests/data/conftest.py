"""A small real tokenizer, and recipes and files around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from rewarm.recipe.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def train_tokenizer(folder: Path, texts: Iterable[str]) -> Path:
    """A byte-level BPE with chat markers as BOS and EOS, like many instruct models have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # as Qwen has them: control tokens that are not marked as special, and one for a run of spaces
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("    ", special=False)])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [*topics.values(), "Bộ luật này quy định tiêu chuẩn lao động; quyền, nghĩa vụ, trách nhiệm."]
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "base", texts)


@pytest.fixture(scope="session")
def english() -> list[str]:
    """Real text, no two alike."""
    return sorted({" ".join(text.split(" ")[:150]) for text in topics.values() if text.strip()})


def write_jsonl(path: Path, texts: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts))
    return path


@pytest.fixture(scope="session")
def make_recipe() -> MakeRecipe:
    """A recipe of one source called ``law``, with further sources, replay, panels and settings by name."""

    def make(
        path: Path | str,
        *,
        sources: dict[str, Path] | None = None,
        replay: Path | None = None,
        panels: dict[str, Path] | None = None,
        on_bad_file: str = "stop",
        **data: Any,
    ) -> Recipe:
        first = {"name": "law", "path": str(path), "on_bad_file": on_bad_file}
        more = [{"name": name, "path": str(at)} for name, at in (sources or {}).items()]
        if replay is not None:
            data["replay"] = {"path": str(replay), "share": 0.25}
        measured = [{"name": name, "path": str(at)} for name, at in (panels or {}).items()]
        return Recipe.model_validate(
            {
                "name": "test",
                "base_model": "none",
                "data": {"sources": [first, *more], **data},
                "evaluation": {"panels": measured},
            }
        )

    return make
