"""The model card, README.md of a published version: what it is, made of what, worth what, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewarm.core.storage import write_file
from rewarm.pipeline import words
from rewarm.pipeline.report import data_table, results_table


def write_card(
    report: Mapping[str, Any], path: Path, *, license: str | None = None, language: str | None = None
) -> None:
    """Write the card of the model that ``report`` is about to ``path``.

    ``license`` and ``language`` are the base's or the user's to know; what is not given is called unknown.
    """
    write_file(path, card(report, license=license, language=language))


def card(report: Mapping[str, Any], *, license: str | None = None, language: str | None = None) -> str:
    """The card as Markdown with YAML front matter, as the Hugging Face Hub reads it."""
    base = str(report["base"]["reference"])
    known = license or "unknown: the licence of the base model and of the training text decide"
    parts = [
        _front_matter(base, license, language),
        f"# {words.plain(report['name'])}",
        f"`{words.code(base)}`, trained further on {_texts(report)}: continual pretraining with Rewarm "
        f"{report['repeat']['versions']['rewarm']}, {report['training']['tokens']:,} tokens, "
        f"{words.short_date(report['created'])}.",
        *(words.headline_markdown(line) for line in words.headlines(report)),
        f"Licence: {words.plain(known)}.",
        "## Use",
        words.fenced(_LOAD, "python"),
        "It continues text; it was not taught to follow instructions by this training.",
        "## Results",
        results_table(report["rows"]),
        *(words.plain(note) for note in words.notes(report["rows"])),
        "## Limits",
        "\n".join(f"- {words.plain(line)}" for line in report["limits"]),
        "## Data",
        data_table(report["data"]),
        *(words.plain(line) for line in words.data_notes(report["data"])),
        "## Training",
        words.markdown_table(("", ""), words.training_facts(report)),
        "## Recipe",
        words.fenced(report["repeat"]["recipe"], "yaml"),
        words.fenced(report["repeat"]["command"], "sh"),
        words.markdown_table(("", ""), words.repeat_facts(report)),
        "The full report is in `report/report.html`, its figures in `report/report.json`.",
    ]
    return "\n\n".join(parts) + "\n"


_LOAD = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
"""


def _front_matter(base: str, license: str | None, language: str | None) -> str:
    """Metadata for the hub; every string is quoted as JSON, which is YAML."""
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    if not base.startswith((".", "/", "~")) and "@" not in base:  # a folder here or a version of ours is no hub id
        lines.append(f"base_model: {_quoted(base)}")
    lines.append(f"license: {_quoted(license) if license else 'unknown'}")
    if language:
        lines.append(f"language: {_quoted(language)}")
    lines += ["tags:", "- continual-pretraining", "- rewarm", "---"]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return json.dumps(text)


def _texts(report: Mapping[str, Any]) -> str:
    names = [f"`{words.code(text['name'])}`" for text in report["data"]["texts"] if text["role"] == "source"]
    replay = [text["name"] for text in report["data"]["texts"] if text["role"] == "replay"]
    again = f", with `{words.code(replay[0])}` replayed" if replay else ""
    return ", ".join(names) + again
