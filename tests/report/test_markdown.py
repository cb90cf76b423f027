from __future__ import annotations

import yaml

from rewarm.report.markdown import card
from tests.report.sample_report import RECIPE, sample_report


def front_matter(text: str) -> dict[str, object]:
    _, head, _ = text.split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(head)
    return found


def test_front_matter_is_what_the_hub_reads() -> None:
    head = front_matter(card(sample_report()))
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M"
    assert head["license"] == "unknown" and "language" not in head
    assert head["library_name"] == "transformers" and head["pipeline_tag"] == "text-generation"
    assert "continual-pretraining" in head["tags"]  # type: ignore[operator]
    told = front_matter(card(sample_report(), license="apache-2.0", language="vi"))
    assert (told["license"], told["language"]) == ("apache-2.0", "vi")


def test_a_base_that_is_no_hub_id_is_not_called_one() -> None:
    for reference in ("./base", "/models/base", "legal-vi@3"):
        text = card(sample_report(base={"reference": reference}))
        assert "base_model" not in front_matter(text)
        assert reference in text


def test_names_cannot_break_the_front_matter() -> None:
    reference = 'org/x"\nlicense: mit\n---\n'
    head = front_matter(card(sample_report(base={"reference": reference})))
    assert head["base_model"] == reference and head["license"] == "unknown"


def test_the_card_says_what_it_is_worth_and_how_to_get_it_again() -> None:
    report = sample_report()
    text = card(report)
    assert RECIPE.strip() in text
    assert "**Gain: " in text and "**Forgetting: " in text
    assert text.index("**Gain: ") < text.index("## What this does not show") < text.index("## How to get it again")
    for line in report["limits"]:
        assert line[:30].split(":")[0] in text
    assert "AutoModelForCausalLM.from_pretrained" in text
    assert "Licence: unknown" in text
    for value in report["repeat"]["hashes"].values():
        assert value in text
