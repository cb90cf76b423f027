"""A forgetting budget: which candidate is published, by which half of the documents, and when none is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from transformers import AutoModelForCausalLM

from rewarm.pipeline.choice import choose, judge, refuse
from rewarm.report.compare import Row, compare
from rewarm.report.items import half
from tests.pipeline.conftest import Bench, make_bench


def rows(gain: float, forgetting: float) -> list[Row]:
    """A source whose bits fell by ``gain`` per cent, and a panel whose bits rose by ``forgetting`` per cent."""

    def items(factor: float) -> list[dict[str, Any]]:
        return [{"id": str(i), "nll": factor * (40 + i), "bytes": 50} for i in range(10)]

    source = compare("new", "bits_per_byte", "gain", items(1), items(1 - gain / 100), seed=0, resamples=100)
    panel = compare("old", "bits_per_byte", "forgetting", items(1), items(1 + forgetting / 100), seed=0, resamples=100)
    return [source, panel]


CANDIDATES = {"trained": rows(30, 9), "merge-0.9": rows(25, 2), "merge-0.5": rows(10, 0.5)}


@pytest.mark.parametrize(
    ("budget", "chosen", "kept"),
    [(20, "trained", True), (8, "merge-0.9", True), (1, "merge-0.5", True), (0.1, "merge-0.5", False)],
)
def test_the_greatest_gain_within_the_budget(budget: float, chosen: str, kept: bool) -> None:
    assert choose(CANDIDATES, budget) == chosen
    choice = judge("best", budget, CANDIDATES[chosen])["choice"]
    assert choice["kept"] is kept
    if not kept:
        assert "forgetting is 0.5 %, the least of all candidates" in str(refuse(choice, chosen))


def test_of_gains_that_are_close_the_one_that_forgets_less() -> None:
    near = {"a": rows(30, 0.9), "b": rows(29, 0.2), "c": rows(20, 0.1)}
    assert [choose(near, 1, close) for close in (0.0, 0.05, 0.5)] == ["a", "b", "c"]


def test_where_forgetting_was_not_measured_no_budget_is_kept() -> None:
    choice = judge("trained", 50, rows(30, 9)[:1])["choice"]
    assert not choice["kept"] and "not measured" in str(refuse(choice, "trained"))


def test_halves_share_no_document_and_hold_all() -> None:
    items = [{"id": f"document {i}"} for i in range(200)]
    first, second = half(items, "development"), half(items, "test")
    assert sorted(item["id"] for item in [*first, *second]) == sorted(item["id"] for item in items)
    assert min(len(first), len(second)) > 70
    assert half(items[:6], "test") == half(items[:6], "development") == items[:6]


def test_a_run_chooses_within_its_budget_or_publishes_nothing(tmp_path: Path) -> None:
    bench: Bench = make_bench(tmp_path)
    done = bench.rewarm(
        "run", "recipe.yaml", "evaluation.max_forgetting=900 %", "evaluation.merges=[0.4]", "pilot=false"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = orjson.loads((bench.run().report / "report.json").read_bytes())
    named = {other["weights"]: other["headline"] for other in report["candidates"]}
    assert set(named) == {"trained", "merge-0.4"}
    gains = {name: both["gain"]["percent"] for name, both in named.items()}
    assert report["result"]["weights"] == max(gains, key=gains.__getitem__)
    assert report["result"]["choice"]["kept"]
    decided = {row["task"]: row["n"] for row in report["candidates"][0]["rows"]}
    reported = {row["task"]: row["n"] for row in report["rows"]}
    baseline = orjson.loads((bench.run().results / "baseline.json").read_bytes())["texts"]
    assert all(decided[name] + reported[name] in (len(texts), 2 * len(texts)) for name, texts in baseline.items())
    assert "Gain against forgetting" in (bench.run().report / "report.html").read_text()
    AutoModelForCausalLM.from_pretrained(bench.workspace.models / "tiny" / "1")

    recipe = bench.run().recipe
    asked = ["evaluation.max_forgetting=0", "evaluation.publish=trained", "pilot=false"]
    done = bench.rewarm("run", "recipe.yaml", *asked, "hyperparameters.learning_rate=0.5", "base_model=tiny@1")
    assert done.returncode == 2 and "nothing is published: forgetting is" in done.stdout + done.stderr
    assert bench.run().recipe != recipe and bench.run().status().state == "failed"
    assert (bench.run().report / "report.html").exists()
    assert not (bench.workspace.models / "tiny" / "2").exists()
    AutoModelForCausalLM.from_pretrained(bench.run().path / "model")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.publish=best", "needs max_forgetting"),
        ("evaluation.max_forgetting=much", "evaluation.max_forgetting"),
        ("evaluation.merges=[1.5]", "evaluation.merges"),
    ],
)
def test_what_makes_no_sense_is_refused(bench: Bench, override: str, said: str) -> None:
    done = bench.rewarm("check", "recipe.yaml", override)
    assert done.returncode == 2 and said in done.stdout + done.stderr
