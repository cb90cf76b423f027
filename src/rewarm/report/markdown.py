"""The report as GitHub-flavoured Markdown, and the model card: README.md of a published version.

Both say the same of the run in the same words; the card says first what the model is and how to load it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rewarm.report import words

_LOAD = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
"""


def markdown(report: Mapping[str, Any]) -> str:
    """The report of a run."""
    parts = [
        f"# {_plain(report['name'])}: before and after",
        f"Base model {_code(report['base']['reference'])}, {words.short_date(report['created'])}.",
        *_headlines(report),
        *_body(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def card(report: Mapping[str, Any], *, license: str | None = None, language: str | None = None) -> str:
    """The card of the model that ``report`` is about, with YAML front matter as the Hugging Face Hub reads it.

    ``license`` and ``language`` are the base's or the user's to know; what is not given is called unknown.
    """
    base = str(report["base"]["reference"])
    known = license or "unknown: the licence of the base model and of the training text decide"
    parts = [
        _front_matter(base, license, language),
        f"# {_plain(report['name'])}",
        f"{_code(base)}, trained further on {_texts(report)}: continual pretraining with Rewarm "
        f"{report['repeat']['versions']['rewarm']}, {report['training']['tokens']:,} tokens, "
        f"{words.short_date(report['created'])}.",
        *_headlines(report),
        f"Licence: {_plain(known)}.",
        "## Use",
        _fenced(_LOAD, "python"),
        words.use(report),
        *_body(report),
        "The full report is in `report/report.html`, its figures in `report/report.json`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headlines(report: Mapping[str, Any]) -> list[str]:
    lines = words.headlines(report)
    bounds = [f" ({line.interval})" if line.interval else "" for line in lines]
    said = [f"**{line.title}: {line.figure}**{of} {_plain(line.text)}" for line, of in zip(lines, bounds, strict=True)]
    return [*said, words.LEGEND]


def _body(report: Mapping[str, Any]) -> list[str]:
    """What was found, on what, what it does not show, and how to get it again."""
    rows, data, repeat = report["rows"], report["data"], report["repeat"]
    heads, others = words.candidate_rows(report)
    ignored = [f"- {_code(item['field'])}: ignored because {item['because']}" for item in report["ignored"]]
    return [
        "## Before and after",
        _table(words.RESULT_HEADS, [words.result_cells(row) for row in rows]),
        *(part for title, heads, cells in words.task_tables(rows) for part in (f"**{title}**", _table(heads, cells))),
        *map(_plain, words.verdicts(rows)),
        *map(_plain, words.notes(rows)),
        *([f"## {words.CANDIDATES}", *map(_plain, words.choice(report)), _table(heads, others)] if others else []),
        *_pilot(report.get("pilot")),
        "## Training",
        _table(("", ""), words.training_facts(report)),
        "## Data",
        _table(*words.data_rows(data["texts"])),
        *map(_plain, words.data_notes(data)),
        "## What this does not show",
        "\n".join(f"- {_plain(line)}" for line in report["limits"]),
        *(["## Ignored settings", "\n".join(ignored)] if ignored else []),
        "## How to get it again",
        _fenced(repeat["command"], "sh"),
        _fenced(repeat["recipe"], "yaml"),
        _table(("", ""), words.repeat_facts(report)),
    ]


def _pilot(pilot: Mapping[str, Any] | None) -> list[str]:
    if not pilot:
        return []
    notes = map(_plain, words.pilot_notes(pilot))
    return [f"## {words.PILOT}", *notes, _table(words.PILOT_HEADS, words.pilot_rows(pilot))]


def _front_matter(base: str, license: str | None, language: str | None) -> str:
    """Metadata for the hub; every string is quoted as JSON, which is YAML."""
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    if not base.startswith((".", "/", "~")) and "@" not in base:  # a folder here or a version of ours is no hub id
        lines.append(f"base_model: {json.dumps(base)}")
    lines.append(f"license: {json.dumps(license) if license else 'unknown'}")
    if language:
        lines.append(f"language: {json.dumps(language)}")
    return "\n".join([*lines, "tags:", "- continual-pretraining", "- rewarm", "---"])


def _texts(report: Mapping[str, Any]) -> str:
    texts = [(text["role"], _code(text["name"])) for text in report["data"]["texts"]]
    learned = ", ".join(name for role, name in texts if role == "source")
    return learned + "".join(f", with {name} replayed" for role, name in texts if role == "replay")


def _plain(text: str) -> str:
    """Text that Markdown must not read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(str(text).split()))


def _code(text: str) -> str:
    quoted = " ".join(str(text).replace("`", "'").split())
    return f"`{quoted}`"


def _fenced(text: str, language: str) -> str:
    """A block of code, fenced by more back-ticks than it holds in a row."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
