"""Cloze items by rule: the answer is a number or a name, follows enough words, and is not to be copied."""

from __future__ import annotations

from rewarm.data.cloze import ALIKE, MOST, cloze_items

SENTENCE = "The fine for a loud engine after dark is set at 1.500.000 dong."


def asked(*texts: str, count: int = 100) -> list[tuple[str, str]]:
    return [(item["prompt"], item["completion"]) for item in cloze_items(texts, count)]


def test_a_number_or_a_name_is_asked_for() -> None:
    assert asked(SENTENCE) == [("The fine for a loud engine after dark is set at", " 1.500.000")]
    assert asked("the river that flows past the old town is the Danube, they say") == [
        ("the river that flows past the old town is the", " Danube")
    ]


def test_what_could_be_copied_or_guessed_is_not() -> None:
    assert asked("In 1815 and again in the summer of 1815 it burned") == []  # it stands there before
    assert asked("It was 7 in all.") == []  # too few words
    assert asked("all the people who lived in the city of New York") == [
        ("all the people who lived in the city of", " New")
    ]
    assert asked(" ".join(["so"] * (MOST + 1)) + " 1815") == []  # too many


def test_sentences_and_lines_end_where_they_do() -> None:
    text = "one two three four five six.\nseven eight 1 nine ten eleven twelve. 3 a b c d e f g! 12 h i j k l m 44"
    assert asked(text) == [("12 h i j k l m", " 44")]


def test_one_item_a_document_few_of_one_answer_and_always_the_same() -> None:
    texts = [SENTENCE.replace("loud", f"loud{i} red") for i in range(9)]
    assert len(asked(*texts)) == ALIKE
    many = [SENTENCE.replace("1.500.000", str(i)) + " " + SENTENCE for i in range(50)]
    assert asked(*many) == asked(*reversed(many)) and len(asked(*many, count=10)) == 10
