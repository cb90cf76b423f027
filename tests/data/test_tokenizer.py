"""Text in, ids out and text again; BOS and EOS by convention or by name; text never becomes control."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from rewarm.core.errors import DataError, ModelError
from rewarm.data import tokenizer as module
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.recipe.recipe import DocumentTokens

LLAMA = next(p for p in module._PATTERNS if "{1,3}" in p)
QWEN = next(p for p in module._PATTERNS if p.startswith("(?i:") and "{1,3}" not in p)
# characters on which the patterns differ: letters, marks, digits, punctuation and white space of all kinds
ALPHABET = "aZđờ한漢ก\u0301 09٣½_.,!'s<|>[]\n\n\r\t   \u00a0\u2028\x0b\x1f\x85🙂"


def changed(folder: Path, target: Path, **config: object) -> Path:
    shutil.copytree(folder, target)
    (target / "tokenizer_config.json").write_text(json.dumps(config))
    return target


@pytest.fixture(scope="session")
def pattern_folders(tmp_path_factory: pytest.TempPathFactory, english: list[str]) -> dict[str, Path]:
    """Tokenizers that cut words as Llama 3, Qwen and SmolLM2 do."""
    root = tmp_path_factory.mktemp("patterns")
    steps = {
        "llama": [pre_tokenizers.Split(Regex(LLAMA), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)],
        "qwen": [pre_tokenizers.Split(Regex(QWEN), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)],
    }
    for name, parts in steps.items():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator([*english, ALPHABET * 50, "\n\n" * 99, "  " * 99], trainer)
        (root / name).mkdir()
        tokenizer.save(str(root / name / "tokenizer.json"))
    return {name: root / name for name in steps}


def inner(tokenizer: DocumentTokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of each text, without BOS and EOS."""
    begin, end = int(tokenizer.bos_id is not None), None if tokenizer.eos_id is None else -1
    return [ids[begin:end].tolist() for ids in tokenizer.encode_batch(texts)]


@settings(deadline=None)
@given(text=st.text())
def test_decode_gives_the_text_back(tokenizer_folder: Path, text: str) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    assert tokenizer.decode(tokenizer.encode_batch([text])[0]) == text


@settings(deadline=None)
@given(parts=st.lists(st.sampled_from(["<|im_end|>", "<|endoftext|>", "<tool_call>", "<|im_start|>", " ", "x", "<|"])))
def test_text_never_becomes_a_control_token(tokenizer_folder: Path, parts: list[str]) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    ids = inner(tokenizer, ["".join(parts)])[0]
    control = {0, 1, 2, Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json")).token_to_id("<tool_call>")}
    assert not control & set(ids)
    assert tokenizer.decode(ids) == "".join(parts)


def test_added_tokens_for_spaces_stay(tokenizer_folder: Path) -> None:
    stock = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    ours = inner(DocumentTokenizer.load(tokenizer_folder), ["a    b"])[0]
    assert ours == stock.encode("a    b").ids
    assert stock.token_to_id("    ") in ours


def test_bos_is_not_added_unless_it_is_the_convention(tokenizer_folder: Path, tmp_path: Path) -> None:
    plain = DocumentTokenizer.load(tokenizer_folder)
    assert (plain.bos_id, plain.eos_id, plain.context_id) == (None, 2, 2)
    ids = plain.encode_batch(["a", "b"])
    assert [i.tolist()[-1] for i in ids] == [2, 2]

    adding = changed(tokenizer_folder, tmp_path / "a", add_bos_token=True, bos_token="<|im_start|>")
    tokenizer = DocumentTokenizer.load(adding)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.context_id) == (1, None, 1)
    assert tokenizer.encode_batch(["a"])[0].tolist() == [1, *inner(plain, ["a"])[0]]


def test_bos_of_a_post_processor(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = changed(tokenizer_folder, tmp_path / "a", eos_token="<|im_end|>")
    stock = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stock.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    stock.enable_truncation(5)
    stock.enable_padding()
    stock.save(str(folder / "tokenizer.json"))
    tokenizer = DocumentTokenizer.load(folder)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (0, 2)
    short, long = tokenizer.encode_batch(["a", "one two three four five six seven eight nine"])
    assert len(short) == 3  # not padded
    assert tokenizer.decode(long) == "one two three four five six seven eight nine"  # not cut


@pytest.mark.parametrize(
    ("given_tokens", "expected"),
    [
        ({}, (None, 2)),
        ({"eos": "<|endoftext|>"}, (None, 0)),
        ({"eos": None}, (None, None)),
        ({"bos": "<|im_start|>", "eos": None}, (1, None)),
        ({"bos": None}, (None, 2)),
    ],
)
def test_document_tokens_override_what_they_name(
    tokenizer_folder: Path, given_tokens: dict[str, str | None], expected: tuple[int | None, int | None]
) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder, DocumentTokens(**given_tokens))
    assert (tokenizer.bos_id, tokenizer.eos_id) == expected


def test_the_hash_depends_on_what_the_ids_depend_on(tokenizer_folder: Path) -> None:
    hashes = {
        DocumentTokenizer.load(tokenizer_folder, tokens).hash
        for tokens in (
            None,
            DocumentTokens(eos="<|im_end|>"),
            DocumentTokens(eos="<|endoftext|>"),
            DocumentTokens(eos=None),
        )
    }
    assert len(hashes) == 3


def test_errors_name_what_is_wrong(tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)document_tokens.eos.*<\|endoftext\|>"):
        DocumentTokenizer.load(tokenizer_folder, DocumentTokens(eos="<eos>"))
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        DocumentTokenizer.load(tmp_path)
    for broken in (b"", b"{", b"{}", b'{"model": 7}', (tokenizer_folder / "tokenizer.json").read_bytes()[:5000]):
        (tmp_path / "tokenizer.json").write_bytes(broken)
        with pytest.raises(ModelError, match=r"tokenizer\.json"):
            DocumentTokenizer.load(tmp_path)
    with pytest.raises(ModelError, match="neither"):
        _ = DocumentTokenizer.load(tokenizer_folder, DocumentTokens(bos=None, eos=None)).context_id


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen", "smollm"])
@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from(ALPHABET), min_size=10, max_size=120), size=st.integers(1, 10))
def test_cutting_a_long_text_does_not_change_its_ids(
    tokenizer_folder: Path, pattern_folders: dict[str, Path], kind: str, text: str, size: int
) -> None:
    tokenizer = DocumentTokenizer.load(pattern_folders.get(kind, tokenizer_folder))
    assert tokenizer._in_parts
    whole = tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PART", size)
        patch.setattr(module, "_GROUP", 3 * size)
        assert inner(tokenizer, ["x", text, "", text])[1] == whole


def test_long_texts_are_cut(tokenizer_folder: Path, english: list[str]) -> None:
    text = "\n".join(english * 2)
    assert len(text) > 2 * module._PART
    assert len(module._parts(text)) > 1
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    whole = tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    assert inner(tokenizer, [text])[0] == whole


def test_a_tokenizer_of_another_kind_is_left_alone(tmp_path: Path, english: list[str]) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        english, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert not DocumentTokenizer.load(tmp_path)._in_parts


def test_ids_fit_their_type(tokenizer_folder: Path) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    assert (tokenizer.vocab_size, tokenizer.dtype) == (1002, np.dtype("<u2"))
    tokenizer.vocab_size = 65_537
    assert tokenizer.dtype == np.dtype("<u4")
