"""A POST that comes twice with one key is done once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewarm.core.run import list_runs
from rewarm.core.workspace import Workspace
from rewarm.studio.api.app import build_app
from rewarm.studio.context import OWNER, Role, Studio, open_studio
from rewarm.studio.service import pipelines, runs
from rewarm.studio.store import keys
from tests.studio.conftest import HOME, Client, TestClient, token_of
from tests.studio.service.test_recipes import BLANK


@pytest.fixture(params=["sqlite", "postgres"])
def editor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Studio, TestClient]]:
    url = request.getfixturevalue("postgres") if request.param == "postgres" else None
    studio = open_studio(Workspace(tmp_path / "home"), url)
    pipelines.create(studio, OWNER, name="p", recipe=BLANK)
    headers = {"Authorization": f"Bearer {token_of(studio, Role.editor)}"}
    yield studio, TestClient(build_app(studio), base_url=HOME, headers=headers)
    studio.database.close()


def test_fifty_starts_under_one_key_are_one_run(editor: tuple[Studio, TestClient]) -> None:
    studio, client = editor
    start = lambda _: client.post("/api/v1/pipelines/p/runs", headers={"Idempotency-Key": "k"})  # noqa: E731
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(start, range(50)))
    assert set(Counter(answer.status_code for answer in answers)) <= {201, 409}
    assert {answer.json()["id"] for answer in answers if answer.status_code == 201} == {
        list_runs(studio.workspace)[0].id
    }
    assert len(list_runs(studio.workspace)) == 1
    again = start(0)
    assert again.status_code == 201 and again.headers["idempotent-replay"] == "true"
    assert again.json()["id"] == list_runs(studio.workspace)[0].id


def test_a_key_is_of_one_request_and_one_user(studio: Studio, client: Client) -> None:
    editor, key = client("editor"), {"Idempotency-Key": "k"}
    first = editor.post("/api/v1/pipelines", json={"name": "a", "template": "blank"}, headers=key)
    assert first.status_code == 201
    assert editor.post("/api/v1/pipelines", json={"name": "a", "template": "blank"}, headers=key).json() == first.json()
    assert editor.post("/api/v1/pipelines", json={"name": "b", "template": "blank"}, headers=key).status_code == 422
    other = client("administrator").post("/api/v1/pipelines", json={"name": "b", "template": "blank"}, headers=key)
    assert other.status_code == 201
    assert editor.post("/api/v1/pipelines", headers={"Idempotency-Key": "x" * 201}).status_code == 422
    taken = editor.post("/api/v1/pipelines", json={"name": "b", "template": "blank"}, headers={"Idempotency-Key": "l"})
    assert taken.status_code == 409
    pipelines.delete(studio, OWNER, "b", "b")  # what was refused may be possible later
    body = {"name": "b", "template": "blank"}
    assert editor.post("/api/v1/pipelines", json=body, headers={"Idempotency-Key": "l"}).status_code == 201


def test_while_the_first_is_worked_on_the_second_is_told(studio: Studio, client: Client) -> None:
    pipelines.create(studio, OWNER, name="p", recipe=BLANK)
    run = runs.start(studio, OWNER, "p").id
    editor = client("editor")
    path = f"/api/v1/runs/{run}/stop"
    assert editor.post(path, headers={"Idempotency-Key": "k"}).status_code == 200
    with studio.database.write() as session:  # as if its server had not come to the end
        session.get_one(keys.KeyRow, ("editor", "k")).status = None
    assert editor.post(path, headers={"Idempotency-Key": "k"}).status_code == 409
    with studio.database.write() as session:
        session.get_one(keys.KeyRow, ("editor", "k")).created = time.time() - keys.WORK - 1
    assert editor.post(path, headers={"Idempotency-Key": "k"}).status_code == 200


def test_a_stored_answer_is_encrypted(studio: Studio, client: Client) -> None:
    body, key = {"name": "t", "role": "viewer"}, {"Idempotency-Key": "k"}
    made = client("editor").post("/api/v1/tokens", json=body, headers=key)
    assert made.status_code in (200, 201), made.text
    secret = made.json()["token"]
    with studio.database.read() as session:
        kept = session.get_one(keys.KeyRow, ("editor", "k")).body
    assert kept is not None and secret not in kept


def test_keys_are_forgotten_after_a_day(studio: Studio) -> None:
    with studio.database.write() as session:
        assert keys.claim(session, "a", "k", "r", now=0.0) is None
        assert keys.claim(session, "a", "k", "r", now=1.0) is not None
        keys.answer(session, "a", "k", 200, "x")
        assert keys.claim(session, "a", "k", "other", now=keys.LIFETIME + 1) is None
        assert keys.claim(session, "b", "k", "r", now=3 * keys.LIFETIME) is None
        assert session.get(keys.KeyRow, ("a", "k")) is None
