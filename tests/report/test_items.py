"""A report recomputes from its items; two models are compared over what both were scored on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from rewarm.core.errors import DataError
from rewarm.report.items import compare_scores, differences, half, read_scores, recompute, text_rows

ACC = {"acc": {"value": 0.0, "aggregation": "mean", "higher_is_better": True}}


def scores(seed: int, gain: float) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    text = [{"id": f"d{i}", "nll": float(900 * draw.random() + 500 - gain), "bytes": 1000 + i} for i in range(40)]
    items = [{"id": str(i), "hash": f"h{i}", "acc": float(draw.random() < 0.5)} for i in range(60)]
    return {"texts": {"law": text, "web": text[:30]}, "tasks": {"quiz": {"metrics": ACC, "items": items}}}


BASE, RESULT = scores(1, 0.0), scores(2, 100.0)


def report(choice: dict[str, Any] | None = None) -> dict[str, Any]:
    rows = [
        {"task": "law", "metric": "bits_per_byte", "role": "gain", "kind": "source"},
        {"task": "web", "metric": "bits_per_byte", "role": "forgetting", "kind": "panel"},
        {"task": "quiz", "metric": "acc", "role": "forgetting", "kind": "task"},
    ]
    source = {"name": "law", "role": "source", "decontaminated": True, "flagged": {"13-gram of quiz": ["3", "4"]}}
    found = {
        "rows": rows,
        "result": {"choice": choice},
        "hyperparameters": {"seed": {"value": 7}},
        "data": {"texts": [source, {**source, "name": "web", "role": "panel"}]},
    }
    return {**found, "rows": orjson.loads(orjson.dumps(recompute(found, BASE, RESULT)))}


@pytest.mark.parametrize("choice", [None, {"rule": "best"}])
def test_a_report_is_what_its_items_say(choice: dict[str, Any] | None) -> None:
    told = report(choice)
    assert differences(told, recompute(told, BASE, RESULT)) == []
    quiz = told["rows"][2]
    assert (quiz["role"], quiz["flagged"], quiz["clean"]["n"]) == ("forgetting", 2, 58)
    assert told["rows"][0]["n"] < 40 if choice else told["rows"][0]["n"] == 40


def test_what_a_few_documents_decide_is_reported_on_others() -> None:
    every, few = BASE["texts"]["law"], BASE["texts"]["law"][:7]
    (row,) = text_rows({"law": "source"}, {"law": every}, {"law": few}, 7, "development")
    there = {item["id"] for item in half(every, "development")} & {item["id"] for item in few}
    assert 0 < len(there) < 5 and row["n"] == len(there)  # too few for a half of their own


def test_a_figure_that_was_changed_is_named() -> None:
    told = report()
    told["rows"][0]["result"] = 0.5
    told["rows"].append({**told["rows"][1], "task": "invented"})
    gone = told["rows"].pop(2)
    said = differences(told, recompute({**told, "rows": [*told["rows"][:2], gone]}, BASE, RESULT))
    assert said[0].startswith("law (bits_per_byte): result is 0.5 in the report and ")
    assert said[1:] == ["invented (bits_per_byte): there are no items of it", "quiz (acc): it is not in the report"]


def test_one_item_more_or_less_shows() -> None:
    told, changed = report(), copy.deepcopy(RESULT)
    changed["tasks"]["quiz"]["items"][5]["acc"] = 1 - changed["tasks"]["quiz"]["items"][5]["acc"]
    assert any("quiz (acc): result is" in line for line in differences(told, recompute(told, BASE, changed)))


def test_two_models_meet_on_what_both_were_scored_on() -> None:
    other = copy.deepcopy(RESULT)
    other["texts"]["law"] = [*RESULT["texts"]["law"][10:], {"id": "new", "nll": 1.0, "bytes": 5}]
    other["texts"]["news"] = other["texts"].pop("web")
    other["tasks"]["quiz"]["items"][0]["hash"] = "edited"
    rows, notes = compare_scores(report(), other, RESULT)
    assert {row["task"]: (row["n"], row["difference"]) for row in rows} == {"law": (30, 0.0), "quiz": (59, 0.0)}
    assert notes == [
        "law: 30 common items, of 31 and 40",
        "only one of the two was scored on news, web",
        "quiz: 59 common items, of 60 and 60",
    ]
    with pytest.raises(DataError, match="nothing in common"):
        compare_scores(report(), {"texts": {}, "tasks": {}}, RESULT)


def test_items_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has not come so far"):
        read_scores(tmp_path / "evaluate.json")
    (tmp_path / "evaluate.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path / "evaluate.json")
