"""Who waits goes to work when there is room; who was cut off goes on; a killed server changes nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from rewarm.core.events import EventLog, all_events, metrics
from rewarm.core.run import Run, claim
from rewarm.studio.background import schedule
from rewarm.studio.background.schedule import Room, Wants
from rewarm.studio.context import OWNER, Studio
from rewarm.studio.service import runs, settings
from tests.pipeline.conftest import make_bench
from tests.studio.server import Server, serving
from tests.studio.service.test_recipes import BLANK


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were launched, in their order; each then works in this process."""
    order: list[str] = []

    def launch(run: Run, arguments: list[str], queued: bool) -> Any:
        assert queued
        order.append(run.id)
        log = EventLog(run.events, claim(run)["attempt"])
        if log.last_state == "running":
            log.state("lost")
        log.state("starting")
        log.state("running")
        log.close()
        return type("Process", (), {"wait": lambda self: 0})()

    monkeypatch.setattr(schedule, "launch", launch)
    return order


def started(studio: Studio, name: str, priority: int = 0) -> str:
    return runs.start_recipe(studio, OWNER, BLANK.replace("name: a", f"name: {name}"), priority=priority).id


def ended(studio: Studio, id: str, state: str) -> None:
    run = Run(studio.workspace.runs / id)
    log = EventLog(run.events, 1)
    if state == "preempted":
        log.state("stopping")
    if state != "lost":  # of which nobody says a word
        log.state(state)
    log.close()
    (run.path / "process.json").unlink()


def test_the_most_urgent_goes_first_and_no_more_than_may(studio: Studio, launched: list[str]) -> None:
    settings.put_setting(studio, OWNER, "scheduler", {"runs": 1})
    first, second, urgent = started(studio, "a"), started(studio, "b"), started(studio, "c", priority=5)
    schedule.tick(studio)
    schedule.tick(studio)
    assert launched == [urgent]
    assert "as many runs are at work" in str(runs.show(studio, OWNER, first).reason)
    runs.set_priority(studio, OWNER, second, 1)
    for running in (urgent, second):
        ended(studio, running, "succeeded")
        schedule.tick(studio)
    assert launched == [urgent, second, first]


def test_who_waits_for_much_is_not_starved_by_who_wants_little() -> None:
    room = Room(runs=5, gpus=3, memory=10, idle=False)
    assert room.lacks(Wants(gpus=8)) == "waits for GPUs: wants 8, free are 3"
    behind = room.without(Wants(gpus=8), 0)
    assert behind.lacks(Wants(gpus=1)) == "waits for GPUs: wants 1, free are 0"
    assert behind.lacks(Wants(memory=10)) is None  # one on the CPU takes nothing from it
    assert room.lacks(Wants(memory=11)) is not None
    assert Room(runs=1, gpus=0, memory=10, idle=True).lacks(Wants(memory=11)) is None  # it says itself what it lacks


def test_memory_is_that_of_the_recipe(studio: Studio, launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = studio.workspace.models / "small"
    folder.mkdir(parents=True)
    shape = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "vocab_size": 32000}
    (folder / "config.json").write_bytes(orjson.dumps(shape))
    text = BLANK.replace("org/model", "./models/small") + "infrastructure: {devices: cpu}\n"
    first, second = (runs.start_recipe(studio, OWNER, text).id for _ in range(2))
    wants = schedule._wants(studio.workspace, studio.workspace.runs / first)
    assert 1e9 < wants.memory < 4e9
    spread = runs.start_recipe(studio, OWNER, text.replace("cpu}", "cpu, nodes: 2}")).id
    here = schedule._wants(studio.workspace, studio.workspace.runs / spread)
    assert here.memory < 1.5 * wants.memory  # of this computer, not of both
    memory = type("Memory", (), {"available": wants.memory - 1, "total": 8 << 30})
    monkeypatch.setattr(schedule.psutil, "virtual_memory", lambda: memory)
    schedule.tick(studio)
    assert launched == [first]  # alone it may try its luck
    assert "of memory" in str(runs.show(studio, OWNER, second).reason)


def test_a_preempted_run_goes_on_and_a_stopped_one_does_not(studio: Studio, launched: list[str]) -> None:
    run = started(studio, "a")
    schedule.tick(studio)
    ended(studio, run, "preempted")
    runs.show(studio, OWNER, run)
    index(studio)
    schedule.tick(studio)
    assert launched == [run, run]
    ended(studio, run, "preempted")
    index(studio)
    runs.stop(studio, OWNER, run, "enough")
    schedule.tick(studio)
    assert launched == [run, run]
    assert runs.show(studio, OWNER, run).state == "stopped"


def test_a_lost_run_tries_three_times_unless_it_comes_further(studio: Studio, launched: list[str]) -> None:
    run = started(studio, "a")
    schedule.tick(studio)
    checkpoints = Run(studio.workspace.runs / run).checkpoints

    def lose() -> None:
        ended(studio, run, "lost")
        index(studio)
        schedule.tick(studio)

    lose()
    lose()
    (checkpoints / "step-10").mkdir(parents=True)  # further: it counts anew
    for _ in range(3):
        lose()
    assert len(launched) == 6
    lose()
    shown = runs.show(studio, OWNER, run)
    assert (len(launched), shown.state) == (6, "failed")
    assert "without coming further" in str(shown.reason)
    settings.put_setting(studio, OWNER, "scheduler", {"resume_lost": 0})
    other = started(studio, "b")
    schedule.tick(studio)
    ended(studio, other, "lost")
    index(studio)
    schedule.tick(studio)
    assert runs.show(studio, OWNER, other).state == "lost"


