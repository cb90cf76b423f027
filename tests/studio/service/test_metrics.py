from __future__ import annotations

import csv

import pytest

from rewarm.core.errors import NotFound, UserError
from rewarm.studio.background import ship
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import metrics
from tests.studio.conftest import Client
from tests.studio.run_files import new_run, write_events


def test_a_run_in_numbers(studio: Studio, client: Client) -> None:
    run = new_run(studio.workspace)
    write_events(run, {n: 1 / n for n in range(1, 1001)})
    ship.ship_all(studio)
    with client(Role.viewer) as web:
        last = web.get(f"/api/v1/runs/{run.id}/metrics").json()
        assert last[0] == {"name": "train/loss", "step": 1000, "tokens": 100_000, "value": 0.001}
        series = web.get(f"/api/v1/runs/{run.id}/metrics/train/loss", params={"buckets": 100}).json()
        assert (len(series["step"]), series["exact"], series["max"][0], series["min"][-1]) == (100, False, 1.0, 0.001)
        near = web.get(f"/api/v1/runs/{run.id}/metrics/train/loss", params={"begin": 10, "end": 12}).json()
        assert near["exact"] and near["step"] == [10, 11, 12] and near["mean"] == near["min"] == [0.1, 1 / 11, 1 / 12]
        rows = list(csv.reader(web.get(f"/api/v1/runs/{run.id}/metrics.csv").text.splitlines()))
        assert len(rows) == 2001 and rows[1] == ["train/loss", "1", "100", "1.0"]
        for path in (f"runs/{run.id}/metrics/none", "runs/none/metrics", "runs/none/metrics.csv", "runs/.../metrics"):
            assert web.get(f"/api/v1/{path}").status_code == 404, path
        assert web.get(f"/api/v1/runs/{run.id}/metrics/train/loss", params={"begin": 10**30}).status_code == 422


def test_runs_are_compared_in_one_call(studio: Studio, client: Client) -> None:
    runs = [new_run(studio.workspace, name) for name in ("a", "b", "c")]
    for number, run in enumerate(runs[:2]):
        write_events(run, {1: float(number)})
    ship.ship_all(studio)
    with client(Role.viewer) as web:
        found = web.get("/api/v1/metrics/train/loss", params={"run": [run.id for run in runs]}).json()
    assert [(series["run"], series["mean"]) for series in found] == [(runs[0].id, [0.0]), (runs[1].id, [1.0])]
    with pytest.raises(NotFound):
        metrics.series(studio, OWNER, [runs[0].id, "none"], "train/loss", None, None, 10)
    with pytest.raises(UserError, match="too many"):
        metrics.series(studio, OWNER, [runs[0].id] * 51, "train/loss", None, None, 10)


def test_the_computer_and_how_busy_it_is(studio: Studio, client: Client) -> None:
    ship.SampleMachine()(studio)
    web = client(Role.viewer)
    computer = web.get("/api/v1/machine").json()
    assert computer["cores"] >= 1 and computer["memory_bytes"] > 1e8
    now = {value["name"]: value["value"] for value in computer["now"]}
    series = web.get("/api/v1/machine/metrics/system/memory_bytes").json()
    assert series["exact"] and series["mean"] == [now["system/memory_bytes"]] and series["mean"][0] > 1e7
    assert web.get("/api/v1/machine/metrics/none").status_code == 404
