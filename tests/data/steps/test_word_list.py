"""A share of listed words on the limit is kept, beyond it dropped; phrases count by their words."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewarm.core.errors import DataError
from tests.data.steps.conftest import applied, reason


@pytest.fixture
def words(tmp_path: Path) -> str:
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# insults\nfool\nđồ ngu  # a phrase\n\n馬鹿\n", encoding="utf-8")
    return str(path)


def test_on_the_share_is_kept_and_beyond_is_dropped(words: str) -> None:
    on, beyond = "a FOOL, c d", "a fool fool d"
    assert applied(on, "word_list", path=words, max_share=0.25) == on
    assert reason(beyond, "word_list", path=words, max_share=0.25) == "listed words"
    assert reason("a foolish d", "word_list", path=words, max_share=0.0) is None


def test_phrases_and_scripts_without_spaces(words: str) -> None:
    assert applied("Thằng ĐỒ NGU này", "word_list", path=words, max_share=0.49)[1] == 0.5
    assert reason("đồ chơi ngu", "word_list", path=words, max_share=0.0) is None
    assert applied("彼は馬鹿だ", "word_list", path=words, max_share=0.1)[1] == 0.4


@pytest.mark.parametrize(
    ("content", "what"), [(None, "cannot be read"), (b"# none\n", "no word"), (b"\xff", "not UTF-8")]
)
def test_a_list_that_is_none_is_an_error(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=what):
        applied("a", "word_list", path=str(path))
