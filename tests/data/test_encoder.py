"""The fast library is used where it makes the ids of the stock one, and nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from rewarm.data import encoder as module
from rewarm.data.encoder import check_encoder, choose_encoder
from rewarm.data.files import File, signature
from rewarm.data.prepare import build_dataset
from rewarm.data.signature import Signature
from rewarm.data.slices import Slice, slices_of
from rewarm.data.tokenizer import FAST, STOCK, DocumentTokenizer

from .conftest import MakeRecipe, write_jsonl
from .test_prepare import bytes_of


def parts_of(*files: Path) -> list[Slice]:
    named = [File(str(file), signature(str(file)), sha256="0" * 64) for file in files]
    return slices_of("law", named, "auto", None)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, english: list[str]) -> list[Slice]:
    folder = tmp_path_factory.mktemp("corpus")
    return parts_of(*(write_jsonl(folder / f"{i}.jsonl", english[i::4]) for i in range(4)))


def test_the_fast_library_is_chosen_where_it_makes_the_same_ids(tokenizer_folder: Path, parts: list[Slice]) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    chosen = check_encoder(tokenizer, parts)
    assert (chosen.name, chosen.fallback) == (FAST, None)
    assert chosen.checked_documents > 0


def test_a_kind_of_tokenizer_that_the_fast_library_lacks(
    tmp_path: Path, english: list[str], parts: list[Slice]
) -> None:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(english, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chosen = check_encoder(DocumentTokenizer.load(tmp_path), parts)
    assert chosen.name == STOCK
    assert chosen.fallback is not None
    assert "unsupported" in chosen.fallback


class Wrong:
    """The fast library with another id wherever a text holds a word."""

    def __init__(self, tokenizer: Any, word: str) -> None:
        self.inner, self.word = tokenizer, word

    def encode_batch_flat(self, texts: list[str], **options: bool) -> tuple[bytes, bytes]:
        return self.inner.encode_batch_flat([text.replace(self.word, "?") for text in texts], **options)


@pytest.mark.parametrize("word", ["The", "<|im_end|>", "\u0e01", "xxxxxxxxx", "[C]"])
def test_one_other_id_anywhere_and_it_is_not_used(tokenizer_folder: Path, parts: list[Slice], word: str) -> None:
    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    tokenizer._definition.__dict__["fast"] = Wrong(tokenizer._definition.fast, word)
    chosen = check_encoder(tokenizer, parts)
    assert chosen.name == STOCK
    assert "other ids" in str(chosen.fallback)


def test_a_panic_of_the_library_is_a_reason_too(tokenizer_folder: Path, parts: list[Slice]) -> None:
    class Panic(BaseException):
        pass

    class Panicking:
        def encode_batch_flat(self, *_: object, **__: object) -> None:
            raise Panic("index out of bounds")

    tokenizer = DocumentTokenizer.load(tokenizer_folder)
    tokenizer._definition.__dict__["fast"] = Panicking()
    assert "index out of bounds" in str(check_encoder(tokenizer, parts).fallback)


def test_what_was_found_is_kept_and_never_believed_when_damaged(
    tokenizer_folder: Path, tmp_path: Path, parts: list[Slice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    good, wrong = DocumentTokenizer.load(tokenizer_folder), DocumentTokenizer.load(tokenizer_folder)
    wrong._definition.__dict__["fast"] = Wrong(good._definition.fast, "The")
    first = choose_encoder(good, parts, tmp_path)
    assert first == choose_encoder(wrong, parts, tmp_path)  # not asked
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-1], whole.replace(b"fastokens", b"fastokenz")):
        kept.write_bytes(damaged)
        assert choose_encoder(wrong, parts, tmp_path).name == STOCK
    monkeypatch.setattr(module, "version", lambda name: "another")
    assert choose_encoder(good, parts, tmp_path)[:2] == (FAST, "another")


def test_a_small_corpus_is_not_checked(tokenizer_folder: Path, tmp_path: Path, parts: list[Slice]) -> None:
    chosen = choose_encoder(DocumentTokenizer.load(tokenizer_folder), parts, tmp_path)
    assert (chosen.name, chosen.checked_documents, chosen.fallback) == (STOCK, 0, None)
    assert not list(tmp_path.iterdir())


def test_a_corpus_that_grows_has_the_same_sample_most_of_the_time() -> None:
    def part(source: str, index: int) -> Slice:
        file = File(f"{index}.jsonl", Signature(9, ""), sha256=f"{source} {index}")
        return Slice(source, index, (file,), "auto", None)

    parts = [part(source, index) for source, count in (("web", 400), ("law", 3)) for index in range(count)]
    before = [(p.source, p.files) for p in module._chosen(parts)]
    assert [source for source, _ in before] == ["web"] * 8 + ["law"] * 3
    grown = [module._chosen([*parts, part("web", index)]) for index in range(400, 600)]
    assert sum([(p.source, p.files) for p in some] == before for some in grown) > 190


def test_the_sample_is_of_the_whole_corpus_and_bounded(tmp_path: Path) -> None:
    files = [
        write_jsonl(tmp_path / f"{i:03d}.jsonl", [f"{i} {j} " + "word " * 400_000 for j in range(2)]) for i in range(8)
    ]
    sample = list(module._sample(module._chosen(parts_of(*files))))
    assert {text.split()[0] for text in sample} == {str(i) for i in range(8)}
    assert max(map(len, sample)) <= module._LONGEST
    assert sum(map(len, sample)) <= module._SLICES * module._LONGEST


def test_a_file_that_cannot_be_read_is_left_to_pass_1(tmp_path: Path, english: list[str]) -> None:
    good, bad = write_jsonl(tmp_path / "a.jsonl", english[:5]), tmp_path / "b.jsonl.gz"
    bad.write_bytes(b"\x1f\x8b\x08 and no more")
    assert list(module._sample(parts_of(bad))) == []
    assert len(list(module._sample([*parts_of(good), *parts_of(bad)]))) == 5


@pytest.mark.parametrize("workers", [1, 2])
def test_both_libraries_make_the_same_dataset(
    make_recipe: MakeRecipe, tokenizer_folder: Path, tmp_path: Path, english: list[str], workers: int
) -> None:
    recipe = make_recipe(write_jsonl(tmp_path / "law.jsonl", [*english, "x <|im_end|> y", "đất nước " * 30_000]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rewarm.data.encoder.SMALL", 0)
        patch.setattr("rewarm.data.prepare.SMALL", 0)
        fast = build_dataset(recipe, tokenizer_folder, tmp_path / "fast", workers=workers)
        before = bytes_of(fast.path)
        shutil.rmtree(fast.path)
        shutil.rmtree(tmp_path / "fast" / ".shards")
        patch.setattr("rewarm.data.prepare.SMALL", 1 << 30)  # little is left to do, as where a kill came late
        assert bytes_of(build_dataset(recipe, tokenizer_folder, tmp_path / "fast", workers=workers).path) == before
    stock = build_dataset(recipe, tokenizer_folder, tmp_path / "stock", workers=workers)
    assert [d.manifest["encoder"]["name"] for d in (fast, stock)] == [FAST, STOCK]
    assert fast.hash == stock.hash
    assert fast.manifest["files"] == stock.manifest["files"]