def index(studio: Studio) -> None:
    """What the loop beside does every second."""
    with studio.database.write() as session:
        for id in schedule.store.live(session):
            schedule.store.upsert(session, Run(studio.workspace.runs / id))


def in_workspace(root: Path, epochs: int) -> str:
    """Put a tiny model and texts among the uploads of the workspace ``root``; returns the recipe that reads them."""
    bench = make_bench(root / "uploads")
    text = bench.recipe.read_text().replace("./model", "./uploads/model").replace("path: ", "path: uploads/")
    text = text.replace("new.jsonl", "new.jsonl, max_epochs: 1e6").replace("old.jsonl", "old.jsonl, max_epochs: 1e6")
    return text.replace("epochs: 2", f"epochs: {epochs}")


def until(ask: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def killed_again_and_again(server: Server, run: str, times: int) -> list[float]:
    """Kill the server while the run trains; returns the seconds until the next one knows the run's process again."""
    pid, seconds = server.client.get(f"/runs/{run}").json()["process"]["pid"], []
    for _ in range(times):
        server.kill()
        began = time.monotonic()
        server.start()
        shown = until(lambda: (found := server.client.get(f"/runs/{run}").json())["process"] and found, 10)
        seconds.append(time.monotonic() - began)
        assert (shown["state"], shown["process"]["pid"]) == ("running", pid)
    return seconds


@pytest.mark.parametrize("times", [3, pytest.param(100, marks=pytest.mark.nightly)])
def test_f8_a_run_outlives_its_server(tmp_path: Path, times: int) -> None:
    root = tmp_path / "home"
    text = in_workspace(root, epochs=100 * times)
    with serving(root) as server:
        client = server.client
        run = client.post("/runs", json={"recipe": text}).json()["id"]
        show = lambda: client.get(f"/runs/{run}").json()  # noqa: E731
        until(lambda: (found := show())["state"] == "running" and found["stage"] == "train")
        assert client.delete(f"/runs/{run}", params={"confirm": run}).status_code == 409
        assert max(killed_again_and_again(server, run, times)) < 10
        client.post(f"/runs/{run}/stop", json={"reason": "a look"})
        assert until(lambda: (found := show())["state"] == "stopped" and found)["reason"] == "editor: a look"
        losses = metrics(all_events(Run(root / "runs" / run).events))["train/loss"]
        assert [step for step, *_ in losses] == list(range(1, len(losses) + 1))
        address = f"/runs/{run}/metrics/train/loss?buckets=5000&end=1000"
        until(lambda: len(client.get(address).json()["step"]) == min(1000, len(losses)), 20)


@pytest.mark.nightly
def test_a_pipeline_from_its_start_to_the_report_over_http(tmp_path: Path) -> None:
    root = tmp_path / "home"
    text = in_workspace(root, epochs=6)
    with serving(root) as server:
        client = server.client
        assert client.post("/pipelines", json={"name": "tiny", "recipe": text}).status_code == 201
        run = client.post("/pipelines/tiny/runs").json()["id"]
        assert client.post("/pipelines/tiny/runs").status_code == 409
        show = lambda: client.get(f"/runs/{run}").json()  # noqa: E731
        until(lambda: client.get(f"/runs/{run}/checkpoints").json())
        client.post(f"/runs/{run}/stop")
        until(lambda: show()["state"] == "stopped")
        assert client.post(f"/runs/{run}/resume").json()["state"] == "queued"
        assert until(lambda: (found := show())["state"] in ("succeeded", "failed") and found)["version"] == "tiny@1"
        assert client.get(f"/runs/{run}/report.html").headers["content-security-policy"].startswith("sandbox")
        assert client.get(f"/runs/{run}/documents").json()["documents"]
        checkpoint = client.get(f"/runs/{run}/checkpoints").json()[-1]["name"]
        made = client.post(f"/runs/{run}/checkpoints/{checkpoint}/export").json()
        assert (root / made["path"] / "model.safetensors").is_file()
        found = client.post("/recipe/check?estimate=true", json={"recipe": text}).json()
        assert found["estimate"]["needs"]["steps"] > 0
        assert client.delete(f"/runs/{run}", params={"confirm": run}).status_code == 204


@pytest.mark.nightly
def test_f9_a_killed_run_is_told_as_lost_and_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "home"
    text = in_workspace(root, epochs=50)
    with serving(root) as server:
        client = server.client
        run = client.post("/runs", json={"recipe": text}).json()["id"]
        shown = until(lambda: (found := client.get(f"/runs/{run}").json())["state"] == "running" and found)
        os.kill(shown["process"]["pid"], signal.SIGKILL)
        until(lambda: client.get("/runs").json()[0]["state"] in ("lost", "queued", "starting"), 15)
        until(lambda: client.get("/runs").json()[0]["attempt"] == 2)
        client.post(f"/runs/{run}/stop")
        until(lambda: client.get("/runs").json()[0]["state"] == "stopped")
