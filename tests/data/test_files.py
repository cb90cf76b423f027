"""What may not be read, and links that lead nowhere, are errors that name them, never fewer files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rewarm.core.errors import DataError, UserError
from rewarm.data.documents import read_documents
from rewarm.data.files import list_files
from rewarm.data.prepare import build_dataset
from rewarm.data.sample import sample_texts
from rewarm.recipe.recipe import Recipe
from tests.data.conftest import MakeRecipe
from tests.data.test_documents import zipped

LIST = """
import sys
from rewarm.data.documents import read_documents
from rewarm.data.files import list_files
try:
    for name in list_files(sys.argv[1:]).files:
        print(name, len(list(read_documents(name))))
except Exception as error:
    print(type(error).__name__, error)
"""


def read_as_nobody_special(*paths: Path) -> str:
    """What a process says that may not read everything, as root may."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    command = [*drop, sys.executable, "-c", LIST, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_link_to_itself_is_an_error_where_a_document_should_be(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("kept")
    for name in ("x.jsonl", "loop"):
        (tmp_path / name).symlink_to(tmp_path / name)
    listing = list_files([str(tmp_path)])
    assert [Path(name).name for name in listing.files] == ["a.txt", "x.jsonl"]
    assert [Path(name).name for name in listing.ignored] == ["loop"]
    for path in (tmp_path / "x.jsonl", tmp_path / "loop"):
        with pytest.raises(DataError, match="symbolic links") as caught:
            list(read_documents(list_files([str(path)]).files[0]))
        assert caught.value.where == str(path)


@pytest.mark.parametrize("named", ["corpus", "corpus/closed", "corpus/closed/a.txt", "corpus/closed/*.txt"])
def test_a_folder_that_may_not_be_read(tmp_path: Path, named: str) -> None:
    closed = tmp_path / "corpus" / "closed"
    closed.mkdir(parents=True)
    (closed / "a.txt").write_text("text")
    (tmp_path / "corpus" / "b.txt").write_text("text")
    closed.chmod(0)
    try:
        said = read_as_nobody_special(tmp_path / named)
    finally:
        closed.chmod(0o700)
    assert said.startswith(f"DataError {closed}"), said
    assert "*" in named or "Permission denied" in said


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_text("text")
    (tmp_path / "b.txt").chmod(0)
    said = read_as_nobody_special(tmp_path)
    assert said.startswith(f"{tmp_path}/a.txt 1\nDataError {tmp_path}/b.txt"), said
    assert "Permission denied" in said


def test_what_is_to_be_done_about_long_texts_and_other_endings(
    tmp_path: Path, make_recipe: MakeRecipe, tokenizer_folder: Path
) -> None:
    long, other = tmp_path / "long.txt", tmp_path / "other"
    long.write_bytes(b"a" * (65 << 20))
    other.mkdir()
    (other / "a.zip").write_bytes(zipped({"book.rst": b"#"}))
    for path, words, remedy in (
        (long, "longer than 64 MiB: 1", "split it into documents"),
        (other, r"no document in it \(1 files read, 1 ignored, 0 damaged\)", ".tar"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=1)
        assert remedy in str(caught.value.remedy)


def test_a_misspelt_column_of_a_large_file_and_in_a_check(
    tmp_path: Path, make_recipe: MakeRecipe, tokenizer_folder: Path
) -> None:
    law = tmp_path / "law.jsonl"
    law.write_bytes(b'{"title": "t", "body": "some text"}\n' * 50_000)
    recipe = make_recipe(law)
    source = recipe.data.sources[0].model_copy(update={"text_column": "bodyy"})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": [source]})})
    for read in (
        lambda: sample_texts(recipe, tokenizer_folder),
        lambda: build_dataset(recipe, tokenizer_folder, tmp_path),
    ):
        with pytest.raises(DataError, match="no column 'bodyy'; the columns are 'title', 'body'") as caught:
            read()
        assert caught.value.where == str(law)


@pytest.mark.parametrize(
    "path", ["S3://b/x", "s3:/b/x", "s3//b", "hf:/datasets/a/b", "https//h/x", "gs://b/x", "file:///tmp/x", "ftp://h/x"]
)
def test_misspelt_addresses_are_no_paths(path: str) -> None:
    with pytest.raises(UserError, match="no address that can be read") as caught:
        list_files([path])
    assert "s3://" in str(caught.value.remedy)
    source = {"name": "a", "path": path}
    with pytest.raises(UserError, match="no address that can be read"):
        Recipe.model_validate({"name": "t", "base_model": "none", "data": {"sources": [source]}})
    with pytest.raises(UserError, match="has a password") as caught:
        list_files(["ftp://me:canary@h/x"])
    assert "canary" not in str(caught.value)
