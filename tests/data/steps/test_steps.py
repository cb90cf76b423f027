"""All steps together: their order, their purity, and the facts that addresses are made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, get_args

import pytest

from rewarm.core.errors import DataError
from rewarm.data.scan import clean
from rewarm.data.steps import Drop, build_steps, facts
from rewarm.data.steps.words import Texts
from rewarm.recipe.steps import Step
from tests.data.steps.conftest import STEPS, applied, rule

NASTY = [
    "",
    " ",
    "\x00",
    "e\u0301" * 3,
    "\u202eabc\u202c",
    "ﷺ" * 50,
    "👨\u200d👩\u200d👧" * 20,
    "Z\u0351\u036b\u0343alg\u0308o",
    "\u2028\u2029\x85\x0b",
    "𝕬𝖇𝖈 𠀀𠀁",
    "\U0010ffff\U000e0001",
    "a" * 5000,
    "<html><p>x",
    "١٢٣ ۱۲۳ १२३",
]


@pytest.fixture
def every(tmp_path: Path) -> list[dict[str, Any]]:
    """A step of each kind."""
    (tmp_path / "words.txt").write_text("python\n")
    (tmp_path / "items.jsonl").write_text(json.dumps({"task": "t", "id": "i", "text": next(iter(topics.values()))}))
    return [
        {"kind": "extract"},
        {"kind": "normalise"},
        {"kind": "language", "language": "en", "min_score": 0.1},
        {"kind": "quality", "profile": "eng_Latn"},
        {"kind": "repetition", "profile": "eng_Latn"},
        {"kind": "pii"},
        {"kind": "word_list", "path": str(tmp_path / "words.txt"), "max_share": 0.05},
        {"kind": "decontaminate", "path": str(tmp_path / "items.jsonl")},
    ]


def test_there_is_a_module_for_every_kind(every: list[dict[str, Any]]) -> None:
    kinds = [get_args(model.model_fields["kind"].annotation)[0] for model in get_args(get_args(Step)[0])]
    assert [settings["kind"] for settings in every] == kinds
    assert [built.name for built in build_steps(STEPS.validate_python(every))] == kinds
    assert [built.changes for built in build_steps(STEPS.validate_python(every))] == [
        kind in ("extract", "normalise", "pii") for kind in kinds
    ]


def test_the_order_is_the_recipe_s() -> None:
    text, steps = "Mail anna@example.org now", [{"kind": "pii"}, {"kind": "quality", "max_word_length": 5}]
    for order, answer in ((steps, "<EMAIL>"), (steps[::-1], "long words")):
        (result,) = clean([text], build_steps(STEPS.validate_python(order)))
        assert answer in (result if isinstance(result, str) else result[0])


_IN_ANOTHER_PROCESS = """
import json, sys
from rewarm.data.steps.words import Texts
from tests.data.steps.conftest import rule
steps, texts = json.load(sys.stdin)
print(json.dumps([rule(**step).apply(Texts(texts)) for step in steps]))
"""


def test_the_same_text_gives_the_same_answer_in_every_process(every: list[dict[str, Any]]) -> None:
    texts = [*NASTY, *list(topics.values())[:10], *(text * 2 for text in NASTY)]
    here = [rule(**step).apply(Texts(texts)) for step in every]
    alone = [[rule(**step).apply(Texts([text]))[0] for text in texts[::-1]][::-1] for step in every]
    assert alone == here  # no state from one text to the next, whatever stands beside it
    there = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS],
        input=json.dumps([every, texts]),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert json.loads(there.stdout) == json.loads(json.dumps(here))


def test_a_rule_that_does_not_change_gives_back_the_text_itself(every: list[dict[str, Any]]) -> None:
    for settings in every:
        built = rule(**settings)
        texts = [*NASTY, *list(topics.values())[:10]]
        for text, result in zip(texts, built.apply(Texts(texts)), strict=True):
            assert built.changes or isinstance(result, Drop) or result is text
            if built.changes and isinstance(result, str):
                result.encode()


def test_facts_are_about_content_and_never_about_places(every: list[dict[str, Any]], tmp_path: Path) -> None:
    before = facts(STEPS.validate_python(every))
    assert json.loads(json.dumps(before)) == before and str(tmp_path) not in json.dumps(before)
    moved = [json.loads(json.dumps(step).replace("words.txt", "moved.txt")) for step in every]
    (tmp_path / "words.txt").rename(tmp_path / "moved.txt")
    assert facts(STEPS.validate_python(moved)) == before
    (tmp_path / "moved.txt").write_text("java\n")
    changed = facts(STEPS.validate_python(moved))
    assert [a["kind"] for a, b in zip(before, changed, strict=True) if a != b] == ["word_list"]


def test_facts_follow_the_content_of_a_profile(tmp_path: Path) -> None:
    def known(words: int, **settings: Any) -> Any:
        (tmp_path / "p.json").write_text(
            json.dumps({"origin": "x", "quality": {"kind": "quality", "min_words": words}})
        )
        return facts(STEPS.validate_python([{"kind": "quality", "profile": str(tmp_path / "p.json"), **settings}]))

    assert known(5) != known(6)
    assert known(5, min_words=7) == known(6, min_words=7)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("vie", "no profile 'vie'"),
        ("zzz", "shipped are eng_Latn, vie_Latn"),
        ("./none.json", "No such"),
    ],
)
def test_a_profile_that_is_not_there_is_an_error_that_helps(profile: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        applied("x", "quality", profile=profile)
    assert message in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"origin": "x", "quality": {"kind": "quality", "min_word": 1}}'])
def test_a_broken_profile_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(DataError, match="not a profile") as error:
        applied("x", "quality", profile=str(path))
    assert error.value.where == str(path)
