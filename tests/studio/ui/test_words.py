"""Every language says everything that English says, with the same places for values."""

from __future__ import annotations

import string

import pytest

from rewarm.studio.ui.words import LANGUAGES
from rewarm.studio.ui.words.en import WORDS


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_a_language_is_whole(language: str) -> None:
    words = LANGUAGES[language][1]
    assert set(words) == set(WORDS)
    assert [key for key in WORDS if places(words[key]) != places(WORDS[key])] == []
