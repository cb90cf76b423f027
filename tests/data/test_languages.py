"""Languages and a domain that nobody tuned the path for: from raw files, with a derived profile, to a sound dataset."""

from __future__ import annotations

import gettext
import html
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rewarm.cli.main import app
from rewarm.data.prepare import build_dataset
from tests.data.conftest import MakeRecipe
from tests.data.test_prepare import texts_of

STUB = "Returns the value that was asked for, or an error where there is none.\n"
LONG = 600
"""Characters of a page, at least: some 70 words."""


def pages(paragraphs: Iterable[str]) -> Iterator[str]:
    """HTML of paragraphs that follow one another."""
    page = ""
    for paragraph in paragraphs:
        page += f"<p>{html.escape(paragraph.strip())}</p>\n"
        if len(page) > LONG:
            yield f"<html><body>{page}</body></html>"
            page = ""


def translated(folder: Path, locale: str) -> tuple[Path, Path]:
    """Mercurial's help in a language: three pages of five are the reference; the corpus has some never translated."""
    (package,) = importlib.util.find_spec("mercurial").submodule_search_locations  # read, never imported
    with Path(package, "locale", locale, "LC_MESSAGES", "hg.mo").open("rb") as file:
        catalog = gettext.GNUTranslations(file)
    texts = [path.read_text("utf-8") for path in sorted(Path(package, "helptext").glob("*.txt"))]
    texts += Path(package, "commands.py").read_text("utf-8").split('"""')[1::2]
    source = [paragraph for text in texts for paragraph in text.split("\n\n") if paragraph.strip()]
    speaks = {paragraph: catalog.gettext(paragraph) for paragraph in source}  # as hg help does, by paragraph
    done = list(pages(there for here, there in speaks.items() if there != here))
    never = list(pages(here for here, there in speaks.items() if there == here))
    for number, page in enumerate(done + never[:25]):
        kind = "clean" if number < len(done) and number % 5 < 3 else "raw"
        (folder / kind / f"{number}.html").write_text(page, "utf-8")
    return folder / "clean", folder / "raw"


def manual(folder: Path) -> tuple[Path, Path]:
    """numpy's own manual: what begins with a to m is the reference; the rest is the corpus, with stubs of no use."""
    for name in dir(np):
        text = getattr(getattr(np, name), "__doc__", None)
        if name[0].islower() and text and len(text.split()) > 60:
            (folder / ("clean" if name < "n" else "raw") / f"{name}.txt").write_text(text, "utf-8")
    for number in range(20):
        (folder / "raw" / f"stub{number}.txt").write_text(f"def stub{number}():\n" + STUB * 30)
    return folder / "clean", folder / "raw"


@pytest.mark.parametrize(
    ("language", "letters", "dropped", "least"),
    [
        ("ja", "[ぁ-ん]", "language: another language", 20),
        ("ru", "[а-я]", "language: another language", 20),
        ("eng", "[a-z]", "repetition: duplicate lines", 20),
    ],
)
def test_from_raw_files_to_a_sound_dataset(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, language: str,
    letters: str, dropped: str, least: int,
) -> None:  # fmt: skip
    for kind in ("clean", "raw"):
        (tmp_path / kind).mkdir()
    clean, raw = manual(tmp_path) if language == "eng" else translated(tmp_path, language)
    profile = tmp_path / "profile.json"
    arguments = ["data", "thresholds", str(clean), "--language", language, "--output", str(profile)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    steps: list[dict[str, Any]] = [{"kind": "extract"}, {"kind": "normalise"}]
    steps.append({"kind": "language", "language": language, "profile": str(profile)})
    steps += [{"kind": kind, "profile": str(profile)} for kind in ("quality", "repetition")]
    recipe = make_recipe(raw, steps=steps, near_duplicates={}, max_rejected=0)
    dataset = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
    (entry,) = dataset.manifest["sources"]
    kept = [text for part in texts_of(dataset, tokenizer_folder) for text in part]
    assert len(kept) == entry["accepted"] + entry["held_out"] == entry["documents_in"] - sum(entry["filtered"].values())
    assert entry["filtered"][dropped] >= least and len(kept) > 0.25 * entry["documents_in"]
    assert all(re.search(letters, text) and "<html" not in text and STUB not in text for text in kept)
