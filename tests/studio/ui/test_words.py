"""Every language says everything that English says, with the same places for values."""

from __future__ import annotations

import string

import pytest

from rewarm.core.run import STAGES
from rewarm.studio.service.templates import list_templates
from rewarm.studio.ui.words import LANGUAGES, NAMES
from rewarm.studio.ui.words.en import WORDS


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_a_language_is_whole(language: str) -> None:
    words = LANGUAGES[language][1]
    assert set(words) == set(WORDS)
    assert [key for key in WORDS if places(words[key]) != places(WORDS[key])] == []


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_our_own_names_have_words(language: str) -> None:
    wanted = {f"stage.{stage}" for stage in STAGES}
    wanted |= {f"template.{known.name}.{part}" for known in list_templates() for part in ("title", "about")}
    assert set(NAMES[language]) == wanted
