"""Aliases: what they mean, and what they refuse to mean."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from rewarm.core.errors import Conflict, ModelError, NotFound, UserError
from rewarm.hub.aliases import Demands, aliases_of, demand, point, read_aliases, read_tags, tag, unpoint
from rewarm.hub.lineage import children, lineage_graph
from rewarm.hub.models import Version, find, list_models, publish, remove


def row(task: str, role: str, low: float | None, high: float | None, kind: str = "") -> dict[str, Any]:
    kind = kind or ("source" if role == "gain" else "panel")
    percent = {"percent": 0.0, "percent_low": low, "percent_high": high}
    return {"task": task, "metric": "bits_per_byte", "role": role, "kind": kind, **percent}


def version(models: Path, *rows: dict[str, Any], base: str = "org/base", name: str = "legal") -> Version:
    def fill(folder: Path) -> None:
        (folder / "report").mkdir()
        (folder / "report" / "report.json").write_text(json.dumps({"rows": rows}))

    lineage = {"base": {"reference": base}, "dataset": "d1", "recipe": "c1", "run": "r1"}
    return publish(models, name, fill, lineage)


GOOD = (row("laws", "gain", -9.0, -5.0), row("wiki", "forgetting", -0.5, 0.8))
FORGOT = (*GOOD, row("code", "forgetting", 0.1, 3.25))


def test_an_alias_means_a_version_until_it_is_moved(tmp_path: Path) -> None:
    first, second = version(tmp_path), version(tmp_path)
    home = first.path.parent
    point(home, "production", 1, "ana")
    assert find(tmp_path, "legal@production") == first
    assert aliases_of(home, 1) == ["production"] and aliases_of(home, 2) == []
    point(home, "production", 2, "bo")
    assert find(tmp_path, "legal@production") == second
    assert read_aliases(home)["production"].by == "bo"
    with pytest.raises(ModelError, match="no version 'legal@staging'") as error:
        find(tmp_path, "legal@staging")
    assert isinstance(error.value, NotFound)
    assert error.value.remedy == "take one of legal@1, legal@2, legal@production"
    unpoint(home, "production")
    with pytest.raises(NotFound):
        unpoint(home, "production")
    with pytest.raises(ModelError):
        find(tmp_path, "legal@production")
    with pytest.raises(NotFound, match="no such version"):
        point(home, "production", 3, "ana")


@pytest.mark.parametrize("name", ["", "1", "-x", "a b", "../up", "x" * 65, "a@b"])
def test_what_cannot_be_an_alias(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be an alias"):
        point(version(tmp_path).path.parent, name, 1, "ana")


def test_a_gate_names_the_row_that_fails(tmp_path: Path) -> None:
    home = version(tmp_path, *GOOD).path.parent
    version(tmp_path, *FORGOT)
    version(tmp_path)
    version(tmp_path, row("laws", "gain", None, None))
    demand(home, "production", Demands(most_forgetting=1.0, least_gain=0.0))
    point(home, "production", 1, "ana")
    with pytest.raises(Conflict, match=r"forgetting of 'code' reaches 3\.25 %, where at most 1 % is demanded"):
        point(home, "production", 2, "ana")
    with pytest.raises(Conflict, match="its report has no gain"):
        point(home, "production", 3, "ana")
    with pytest.raises(Conflict, match="gain of 'laws' has no interval"):
        point(home, "production", 4, "ana")
    assert find(tmp_path, "legal@production").number == 1
    demand(home, "production", Demands(least_gain=6.0))
    with pytest.raises(Conflict, match=r"gain of 'laws' reaches 5\.00 %, where more than 6 % is demanded"):
        point(home, "production", 2, "ana")
    point(home, "staging", 3, "ana")  # demands nothing
    unpoint(home, "production")
    assert read_aliases(home)["production"].demands.least_gain == 6.0


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    home = version(tmp_path).path.parent
    threads = [threading.Thread(target=point, args=(home, f"a{n}", 1, "ana")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(aliases_of(home, 1)) == 6


def test_tags(tmp_path: Path) -> None:
    home = version(tmp_path).path.parent
    tag(home, 1, {"language": "vi", "task": "law"})
    assert read_tags(home) == {1: {"language": "vi", "task": "law"}}
    for bad in ({"": "x"}, {"a": "x" * 201}, {"a": "line\nbreak"}, {f"k{n}": "" for n in range(51)}):
        with pytest.raises(UserError):
            tag(home, 1, bad)
    tag(home, 1, {})
    assert read_tags(home) == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    home = version(tmp_path).path.parent
    (home / "aliases.json").write_text("{")
    with pytest.raises(ModelError, match=r"aliases\.json"):
        read_aliases(home)


def test_a_deleted_version_leaves_its_number_taken(tmp_path: Path) -> None:
    first, second = version(tmp_path), version(tmp_path)
    tag(first.path.parent, 2, {"a": "b"})
    point(first.path.parent, "production", 2, "ana")
    with pytest.raises(Conflict, match="production"):
        remove(second)
    unpoint(first.path.parent, "production")
    remove(second)
    assert list_models(tmp_path) == [first] and read_tags(first.path.parent) == {}
    with pytest.raises(NotFound):
        remove(second)
    assert version(tmp_path).number == 3
    (first.path / "manifest.json").unlink()  # as a deletion that was killed leaves it
    assert version(tmp_path).number == 4
    assert list(first.path.iterdir()) == []


def test_lineage_is_a_graph(tmp_path: Path) -> None:
    first = version(tmp_path)
    second = version(tmp_path, base="legal@1", name="court")
    third = version(tmp_path, base="court@1", name="court")
    found = lineage_graph(tmp_path, second)
    edges = {(edge["source"], edge["target"]) for edge in found["edges"]}
    assert {("base:org/base", "version:legal@1"), ("version:legal@1", "version:court@1")} <= edges
    assert {("dataset:d1", "version:court@1"), ("run:r1", "version:court@1"), ("recipe:c1", "version:legal@1")} <= edges
    assert ("version:court@1", "version:court@2") in edges
    assert {node["kind"] for node in found["nodes"]} == {"version", "base", "dataset", "recipe", "run"}
    assert {id for edge in edges for id in edge} <= {node["id"] for node in found["nodes"]}
    assert children(tmp_path, first) == ["court@1"] and children(tmp_path, third) == []
    ring = version(tmp_path, base="ring@1", name="ring")
    assert ("version:ring@1", "version:ring@1") not in {
        (edge["source"], edge["target"]) for edge in lineage_graph(tmp_path, ring)["edges"]
    }
