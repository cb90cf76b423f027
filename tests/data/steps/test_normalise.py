"""What carries no text goes, what a script needs stays, and right text is left as it is."""

from __future__ import annotations

from pydoc_data.topics import topics

import pytest

from rewarm.data.steps import Drop
from tests.data.steps.conftest import applied

VIETNAMESE = "Điều 1. Bộ luật này quy định tiêu chuẩn lao động; quyền, nghĩa vụ, trách nhiệm.\n\n“ĐÃ QUA SỬ DỤNG” – à…"


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("\r\na\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("a\x00b\x07c\x7fd\x9fe\ufffef\ufdd0g\tx", "abcdefg\tx"),
        ("a\u200bb\u200cc\u200dd\u00ade\ufefff\u202eg\u2060h", "abcdefgh"),
        ("  a  \t\n\n\n\n\u00a0b \u3000\n\n", "  a\n\n\u00a0b"),
        ("Tiáº¿ng Viá»‡t, cafÃ©, itâ€™s", "Tiếng Việt, café, it’s"),
        ("РџСЂРёРІРµС‚", "Привет"),
    ],
)
def test_dirt_goes(dirty: str, clean: str) -> None:
    assert applied(dirty, "normalise") == clean


@pytest.mark.parametrize(
    "text",
    [
        VIETNAMESE,
        "“ĐÃ” “Ô… Ã – Â",
        "می\u200cخواهم",  # the joiner parts two halves of a Persian word
        "क्\u200dष",
        "👨\u200d👩\u200d👧",
        "ไทย\u200bคำ",
        "שלום עולם",
        "한국어\n\n日本語。",
        "Привет, «мир» — ёлка",
        *[text for text in topics.values() if "\n\n\n" not in text and " \n" not in text][:5],
    ],
)
def test_right_text_stays_as_it_is(text: str) -> None:
    assert applied(text.strip("\n"), "normalise") == text.strip("\n")


def test_each_repair_can_be_switched_off() -> None:
    dirty = "cafÃ©\u200b\x00  \r\n"
    assert applied(dirty, "normalise", mojibake=False) == "cafÃ©"
    assert applied(dirty, "normalise", zero_width=False) == "café\u200b"
    assert applied(dirty, "normalise", control=False, line_ends=False) == "café\x00  \r\n"


@pytest.mark.parametrize("text", ["\u200b\u200b", "\x00", " \n "])
def test_a_text_of_nothing_else_is_dropped(text: str) -> None:
    assert applied(text, "normalise") == Drop("no text left")


@pytest.mark.parametrize("unit", [" \t", "\n", "Ã©", "\u200b", "â", "\u200c"])
def test_time_is_in_proportion_to_length(unit: str) -> None:
    applied(unit * 400_000 + "x", "normalise")  # a pattern that backtracks would take minutes
