"""Each rule with a document on its threshold, which stays, and one just beyond, which goes."""

from __future__ import annotations

import re
from pydoc_data.topics import topics
from typing import Any

import pytest

from rewarm.data.steps.quality import LIMITS, figures
from rewarm.data.steps.words import Texts, word_hashes
from tests.data.steps.conftest import applied, reason

BULLET, PLAIN = "- one two three\n", "one two three\n"
CASES: dict[str, tuple[Any, str, str]] = {  # limit, a document on it, one beyond it
    "min_words": (5, "a b c d e", "a b c d"),
    "max_words": (5, "a b c d e", "a b c d e f"),
    "min_word_length": (3.0, "aa aaaa", "aa aaa"),
    "max_word_length": (3.0, "aa aaaa", "aa aaaaa"),
    "min_alphabetic_words": (0.75, "a b c 1", "a b 1 2"),
    "min_stop_words": (2, "the cat of a house", "the cat in a house"),
    "max_symbols_per_word": (0.5, "a # b", "a # b #"),
    "max_bullet_lines": (0.75, BULLET * 3 + PLAIN, BULLET * 4 + PLAIN),
    "max_ellipsis_lines": (0.5, "one two…\nthree.", "one two…\nthree...\nfour."),
    "min_line_punctuation": (0.5, "One two.\nthree", "One two.\nthree\nfour"),
    "max_short_lines": (0.5, "a\n" + "long " * 20, "a\nb\n" + "long " * 20),
    "max_new_lines_per_word": (0.25, "a b\nc d", "a b\nc"),
}


def test_every_limit_has_its_case() -> None:
    assert list(CASES) == [limit.field for limit in LIMITS]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.field)
def test_on_the_limit_is_kept_and_beyond_is_dropped(limit: Any) -> None:
    value, on, beyond = CASES[limit.field]
    settings = {limit.field: value} | ({"stop_words": ["the", "of"]} if limit.field == "min_stop_words" else {})
    assert applied(on, "quality", **settings) == on
    assert reason(beyond, "quality", **settings) == limit.reason


def test_the_ellipsis_counts_as_a_symbol_too() -> None:
    assert reason("a … b …", "quality", max_symbols_per_word=0.5) == "symbols"
    assert reason("a b c d ... e", "quality", max_symbols_per_word=0.2) is None


def test_words_are_without_the_punctuation_around_them_and_symbols_are_none() -> None:
    assert (
        reason("«the», (cat) | — *** of!", "quality", min_words=3, stop_words=["the", "of"], min_stop_words=2) is None
    )
    assert reason("«the», (cat) | — *** of!", "quality", min_words=4) == "too few words"


def test_a_character_of_a_script_without_spaces_is_a_word() -> None:
    assert reason("漢字かなカナ", "quality", min_words=6, max_words=6) is None
    assert reason("ภาษาไทย", "quality", min_words=7, max_words=7) is None
    assert reason("กำลังที่", "quality", min_words=5, max_words=5) is None  # marks stand on their letters
    assert reason("한국어 문장", "quality", min_words=2, max_words=2) is None  # Hangul has spaces


@pytest.mark.parametrize("end", [".", "!", "。", "？", "।", "؟", "”", "」", "…"])
def test_sentences_end_in_many_scripts(end: str) -> None:
    assert reason(f"word{end}", "quality", min_line_punctuation=1.0) is None
    assert reason("word,", "quality", min_line_punctuation=1.0) == "lines without punctuation"


@pytest.mark.parametrize("text", ["", "\n\n", "\u200b", "#", "\u0301" * 3, "🙂" * 9])
def test_a_text_without_words_or_lines_is_only_too_short(text: str) -> None:
    assert reason(text, "quality", profile="eng_Latn") == "too few words"
    assert applied(text, "quality", max_word_length=3, max_symbols_per_word=0.1, min_words=0) == text


def test_a_setting_of_the_recipe_goes_before_the_profile() -> None:
    assert reason("Một hai ba.", "quality", profile="vie_Latn") == "too few words"
    assert reason("Một hai ba.", "quality", profile="vie_Latn", min_words=3) == "too few stop words"
    assert reason("Một hai ba.", "quality", profile="vie_Latn", min_words=3, min_stop_words=0) is None


def test_a_book_is_judged_by_its_first_million_characters() -> None:
    assert reason("word " * 300_000, "quality", max_words=199_999) == "too many words"
    assert reason("word " * 300_000, "quality", max_words=200_000) is None


def plain(text: str) -> dict[str, float]:
    """What is measured of a text with spaces, counted one by one."""
    words = [word for word in (re.sub(r"^\W+|\W+$", "", word.replace("_", "-")) for word in text.split()) if word]
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    counted: dict[str, float] = {"words": len(words)}
    if words:
        counted |= {
            "word_length": sum(map(len, words)) / len(words),
            "alphabetic_words": sum(any(c.isalpha() for c in word) for word in words) / len(words),
            "stop_words": sum(word in ("the", "of") for word in words),
            "symbols_per_word": max(text.count("#"), text.count("...") + text.count("…")) / len(words),
        }
    if lines:
        ends = {
            "bullet_lines": [line.startswith(("*", "-", "•")) for line in lines],
            "ellipsis_lines": [line.endswith(("...", "…")) for line in lines],
            "line_punctuation": [line.endswith(tuple(".!?…\"'”’»›")) for line in lines],
            "short_lines": [len(line) <= 30 for line in lines],
        }
        counted |= {name: sum(flags) / len(lines) for name, flags in ends.items()}
    if words and lines:
        counted["new_lines_per_word"] = (len(lines) - 1) / len(words)
    return counted


def test_the_figures_are_those_of_a_plain_count_whatever_stands_beside_a_text() -> None:
    odd = ["", "\n", "...", "a", " ..\n\n.…", "- the\r\n\x0b\n x...\n", "#1 [the]\u3000of"]
    texts = [text for pair in zip(topics.values(), odd * 12, strict=False) for text in pair]
    measured = list(figures(Texts(texts), word_hashes(["the", "of"])))
    for index, text in enumerate(texts):
        assert {name: values[index] for name, values, there in measured if there[index]} == plain(text)
