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
from rewarm.data.tokenizer import FAST, STOCK, DocumentTokenizer
from rewarm.recipe.recipe import DocumentTokens

WORDS, REST = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
LLAMA, QWEN = rf"{WORDS}|\p{{N}}{{1,3}}|{REST}", rf"{WORDS}|\p{{N}}|{REST}"
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


@pytest.fixture(scope="session")
def patterned(tokenizer_folder: Path, pattern_folders: dict[str, Path]) -> dict[str, DocumentTokenizer]:
    folders = {"gpt2": tokenizer_folder, **pattern_folders}
    return {name: DocumentTokenizer.load(folder) for name, folder in folders.items()}


def inner(tokenizer: DocumentTokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of each text, without BOS and EOS."""
    begin, end = int(tokenizer.bos_id is not None), None if tokenizer.eos_id is None else -1
    return [ids[begin:end].tolist() for ids in tokenizer.encode_batch(texts)]


@pytest.fixture(scope="session")
def tokenizers(tokenizer_folder: Path) -> dict[str, DocumentTokenizer]:
    """One tokenizer, encoding with either library."""
    loaded = DocumentTokenizer.load(tokenizer_folder)
    return {name: loaded.with_encoder(name) for name in (STOCK, FAST)}


@pytest.mark.parametrize("encoder", [STOCK, FAST])
@settings(deadline=None)
@given(text=st.text())
def test_decode_gives_the_text_back(tokenizers: dict[str, DocumentTokenizer], encoder: str, text: str) -> None:
    tokenizer = tokenizers[encoder]
    assert tokenizer.decode(tokenizer.encode_batch([text])[0]) == text


@pytest.mark.parametrize("encoder", [STOCK, FAST])
@settings(deadline=None)
@given(parts=st.lists(st.sampled_from(["<|im_end|>", "<|endoftext|>", "<tool_call>", "<|im_start|>", " ", "x", "<|"])))
def test_text_never_becomes_a_control_token(
    tokenizers: dict[str, DocumentTokenizer], tokenizer_folder: Path, encoder: str, parts: list[str]
) -> None:
    tokenizer = tokenizers[encoder]
    ids = inner(tokenizer, ["".join(parts)])[0]
    control = {0, 1, 2, Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json")).token_to_id("<tool_call>")}
    assert not control & set(ids)
    assert tokenizer.decode(ids) == "".join(parts)


@pytest.mark.parametrize("encoder", [STOCK, FAST])
def test_added_tokens_for_spaces_stay(
    tokenizers: dict[str, DocumentTokenizer], tokenizer_folder: Path, encoder: str
) -> None:
    stock = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    ours = inner(tokenizers[encoder], ["a    b"])[0]
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


@pytest.mark.parametrize("bos", [None, "<|im_start|>"])
@pytest.mark.parametrize("eos", [None, "<|im_end|>"])
def test_both_libraries_frame_documents_alike(tokenizer_folder: Path, bos: str | None, eos: str | None) -> None:
    stock = DocumentTokenizer.load(tokenizer_folder, DocumentTokens(bos=bos, eos=eos))
    fast = stock.with_encoder(FAST)
    for texts in ([], [""], ["", "", "a", ""], ["one two", "", "<|im_end|>", "đất nước"]):
        expected = [ids.tolist() for ids in stock.encode_batch(texts)]
        assert [ids.tolist() for ids in fast.encode_batch(texts)] == expected
    assert expected[1] == [token for token in (stock.bos_id, stock.eos_id) if token is not None]


@pytest.fixture(scope="session")
def lacking(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> DocumentTokenizer:
    """A tokenizer that lacks a byte, as SmolLM2's lacks some."""
    value = json.loads((tokenizer_folder / "tokenizer.json").read_bytes())
    first = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("漢")[0][0][0]
    value["model"]["merges"] = [pair for pair in value["model"]["merges"] if first not in "".join(pair)]
    value["model"]["vocab"] = {"�" if t == first else t: i for t, i in value["model"]["vocab"].items()}
    folder = tmp_path_factory.mktemp("lacking")
    (folder / "tokenizer.json").write_text(json.dumps(value))
    tokenizer = DocumentTokenizer.load(folder)
    with pytest.raises(ValueError, match="no token"):
        tokenizer._definition.fast.encode_batch_flat(["漢"])
    return tokenizer


@settings(deadline=None)
@given(texts=st.lists(st.text(st.sampled_from("ab đờ漢🙂\n")), max_size=6))
def test_a_byte_without_a_token_is_left_out_as_tokenizers_does(lacking: DocumentTokenizer, texts: list[str]) -> None:
    assert inner(lacking.with_encoder(FAST), texts) == inner(lacking, texts)


@pytest.mark.parametrize("encoder", [STOCK, FAST])
def test_a_spec_makes_the_same_tokenizer(tokenizer_folder: Path, tmp_path: Path, encoder: str) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "copy")
    tokenizer = DocumentTokenizer.load(folder, DocumentTokens(bos="<|im_start|>")).with_encoder(encoder)
    spec = json.loads(json.dumps(tokenizer.spec))
    other = DocumentTokenizer.from_spec(spec)
    assert (other.spec, other.hash, other.dtype) == (spec, tokenizer.hash, tokenizer.dtype)
    assert other.encode_batch(["a b"])[0].tolist() == tokenizer.encode_batch(["a b"])[0].tolist()
    assert ("stock" in other._definition.__dict__) == (encoder == STOCK)  # the other library is not loaded
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b" ")
    with pytest.raises(ModelError, match="changed"):
        DocumentTokenizer.from_spec(spec)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen", "smollm"])
@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from(ALPHABET), max_size=120))
def test_both_libraries_make_the_same_ids(patterned: dict[str, DocumentTokenizer], kind: str, text: str) -> None:
    assert inner(patterned[kind].with_encoder(FAST), [text]) == inner(patterned[kind], [text])


def test_groups_of_texts_are_encoded_as_one_by_one(tokenizer_folder: Path, english: list[str]) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    texts = ["", *english[:30], "x" * 5000, ""]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_GROUP", 3000)
        found = tokenizer.encode_batch(texts)
    assert [ids.tolist() for ids in found] == [tokenizer.encode_batch([text])[0].tolist() for text in texts]


def test_ids_fit_their_type(tokenizer_folder: Path) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    assert (tokenizer.vocab_size, tokenizer.dtype) == (1002, np.dtype("<u2"))
    tokenizer.vocab_size = 65_537
    assert tokenizer.dtype == np.dtype("<u4")
