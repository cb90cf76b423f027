"""A profile derived from a reference: usable as it is, the same whatever the order, lenient to its own reference."""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from typer.testing import CliRunner

from rewarm.cli.main import app
from rewarm.core.errors import DataError
from rewarm.data.scan import clean
from rewarm.data.steps.limits import load_profile
from rewarm.data.steps.words import measure
from rewarm.data.thresholds import derive_thresholds
from tests.data.conftest import write_jsonl
from tests.data.steps.conftest import reason, rule

# From the Japanese Debian Reference, (c) Osamu Aoki, GPL-2+ (free to copy and change): one sentence, varied.
JAPANESE = "本書は非開発者を対象にシェルコマンド例を通してシステム管理の多くの局面を説明します。"


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [text.split(" ") for text in topics.values()]
    texts = [" ".join(w[i : i + 250]) for w in words for i in range(0, len(w) - 250, 250)]
    return write_jsonl(tmp_path_factory.mktemp("reference") / "english.jsonl", [*texts, "Too short to measure."])


def test_a_profile_keeps_its_reference_and_drops_noise(english: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    result = CliRunner().invoke(app, ["data", "thresholds", str(english), "--language", "en", "--output", str(path)])
    assert result.exit_code == 0 and "quantiles of a reference" in result.output
    every = [json.loads(line)["text"] for line in english.read_text().splitlines()]
    texts = [text for text in every if len(measure([text]).words) >= 50]
    rules = [rule(kind, profile=str(path)) for kind in ("quality", "repetition")]
    rules.append(rule("language", language="en", profile=str(path)))
    kept = [text for text in clean(texts, rules) if isinstance(text, str)]
    assert len(kept) >= 0.85 * len(texts)
    assert reason("buy now " * 100, "repetition", profile=str(path)) == "top 2-gram"
    assert reason("xkcd qwrt " * 100, "quality", profile=str(path)) == "too few stop words"


def test_the_reference_and_the_method_are_on_record(english: Path) -> None:
    profile = derive_thresholds([str(english)], "eng_Latn", tail=0.02)
    shipped = load_profile("eng_Latn")
    assert "0.02" in profile.origin and profile.reference["documents"] == len(english.read_text().splitlines())
    assert profile.quality and shipped.quality and profile.repetition and shipped.repetition
    assert {"the", "of"} <= set(profile.quality.stop_words or [])
    for kind, figures in (("quality", profile.quality), ("repetition", profile.repetition)):
        for name, value in figures.model_dump(exclude={"kind", "profile", "stop_words"}, exclude_none=True).items():
            base = getattr(getattr(shipped, kind), name)
            if "word_length" not in name:
                assert value <= base if name.startswith("min_") else value >= base


def test_the_order_of_the_files_and_of_the_documents_does_not_matter(english: Path, tmp_path: Path) -> None:
    lines = english.read_text().splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_text("".join(reversed(lines[:50])))
    (tmp_path / "a.jsonl").write_text("".join(lines[50:]))
    assert derive_thresholds([str(tmp_path)], "en") == derive_thresholds([str(english)], "en")


def test_a_script_without_spaces_and_a_language_that_the_detector_does_not_know(tmp_path: Path) -> None:
    texts = [(JAPANESE * 4)[n % 7 :] + f"第{n}章、" + JAPANESE[n % 11 :] * 2 for n in range(120)]
    profile = derive_thresholds([str(write_jsonl(tmp_path / "ja.jsonl", texts))], "qaa")
    assert "characters" in profile.origin and profile.language is None and profile.detector is None
    assert profile.quality and profile.quality.max_word_length and profile.quality.max_word_length < 2
    assert profile.quality.min_words == 100 and "の" in (profile.quality.stop_words or [])
    (tmp_path / "p.json").write_text(profile.model_dump_json(exclude_none=True))
    assert reason(texts[5], "quality", profile=str(tmp_path / "p.json")) is None
    assert reason("completely english words " * 50, "quality", profile=str(tmp_path / "p.json")) == "long words"


def test_a_small_reference_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["word " * 60 + str(n) for n in range(99)])
    with pytest.raises(DataError, match="a reference of 99 documents"):
        derive_thresholds([str(path)], "en")
