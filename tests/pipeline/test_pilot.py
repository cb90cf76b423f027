"""Short runs choose learning rate and replay before the training, and are not done twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from rewarm.cli.check import examine
from rewarm.core.errors import UserError
from rewarm.core.events import metrics, read_events
from rewarm.pipeline import pilot
from rewarm.pipeline.ledger import order_of
from rewarm.recipe.load import load_recipe
from rewarm.recipe.pilot import Arm, chosen_of
from rewarm.report.items import text_rows
from tests.pipeline.conftest import Bench, make_bench
from tests.pipeline.test_whole_run import detached, wait_for
from tests.report.made_up import documents


@pytest.mark.timeout(600)
def test_the_pilot_chooses_and_a_killed_one_does_nothing_twice(tmp_path: Path) -> None:
    bench: Bench = make_bench(tmp_path)
    run = detached(bench, "pilot=true", "evaluation.max_forgetting=2 %", "evaluation.publish=trained")
    wait_for(run, r'"what":"pilot, run 2"', 240)
    os.kill(int((run.process() or {})["pid"]), signal.SIGKILL)
    stood = {path: path.stat().st_mtime_ns for path in (run.path / "pilot").glob("*/scores.json")}
    assert len(stood) == 1
    done = bench.rewarm("resume", "last")
    found = orjson.loads((run.results / "pilot.json").read_bytes())
    runs, chosen = found["runs"], found["runs"][found["chosen"]]
    assert all(path.stat().st_mtime_ns == when for path, when in stood.items())
    assert 2 <= len(runs) <= 3 and (runs[0]["learning_rate"], runs[0]["replay_share"]) == (3e-3, 0.25)
    assert all(one["steps"] <= 21 for one in runs)
    forgotten = [one["headline"]["forgetting"]["percent"] for one in runs]
    gained = [one["headline"]["gain"]["percent"] for one in runs if one["kept"]]
    good = [one for one in runs if one["kept"] and one["headline"]["gain"]["percent"] >= 0.95 * max(gained)]
    assert chosen == min(good or runs, key=lambda one: one["headline"]["forgetting"]["percent"]), (forgotten, gained)
    assert [one["kept"] for one in runs] == [value <= 2 for value in forgotten]

    points = metrics(event for event, _ in read_events(run.events))
    assert max(rate for _, _, rate in points["train/lr"]) == pytest.approx(chosen["learning_rate"])
    plan = order_of(run).plan
    tokens = dict(zip(plan.names, plan.part_tokens.sum(0), strict=True))
    assert tokens["old"] / sum(tokens.values()) == pytest.approx(chosen["replay_share"], abs=0.02)
    report = orjson.loads((run.report / "report.json").read_bytes())
    assert report["data"]["replay_share"] == chosen["replay_share"]
    assert report["hyperparameters"]["learning_rate"]["origin"] == "pilot"
    assert report["data"]["replay"]["value"] == {"share": chosen["replay_share"]}
    assert chosen_of(run) == {name: chosen[name] for name in ("learning_rate", "replay_share")}
    decided = {row["task"]: row["n"] for row in runs[0]["rows"]}
    reported = {row["task"]: row["n"] for row in report["rows"]}
    baseline = orjson.loads((run.results / "baseline.json").read_bytes())["texts"]
    assert all(decided[name] + reported[name] <= len(texts) for name, texts in baseline.items())
    assert not list((run.path / "pilot").glob("*/checkpoints"))
    for name in ("report.md", "report.html"):
        assert "Short runs of" in (run.report / name).read_text()
    assert (done.returncode == 0) is report["result"]["choice"]["kept"], done.stdout + done.stderr
    again = bench.rewarm("report", "last", "--recompute")
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_rate_that_diverges_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    base, better = documents(40, 0.5, np.random.default_rng(0))
    kinds, before = {"new": "source", "other": "panel"}, {"new": base, "other": base}
    rows = text_rows(kinds, before, {"new": better, "other": base}, 7, None)
    tried, warned, replay = [], [], SimpleNamespace(share=0.25)

    def short_run(x: object, arm: Arm, number: int) -> dict[str, object]:
        tried.append(arm)
        if arm.learning_rate > 1e-4:
            raise UserError("the loss was not finite")
        return {"texts": {}, "steps": 20, "tokens": 9, "seconds": 1.0}

    monkeypatch.setattr(pilot, "_tried", short_run)
    monkeypatch.setattr(pilot, "_has_text", lambda x, arm: True)
    monkeypatch.setattr(pilot, "text_rows", lambda *given: rows)
    monkeypatch.setattr(pilot, "hyperparameters_of", lambda x: SimpleNamespace(learning_rate=1e-4))
    recipe = SimpleNamespace(evaluation=SimpleNamespace(max_forgetting=None), data=SimpleNamespace(replay=replay))
    log = SimpleNamespace(result=lambda name, value: None)
    x = SimpleNamespace(recipe=recipe, log=log, warn=warned.append)
    found = pilot.choose_arm(x, {})  # type: ignore[arg-type]
    assert tried[:2] == [Arm(1e-4, 0.25), Arm(2e-4, 0.25)] and warned[0] == "pilot, run 2: the loss was not finite"
    assert found["chosen"] == 0 and len(found["runs"]) == 1
    monkeypatch.setattr(pilot, "hyperparameters_of", lambda x: SimpleNamespace(learning_rate=1.0))
    with pytest.raises(UserError, match="not finite"):
        pilot.choose_arm(x, {})  # type: ignore[arg-type]


def test_check_counts_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    plain, tried = (
        examine(load_recipe(bench.recipe, overrides, bench.folder), bench.workspace)["times"]
        for overrides in ([], ["pilot=true"])
    )
    assert plain["pilot"] == 0
    assert tried["pilot"] > 0
    assert tried["total"] == pytest.approx(tried["baseline"] + tried["pilot"] + tried["train"] + tried["evaluate"])


def test_forgetting_must_be_measured(bench: Bench) -> None:
    text = bench.recipe.read_text().replace("  replay: {name: old, path: old.jsonl, share: 0.25}\n", "")
    bench.recipe.write_text(text.replace("  panels:\n    - {name: other, path: other.jsonl}\n", ""))
    done = bench.rewarm("check", "recipe.yaml", "pilot=true")
    assert done.returncode == 2 and "pilot needs evaluation.panels" in done.stdout + done.stderr


@pytest.mark.nightly
def test_on_two_ranks(tmp_path: Path) -> None:
    alone = {"gradient_accumulation_steps: 2": "gradient_accumulation_steps: 1"}
    bench = make_bench(tmp_path, **{"devices: cpu": "devices: 2", **alone})
    done = bench.rewarm("run", "recipe.yaml", "pilot=true")
    assert done.returncode == 0, done.stdout + done.stderr
    found = orjson.loads((bench.run().results / "pilot.json").read_bytes())
    assert len(found["runs"]) >= 2
