"""A document that holds thirteen words of a benchmark item in a row is dropped; twelve may be chance."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from rewarm.core.errors import DataError
from rewarm.data.steps import Drop
from rewarm.data.steps.decontaminate import benchmark_ngrams
from tests.data.steps.conftest import applied, reason

LONG = " ".join(f"w{n}" for n in range(40))
KANJI = "".join(chr(0x4E00 + n) for n in range(60))
ITEMS = [
    {"task": "exams", "id": "e1", "text": LONG},
    {"task": "lambada", "id": 7, "text": "Tám từ thôi là đủ để tìm thấy."},
    {"task": "kanji", "id": "k", "text": KANJI},
    {"task": "short", "id": "s", "text": "Quá ngắn."},
    {"task": "twice", "id": "t", "text": LONG},
]


@pytest.fixture
def items(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in ITEMS) + "\n\n", encoding="utf-8")
    return str(path)


def run(first: int, count: int) -> str:
    return "x " + " ".join(f"w{n}" for n in range(first, first + count)) + " y"


def test_all_items_that_a_document_holds_are_named(tmp_path: Path) -> None:
    some = [{"task": "exams", "id": str(i), "text": " ".join(f"w{i}x{k}" for k in range(13))} for i in range(3)]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, some)))
    found = applied(some[2]["text"] + " and " + some[0]["text"], "decontaminate", path=str(tmp_path / "items.jsonl"))
    assert isinstance(found, Drop) and found.flagged == (("13-gram of exams", "0"), ("13-gram of exams", "2"))


def test_twelve_words_are_kept_and_thirteen_dropped(items: str) -> None:
    assert applied(run(5, 12), "decontaminate", path=items) == run(5, 12)
    assert applied(run(5, 13), "decontaminate", path=items)[:2] == ("13-gram of exams", "e1")
    assert reason(run(27, 13), "decontaminate", path=items) == "13-gram of exams"
    assert reason(run(5, 8), "decontaminate", path=items, words=8) == "8-gram of exams"


def test_case_punctuation_and_white_space_do_not_hide_a_match(items: str) -> None:
    text = run(0, 13).upper().replace(" W7 ", ",\n\n«W7»-")
    assert applied(text, "decontaminate", path=items)[:2] == ("13-gram of exams", "e1")


def test_a_short_item_is_looked_for_whole(items: str) -> None:
    assert applied("A: tám từ, thôi là đủ để tìm thấy!", "decontaminate", path=items)[:2] == ("13-gram of lambada", "7")
    assert reason("tám từ thôi là đủ để tìm", "decontaminate", path=items) is None
    assert reason("quá ngắn", "decontaminate", path=items) is None
    assert benchmark_ngrams(items).too_short == 1


def test_without_spaces_two_characters_count_as_a_word(items: str) -> None:
    assert reason("一" + KANJI[20:45], "decontaminate", path=items) is None
    assert applied(KANJI[20:33] + "、" + KANJI[33:46], "decontaminate", path=items)[:2] == ("13-gram of kanji", "k")


def test_all_items_that_match_can_be_told(items: str) -> None:
    assert benchmark_ngrams(items).matches([LONG, "none", LONG]) == [
        [("exams", "e1"), ("twice", "t")],
        [],
        [("exams", "e1"), ("twice", "t")],
    ]


@pytest.mark.parametrize("before", [990_000, 999_980, 1_000_000, 2_500_000])
def test_nothing_is_missed_in_a_long_document(items: str, before: int) -> None:
    assert reason("ab " * (before // 3) + LONG + " cd" * 1000, "decontaminate", path=items) == "13-gram of exams"


@pytest.mark.parametrize("line", ["[1]", "{", '{"task": "a", "id": "b"}', '{"task": "a", "id": "b", "text": 3}'])
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(ITEMS[0]) + "\n" + line)
    with pytest.raises(DataError) as error:
        benchmark_ngrams(path)
    assert error.value.where == f"{path}:2"


def test_no_items_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        benchmark_ngrams(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="no benchmark item"):
        benchmark_ngrams(tmp_path / "empty.jsonl")


def test_a_run_does_not_reach_from_one_text_into_the_next(items: str) -> None:
    assert benchmark_ngrams(items).matches([run(0, 7)[:-2], run(7, 6)[2:]]) == [[], []]


@pytest.mark.parametrize(
    "text",
    [
        "Ủy ban hoà giải đã thuý, hoà thuận; ở đó hoạ sĩ tạo ra bức tranh quý",
        "Uỷ ban hòa giải đã thúy, hòa thuận; ở đó họa sĩ tạo ra bức tranh quý",
    ],
)
def test_where_a_tone_mark_stands_does_not_hide_a_match(tmp_path: Path, text: str) -> None:
    item = "Ủy ban hòa giải đã thúy hòa thuận ở đó hoạ sĩ tạo ra bức tranh quý"
    (tmp_path / "items.jsonl").write_text(json.dumps({"task": "exams", "id": 1, "text": item}), encoding="utf-8")
    for copy in (text, unicodedata.normalize("NFD", text), text.replace("h", "h\u200b")):
        assert reason(copy, "decontaminate", path=str(tmp_path / "items.jsonl")) == "13-gram of exams"
