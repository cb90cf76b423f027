"""Each rule with a document on its threshold and one just beyond; the figures against a plain count."""

from __future__ import annotations

from collections import Counter
from pydoc_data.topics import topics
from typing import Any

import pytest

from rewarm.data.steps.repetition import LIMITS, figures
from rewarm.data.steps.words import Texts, measure
from tests.data.steps.conftest import applied, reason

JAPANESE = "ファイルを開くことができます。ファイルを保存することができます。印刷することもできます。" * 2


def words(start: int, count: int) -> str:
    """Words of four characters, none of which comes twice."""
    return " ".join(f"w{n:03}" for n in range(start, start + count))


def repeated(n: int, times: int, rest: int) -> str:
    """``times`` the same n words, each time between others; ``rest`` further ones."""
    return " ".join(f"{words(0, n)} {words(100 + i, 1)}" for i in range(times)) + " " + words(500, rest)


def test_lines_that_came_before_are_counted_by_number_and_by_characters() -> None:
    text = "one\ntwo\n\none\nthree\n"  # one line of four came before, 3 characters of 14
    assert reason(text, "repetition", max_duplicate_lines=0.25) is None
    assert reason(text, "repetition", max_duplicate_lines=0.24) == "duplicate lines"
    assert reason(text, "repetition", max_duplicate_line_characters=3 / 14) is None
    assert reason(text, "repetition", max_duplicate_line_characters=0.21) == "characters in duplicate lines"


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_commonest_words_in_a_row(n: int) -> None:
    text = repeated(n, 3, 40)
    share = 3 * (5 * n - 1) / len(text)
    settings = {f"max_top_{n}_gram": share}
    assert applied(text, "repetition", **settings) == text
    assert reason(text, "repetition", **{f"max_top_{n}_gram": share - 0.001}) == f"top {n}-gram"


@pytest.mark.parametrize("n", [5, 6, 7, 8, 9, 10])
def test_words_in_a_row_that_came_before(n: int) -> None:
    text = repeated(n, 3, 40)
    share = 2 * 4 * n / len(text)  # from the second time on
    assert applied(text, "repetition", **{f"max_duplicated_{n}_gram": share}) == text
    assert reason(text, "repetition", **{f"max_duplicated_{n}_gram": share - 0.001}) == f"duplicated {n}-grams"
    assert reason(
        text, "repetition", **({f"max_duplicated_{n + 1}_gram": 0.0} if n < 10 else {"profile": "eng_Latn"})
    ) in (
        None,
        "top 2-gram",
        "duplicated 5-grams",
    )


def test_what_comes_once_is_no_repetition_however_short_the_text() -> None:
    texts = Texts(["", "a", "a b", "one two three four five", "a b", "一二三四五"])
    assert not any(values.any() for _, values, _ in figures(texts))


def test_the_limits_are_what_is_measured_in_that_order() -> None:
    measured = [name for name, _, _ in figures(Texts([repeated(10, 3, 5) + "\n" + words(0, 3)]))]
    assert measured == [limit.figure for limit in LIMITS]


def plain(text: str) -> dict[str, float]:
    """What is measured, counted one by one."""
    found = measure([text]).words
    starts, ends = found.starts.tolist(), found.ends.tolist()
    tokens = [text[a:b] for a, b in zip(starts, ends, strict=True)]
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    total = sum(map(len, lines))
    counted = {
        "duplicate_lines": (len(lines) - len(set(lines))) / max(1, len(lines)),
        "duplicate_line_characters": (total - sum(map(len, set(lines)))) / max(1, total),
    }
    for n in range(2, 11):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        counts = Counter(grams)
        most = max(counts.values(), default=0)
        spans: dict[Any, int] = {}
        seen, covered = set(), set()
        for i, gram in enumerate(grams):
            spans[gram] = min(spans.get(gram, len(text)), ends[i + n - 1] - starts[i])
            covered.update(range(i, i + n) if gram in seen else ())
            seen.add(gram)
        longest = max((spans[gram] for gram, count in counts.items() if count == most), default=0)
        if n < 5:
            counted[f"top_{n}_gram"] = min(1, most * longest * (most > 1) / max(1, len(text)))
        else:
            counted[f"duplicated_{n}_gram"] = sum(len(tokens[i]) for i in covered) / max(1, len(text))
    return counted


def test_the_figures_are_those_of_a_plain_count_whatever_stands_beside_a_text() -> None:
    texts = [*list(topics.values())[:12], JAPANESE, "", "a a a a a a a\n\n  a a b", " \u3000a\r\na\n \n", JAPANESE]
    measured = {name: values for name, values, _ in figures(Texts(texts))}
    for index, text in enumerate(texts):
        assert {name: values[index] for name, values in measured.items()} == plain(text)
