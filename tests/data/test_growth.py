"""A corpus that grows is read and tokenized where it grew; the work is the same whatever maps it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rewarm.core.errors import DataError
from rewarm.data.dataset import Dataset
from rewarm.data.prepare import build_dataset, find_dataset
from rewarm.data.workers import Workers, perform
from rewarm.recipe.recipe import Recipe
from tests.data.conftest import MakeRecipe, write_jsonl
from tests.data.test_prepare import bytes_of, entry_of, texts_of


class Watched(Workers):
    """Worker processes, and a list of what they were given to do."""

    tasks: list[dict[str, Any]]

    def run(self, tasks: Sequence[dict[str, Any]], progress: Callable[[float], None]) -> Iterator[int]:
        type(self).tasks += tasks
        return super().run(tasks, progress)


class Serial:
    """Another engine: one task after the other in this process, the last one first."""

    def __init__(self, cores: int, stop: Callable[[], bool]) -> None:
        pass

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tasks: Sequence[dict[str, Any]], progress: Callable[[float], None]) -> Iterator[int]:
        for index in reversed(range(len(tasks))):
            perform(tasks[index], lambda done: None)
            yield index


def read_again(tasks: list[dict[str, Any]], what: str) -> int:
    return sum(len(task["slice"]["files"]) for task in tasks if task["do"] == what)


@pytest.fixture
def library(tmp_path: Path, english: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 300 files, in slices of a size that gives as many as megabytes would."""
    monkeypatch.setattr("rewarm.data.slices._SMALLEST", 1 << 15)
    for n in range(300):
        write_jsonl(tmp_path / "library" / f"{n:03d}.jsonl", [f"{n} {text}" for text in english[n % 7 :: 30]])
    return tmp_path / "library"


@pytest.mark.parametrize("name", ["149a", "999"])
def test_a_new_file_costs_what_it_holds(
    tmp_path: Path, library: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str], name: str
) -> None:
    def build(recipe: Recipe) -> Dataset:
        Watched.tasks = []
        return build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=2, engine=Watched)

    before = build(make_recipe(library))
    assert read_again(Watched.tasks, "scan") == read_again(Watched.tasks, "tokenize") == 300
    write_jsonl(library / f"{name}.jsonl", [f"new {text}" for text in english[:9]])
    after = build(make_recipe(library))
    assert after.hash != before.hash
    assert entry_of(after)["documents_in"] == entry_of(before)["documents_in"] + 9
    assert read_again(Watched.tasks, "scan") <= 60  # at most two slices of the 300 files
    assert read_again(Watched.tasks, "tokenize") <= 60
    fresh = build_dataset(make_recipe(library), tokenizer_folder, tmp_path / "fresh", workers=2)
    kept, held = (set(part) for part in texts_of(after, tokenizer_folder))
    assert kept | held == set().union(*texts_of(fresh, tokenizer_folder))
    assert set(texts_of(before, tokenizer_folder)[1]) <= held


def test_nothing_is_done_twice(tmp_path: Path, library: Path, tokenizer_folder: Path, make_recipe: MakeRecipe) -> None:
    for _ in range(2):
        Watched.tasks = []
        build_dataset(make_recipe(library), tokenizer_folder, tmp_path / "d", workers=2, engine=Watched)
    assert Watched.tasks == []


def test_whatever_maps_the_work_the_bytes_are_the_same(
    tmp_path: Path, library: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(library, near_duplicates={})
    one = build_dataset(recipe, tokenizer_folder, tmp_path / "a", workers=2)
    other = build_dataset(recipe, tokenizer_folder, tmp_path / "b", workers=2, engine=Serial)
    assert bytes_of(one.path) == bytes_of(other.path)


def test_a_dataset_is_found_without_reading_where_nothing_changed(
    tmp_path: Path, library: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    def find(**data: Any) -> Dataset | None:
        return find_dataset(make_recipe(library, **data), tokenizer_folder, tmp_path / "d")

    assert find() is None
    old = time.time() - 60
    for path in library.iterdir():
        os.utime(path, (old, old))  # a file that changed a moment ago is not trusted to be the same
    built = build_dataset(make_recipe(library), tokenizer_folder, tmp_path / "d", workers=2)
    found = find()
    assert found is not None and found.hash == built.hash
    assert find(document_tokens={"eos": "<|endoftext|>"}) is None
    write_jsonl(library / "new.jsonl", ["one more"])
    assert find() is None


def test_a_dataset_can_be_made_again_as_it_was_whatever_was_held_out_since(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    path = write_jsonl(tmp_path / "law.jsonl", english)
    first = build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=1)
    before = bytes_of(first.path)
    part = write_jsonl(tmp_path / "part.jsonl", texts_of(first, tokenizer_folder)[0])
    build_dataset(make_recipe(part), tokenizer_folder, tmp_path / "d", workers=1)  # holds out others of these texts
    shutil.rmtree(first.path)
    other = build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=1)
    assert other.hash != first.hash  # what is held out anywhere is not trained on in a new run
    same = build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=1, again=first.hash)
    assert bytes_of(same.path) == before
    write_jsonl(path, english[::-1])  # as many texts, in another order
    anew = build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=1, again=first.hash)
    assert not set(texts_of(first, tokenizer_folder)[1]) & set(texts_of(anew, tokenizer_folder)[0])


def test_what_the_base_has_learned_is_not_learned_again(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    texts = [text for text in english if len(text.split()) >= 120]
    old = make_recipe(write_jsonl(tmp_path / "old.jsonl", texts), near_duplicates={})
    before = build_dataset(old, tokenizer_folder, tmp_path / "d", workers=1)
    near = [f"{text} Updated." for text in texts[:10]]
    other = [" ".join(reversed(text.split())) for text in texts]  # the same words, but no five in a row
    path = write_jsonl(tmp_path / "new.jsonl", [*near, *other])
    new = make_recipe(path, near_duplicates={"earlier": [before.hash]})
    dataset = build_dataset(new, tokenizer_folder, tmp_path / "d", workers=1)
    kept, held = texts_of(dataset, tokenizer_folder)
    assert not set(near) & {*kept, *held}
    assert entry_of(dataset)["filtered"] == {"near duplicate": 10}
    with pytest.raises(DataError, match="no such dataset"):
        build_dataset(
            make_recipe(path, near_duplicates={"earlier": ["x"]}), tokenizer_folder, tmp_path / "d", workers=1
        )
