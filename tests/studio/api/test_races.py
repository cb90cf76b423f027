"""Who comes at the same moment, or with a strange name: one thing happens, and it is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from rewarm.core.run import Run, claim, create_run
from rewarm.studio.background import ship
from rewarm.studio.context import Studio
from tests.studio.conftest import Client
from tests.studio.run_files import new_run, write_events

RECIPE = "name: tiny\nbase_model: org/x\ndata: {sources: [{name: law, path: s3://x/y}]}\n"


@pytest.fixture
def editor(client: Client) -> TestClient:
    return client("editor")


def at_once(times: int, ask: Callable[[int], Any]) -> Counter[int]:
    with ThreadPoolExecutor(times) as pool:
        return Counter(answer.status_code for answer in pool.map(ask, range(times)))


def test_of_twenty_with_one_name_one_is_made(editor: TestClient, client: Client) -> None:
    admin = client("administrator")
    lake = {"kind": "s3", "endpoint": "http://127.0.0.1:1", "access_key": "a", "secret_key": "b"}
    for asker, path, body in (
        (editor, "/api/v1/pipelines", {"name": "tiny", "recipe": RECIPE}),
        (admin, "/api/v1/users", {"name": "ana", "role": "viewer"}),
        (editor, "/api/v1/connections", {"name": "lake", "connection": lake}),
    ):
        found = at_once(20, lambda _, a=asker, p=path, b=body: a.post(p, json=b))
        assert found == {201: 1, 409: 19}, (path, found)


def test_one_key_twenty_times_is_one_run(studio: Studio, editor: TestClient) -> None:
    headers = {"Idempotency-Key": "one"}
    found = at_once(20, lambda _: editor.post("/api/v1/runs", json={"recipe": RECIPE}, headers=headers))
    assert set(found) <= {201, 409} and len(list(studio.workspace.runs.iterdir())) == 1, found


def test_a_run_is_deleted_once_and_not_while_it_runs(studio: Studio, editor: TestClient) -> None:
    run = new_run(studio.workspace)
    write_events(run, {1: 1.0})
    path = f"/api/v1/runs/{run.id}"
    assert at_once(5, lambda _: editor.delete(path, params={"confirm": run.id})) == {409: 5}
    write_events(run, {}, "failed")
    found = at_once(10, lambda _: editor.delete(path, params={"confirm": run.id}))
    assert found[204] == 1 and set(found) <= {204, 404, 409}, found
    ship.ship_all(studio)
    assert editor.get(path).status_code == 404 and editor.get("/api/v1/runs").json() == []


def test_a_run_that_is_deleted_under_its_readers_is_not_found_and_no_error_of_ours(
    studio: Studio, editor: TestClient
) -> None:
    runs = [create_run(studio.workspace, "gone", "name: gone\n", [], studio.workspace.root) for _ in range(8)]
    for run in runs:
        write_events(run, dict.fromkeys(range(50), 1.0), "failed")
        (run.path / "log.txt").write_text("a line\n" * 1000)
    ship.ship_all(studio)

    def ask(n: int) -> Any:
        path = f"/api/v1/runs/{runs[n % 8].id}"
        if n >= 56:
            return editor.delete(path, params={"confirm": runs[n % 8].id})
        return editor.get(path + ("", "/metrics", "/log", "/events", "/checkpoints", "/frozen", "/report.json")[n // 8])

    found = at_once(64, ask)
    assert set(found) <= {200, 204, 404} and found[204] == 8, found


def test_a_pipeline_that_is_changed_by_two_is_changed_by_one(editor: TestClient) -> None:
    assert editor.post("/api/v1/pipelines", json={"name": "tiny", "recipe": RECIPE}).status_code == 201
    revision = editor.get("/api/v1/pipelines/tiny").json()["revision"]
    found = at_once(
        10,
        lambda n: editor.patch("/api/v1/pipelines/tiny", json={"description": f"by {n}", "revision": revision}),
    )
    assert found == {200: 1, 409: 9}, found


STRANGE = [
    "Luật-mới",
    "法律",
    "Ка́нон",
    "e\u0301t\u00e9",
    "a\u202eb",
    "a\u200bb",
    "\U0001f41d",
    "a b",
    " a",
    "A" * 300,
    "con",
    ".",
]


def test_a_strange_name_is_taken_and_found_again_or_refused(studio: Studio, editor: TestClient) -> None:
    for name in STRANGE:
        for path, body in (
            ("/api/v1/pipelines", {"name": name, "recipe": RECIPE}),
            ("/api/v1/uploads", {"text": name, "file": "a.txt", "bytes": 1}),
            ("/api/v1/models/imports", {"source": "uploads/none", "name": name}),
        ):
            made = editor.post(path, json=body)
            assert made.status_code in (201, 404, 422), (path, name, made.text)
            if made.status_code == 201 and path.endswith("pipelines"):
                kept = made.json()["name"]
                found = editor.get(f"/api/v1/pipelines/{kept}")
                assert found.status_code == 200 and found.json()["name"] == kept, name
                assert editor.delete(f"/api/v1/pipelines/{kept}", params={"confirm": kept}).status_code == 204, name
    run = editor.post("/api/v1/runs", json={"recipe": RECIPE.replace("tiny", "'Luật mới \U0001f41d'")})
    assert run.status_code in (201, 422)
    if run.status_code == 201:
        csv = editor.get(f"/api/v1/runs/{run.json()['id']}/metrics.csv")
        assert csv.status_code == 200


def test_odd_bodies_and_queries_are_mistakes_of_who_sends_them(studio: Studio, editor: TestClient) -> None:
    run = new_run(studio.workspace)
    claim(run)
    paths = [f"/api/v1/runs/{run.id}/{end}" for end in ("log", "events", "metrics/train%2Floss", "stream")]
    for path in (*paths, "/api/v1/runs", "/api/v1/models", "/api/v1/pipelines", "/api/v1/audit", "/api/v1/notices"):
        for query in (
            "offset=99999999999999999999", "offset=-9223372036854775808", "after=-1", "after=99999999999999999999",
            "limit=1e3", "limit=0", "begin=nan", "buckets=1e9", "state=%F0%9F%90%9D", "text=" + "%25" * 3000,
            "step=1.5", "after=%EF%BF%BF", "log=-1", "a[]=1", "&&&==", "text=%27%20OR%201=1--",
        ):  # fmt: skip
            if not path.endswith("stream") or query in ("after=-1", "log=-1"):  # the others may have no end
                answer = editor.get(f"{path}?{query}")
                assert answer.status_code < 500, (path, query, answer.text)
    for body in (
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{}",
        b'{"recipe": null}',
        b'{"recipe": {"a": 1}}',
        b'{"recipe": "\\ud83d"}',
    ):
        answer = editor.post("/api/v1/runs", content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, body
    for recipe in ("", "a", "[1]", "&a [*a]", "name: " + "x" * 100_000, "\x00", "name: !!python/object:os.system x"):
        answer = editor.post("/api/v1/runs", json={"recipe": recipe})
        assert 400 <= answer.status_code < 500, recipe[:20]
    assert len(list(studio.workspace.runs.iterdir())) == 1 and Run(run.path).recipe.is_file()
