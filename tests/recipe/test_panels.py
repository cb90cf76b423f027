"""General panels by name: which files they are, and what a word that names none gets for an answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rewarm.core.errors import UserError
from rewarm.recipe.load import parse_recipe
from rewarm.recipe.recipe import Panel


def panels(minimal: str, given: str) -> list[Panel]:
    return parse_recipe(f"{minimal}evaluation: {{panels: {given}}}\n", [], Path("/here")).evaluation.panels


def test_a_name_is_one_file_at_one_commit_and_a_group_is_several(minimal: str) -> None:
    quick, full = panels(minimal, "[general_quick]"), panels(minimal, "[general_full]")
    assert [panel.name for panel in quick] == ["web", "encyclopedia", "code", "maths"]
    assert [panel.name for panel in full] == [*(p.name for p in quick), "french", "german", "spanish", "thai"]
    for panel in full:
        assert re.fullmatch(r"hf://datasets/[\w-]+/[\w-]+@[0-9a-f]{40}/\S+\.(jsonl|json\.gz|parquet)", panel.paths[0])
        assert panel.records and panel.text_column
    assert panels(minimal, "[{name: general_quick}]") == quick  # as a form writes it


def test_a_panel_of_ones_own_wins(minimal: str) -> None:
    own, code = panels(minimal, "[{name: web, path: web.jsonl}, {name: code, connection: mirror}]")
    assert (own.paths, own.records) == (("/here/web.jsonl",), None)
    assert (code.connection, code.records) == ("mirror", 500)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[generl_quick]", "there is no panel called 'generl_quick'; did you mean 'general_quick'"),
        ("[x]", "there is no panel called 'x'; general_quick, general_full, web"),
        ("[{name: zz}]", r"panels\[0\].path: missing"),
        ("[{name: [web]}]", r"panels\[0\].name: input should be a valid string"),
        ("[3]", r"panels\[0\]"),
        ("[web, general_full]", "twice: web"),
        ("[{name: web, path: a, records: 0}]", "records"),
    ],
)
def test_what_names_no_panel(minimal: str, given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        panels(minimal, given)
