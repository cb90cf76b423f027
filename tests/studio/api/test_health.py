"""What those learn who watch the server."""

from __future__ import annotations

import time

from fastapi import FastAPI

from rewarm.studio.background.loops import Loop, run_loops
from rewarm.studio.context import Studio
from tests.studio.conftest import Client, TestClient


def test_well_while_the_database_answers_and_the_loops_go(studio: Studio, app: FastAPI, client: Client) -> None:
    nobody = client(None)
    assert nobody.get("/health").json() == {"status": "ok", "database": True, "late": []}
    app.state.beats = {"ship": (time.monotonic() - 400, 1.0), "slow": (time.monotonic() - 400, 600.0)}
    answer = nobody.get("/health")
    assert answer.status_code == 503 and answer.json()["late"] == ["ship"]
    app.state.beats = {}
    studio.database.close()
    database = studio.workspace.root / "rewarm.db"
    for path in studio.workspace.root.glob("rewarm.db*"):
        path.unlink()
    database.mkdir()
    answer = nobody.get("/health")
    assert answer.status_code == 503 and answer.json() == {"status": "failing", "database": False, "late": []}


def test_a_loop_leaves_its_beat(studio: Studio) -> None:
    with run_loops(studio, [Loop("beat", 0.01, lambda studio: 1 / 0)]) as beats:
        deadline = time.monotonic() + 10
        while "beat" not in beats and time.monotonic() < deadline:
            time.sleep(0.01)
        first = beats["beat"][0]
        while beats["beat"][0] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert beats["beat"][0] > first  # an error does not end it


def test_prometheus_reads_counts_by_route(client: Client) -> None:
    viewer: TestClient = client("viewer")
    viewer.get("/api/v1/tokens")
    viewer.get("/api/v1/canary")
    text = viewer.get("/metrics").text
    assert 'rewarm_requests_total{method="GET",route="tokens.tokens",status="200"} 1.0' in text
    assert 'route="none",status="404"' in text and "canary" not in text
    assert "process_resident_memory_bytes" in text and "rewarm_request_seconds_bucket" in text
