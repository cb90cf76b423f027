"""The steps of a recipe: read, located, and every mistake named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewarm.core.errors import UserError
from rewarm.recipe.load import parse_recipe
from rewarm.recipe.recipe import Recipe


def recipe(minimal: str, *steps: str) -> Recipe:
    return parse_recipe(minimal + "  steps:\n" + "".join(f"    - {step}\n" for step in steps), [], Path("/home"))


def test_steps_stand_in_the_order_of_the_recipe_and_files_are_seen_from_it(minimal: str) -> None:
    steps = recipe(
        minimal,
        "{kind: repetition, profile: vie_Latn}",
        "{kind: quality, profile: ./p.json, min_words: 10}",
        "{kind: word_list, path: words.txt}",
        "{kind: decontaminate, path: /items.jsonl}",
    ).data.steps
    assert [step.kind for step in steps] == ["repetition", "quality", "word_list", "decontaminate"]
    assert [getattr(step, "profile", None) for step in steps] == ["vie_Latn", "/home/p.json", None, None]
    assert [getattr(step, "path", None) for step in steps] == [None, None, "/home/words.txt", "/items.jsonl"]


def test_a_text_may_have_its_own_steps(minimal: str) -> None:
    own = minimal.replace("path: law.jsonl", "path: law.jsonl, steps: [{kind: quality, profile: ./p.json}]")
    found = recipe(own, "{kind: pii}")
    assert [step.kind for step in found.steps_of(found.data.sources[0])] == ["quality"]
    assert found.data.sources[0].steps[0].profile == "/home/p.json"  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{kind: quality, min_word: 3}", "quality.min_word: unknown key; did you mean 'min_words'?"),
        ("{kind: repetition, max_duplicate_lines: 1.5}", "less than or equal to 1, got 1.5"),
        ("{kind: quality, min_words: -1}", "greater than or equal to 0, got -1"),
        ("{kind: quality}", "give a profile, or at least one limit"),
        ("{kind: qualty}", "'qualty'"),
        ("{min_words: 3}", "kind"),
        ("{kind: pii, mask: [names]}", "input should be 'email'"),
        ("{kind: pii, mask: []}", "at least 1 item"),
        ("{kind: language}", "language.language: missing"),
        ("{kind: decontaminate, path: a.jsonl, words: 4}", "greater than or equal to 5"),
        ("quality", "data.steps[0]"),
    ],
)
def test_a_mistake_is_named_with_its_line(minimal: str, step: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        recipe(minimal, step)
    assert message in str(error.value)
    assert str(error.value).startswith(f"recipe.yaml:{minimal.count(chr(10)) + 2}: data.steps[0]")
