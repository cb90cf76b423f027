"""What may not be read, and links that lead nowhere, are errors that name them, never fewer files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rewarm.core.errors import DataError
from rewarm.data.documents import read_documents
from rewarm.data.files import list_files

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
    if drop and not shutil.which(drop[0]):
        pytest.skip("root may read everything here")
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
