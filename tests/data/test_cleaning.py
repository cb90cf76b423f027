"""Steps inside the build: what they drop is counted and shown, what they change is what is known and tokenized."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from rewarm.core.errors import DataError
from rewarm.data.prepare import build_dataset
from rewarm.data.scan import clean
from rewarm.data.steps import build_steps
from rewarm.recipe.steps import Step
from rewarm.report.words import concentration_notes, text_figures
from tests.data.conftest import MakeRecipe, write_jsonl
from tests.data.test_prepare import entry_of, texts_of

PII = {"kind": "pii"}


def test_texts_that_a_step_made_far_longer_are_measured_by_the_batch() -> None:
    pages = ["<html><body>" + "<ul><li>" * 250 + "<li>x" * 4000] * 4
    recipe = [{"kind": "extract", "main_content": False}, {"kind": "quality", "min_words": 5}]
    answers = clean(pages, build_steps(TypeAdapter(list[Step]).validate_python(recipe)))
    assert len(answers) == 4 and len(set(answers)) == 1
    assert clean(["a short text"] * 400_000, build_steps(TypeAdapter(list[Step]).validate_python(recipe[1:])))


def test_drops_are_counted_by_rule_and_shown_with_their_place(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    noise = [f"{n} " + "buy now " * 200 for n in range(5)]
    path = write_jsonl(tmp_path / "law.jsonl", [*english, *noise])
    recipe = make_recipe(path, steps=[{"kind": "repetition", "profile": "eng_Latn"}])
    entry = entry_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1))
    dropped = {rule: n for rule, n in entry["filtered"].items() if rule.startswith("repetition: ")}
    assert sum(dropped.values()) >= 5
    assert entry["accepted"] + entry["held_out"] == entry["documents_in"] - sum(entry["filtered"].values())
    shown = [sample for rule in dropped for sample in entry["samples"][rule]]
    assert any(sample["text"].startswith("0 buy now") and sample["line"] == len(english) + 1 for sample in shown)
    assert all(sample["file"] == str(path) for sample in shown)
    assert max(map(len, entry["samples"].values())) <= 3


def test_what_a_step_changes_is_what_is_known_and_tokenized(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    same = ["Write to anna@example.org for the rest of it.", "Write to bert@example.org for the rest of it."]
    recipe = make_recipe(write_jsonl(tmp_path / "law.jsonl", [*english[:100], *same]), steps=[PII])
    dataset = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
    kept, held = texts_of(dataset, tokenizer_folder)
    assert entry_of(dataset)["filtered"] == {"duplicate": 1}  # equal once they are masked
    assert not any("@example.org" in text for text in kept + held)


def test_how_much_comes_from_few_sites_and_sources_is_said(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    """Shares are of what the rules kept, copies among it: no site can have more than all."""
    texts = [*english[:20], *english[:10], *english[20:40]]
    urls = ["https://www.a.example/1"] * 30 + ["http://b.example/x"] * 10 + [""] * 10
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps({"text": t, "url": u}) + "\n" for t, u in zip(texts, urls, strict=True)))
    other = write_jsonl(tmp_path / "other.jsonl", english[40:60])
    dataset = build_dataset(make_recipe(path, sources={"other": other}), tokenizer_folder, tmp_path / "d", workers=1)
    sizes = [len(text.encode()) for text in texts]
    found = {site["site"]: site["share"] for site in entry_of(dataset)["sites"]}
    assert found == {"a.example": sum(sizes[:30]) / sum(sizes), "b.example": sum(sizes[30:40]) / sum(sizes)}
    first, second = concentration_notes([text_figures(entry) for entry in dataset.manifest["sources"]])
    assert first.startswith("Of the sources' tokens, before weights: law ") and ", other " in first
    assert second.startswith("Largest sites of law, by bytes: a.example ") and "the 2 largest: " in second


def test_steps_are_for_sources_unless_a_text_has_its_own(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    law = write_jsonl(tmp_path / "law.jsonl", [*english[:60], "law@example.org"])
    old = write_jsonl(tmp_path / "old.jsonl", [*english[60:], "old@example.org"])
    dataset = build_dataset(make_recipe(law, replay=old, steps=[PII]), tokenizer_folder, tmp_path / "d", workers=1)
    replayed = [text for part in texts_of(dataset, tokenizer_folder, "replay") for text in part]
    assert "old@example.org" in replayed
    assert "law@example.org" not in [text for part in texts_of(dataset, tokenizer_folder) for text in part]


def test_other_steps_make_another_dataset_and_the_same_ones_the_same(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    path = write_jsonl(tmp_path / "law.jsonl", [*english[:60], "law@example.org"])
    built = [
        build_dataset(make_recipe(path, steps=steps), tokenizer_folder, tmp_path / "d", workers=1).hash
        for steps in ([], [PII], [PII])
    ]
    assert built[0] != built[1] == built[2]


def test_steps_that_drop_everything_are_an_error_that_says_so(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    path = write_jsonl(tmp_path / "law.jsonl", [f"{n} " + "buy now " * 200 for n in range(50)])
    recipe = make_recipe(path, steps=[{"kind": "repetition", "profile": "eng_Latn"}])
    with pytest.raises(DataError, match="the steps drop every document") as error:
        build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
    assert error.value.where == "source law"


def test_a_near_duplicate_of_what_is_held_out_is_not_trained_on(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    texts = [text for text in english if len(text.split()) >= 120]
    near = [text.replace(" the ", " this ", 1) for text in texts]
    path = write_jsonl(tmp_path / "law.jsonl", [*texts, *(n for n, t in zip(near, texts, strict=True) if n != t)])
    panel = write_jsonl(tmp_path / "panel.jsonl", [f"{text} More." for text in texts[:3]])
    dataset = build_dataset(
        make_recipe(path, panels={"panel": panel}, near_duplicates={}), tokenizer_folder, tmp_path / "d", workers=1
    )
    kept, held = texts_of(dataset, tokenizer_folder)
    assert entry_of(dataset)["filtered"]["near duplicate"] >= len(texts)
    assert len(set(kept) & set(texts) | set(kept) & set(near)) + len(held) <= len(texts)
    for text in texts[:3]:
        assert text not in kept and text.replace(" the ", " this ", 1) not in kept
