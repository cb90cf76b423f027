"""Connections over HTTP: against a real store, guarded, and the secret in none of it."""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants

from rewarm.core.connections import load_connection
from rewarm.core.network import allow, guarded
from rewarm.core.run import create_run
from rewarm.studio.context import OWNER, Studio
from rewarm.studio.service import pipelines
from tests.servers import BUCKET, KEY, SECRET, Proxy, Reply, Store
from tests.studio.conftest import Client

CANARY = "canary/s9+secret="
RECIPE = "name: tiny\nbase_model: a/b\ndata:\n  sources:\n    - {name: law, path: s3://corpora/law, connection: lake}\n"


def lake(address: str, secret: str = SECRET) -> dict[str, object]:
    return {
        "name": "lake",
        "connection": {"kind": "s3", "endpoint": address, "access_key": KEY, "secret_key": secret},
    }


@pytest.fixture
def guard(studio: Studio) -> object:
    with guarded(studio.workspace):
        yield


def test_every_verb(store: Store, studio: Studio, client: Client, guard: None) -> None:
    for name in ("a.jsonl", "b.jsonl", "c/d.jsonl", "e.txt"):
        store.put(f"hub/{name}", b'{"text": "first"}\n{"text": 7}\n')
    ask, folder = client("editor"), f"s3://{BUCKET}/hub/"
    assert ask.post("/api/v1/connections", json=lake(store.address)).status_code == 201
    assert ask.post("/api/v1/connections/lake/test").json()["where"] == store.address.removeprefix("http://")
    rules = {"allow": [store.address.removeprefix("http://")]}
    assert ask.put("/api/v1/network", json=rules).status_code == 403
    assert client("administrator").put("/api/v1/network", json=rules).json() == rules
    assert ask.post("/api/v1/connections/lake/test").json()["entries"] >= 1
    found = client("viewer").get("/api/v1/connections").json()
    assert found == [{"name": "lake", "kind": "s3", "endpoint": store.address, "region": "us-east-1", "problem": None}]
    seen, after = [], None
    while True:
        page = ask.get(
            "/api/v1/connections/lake/entries", params={"uri": folder, "limit": 2} | ({"after": after} if after else {})
        ).json()
        assert len(page["entries"]) <= 2
        seen += [(entry["name"], entry["bytes"]) for entry in page["entries"]]
        if (after := page["after"]) is None:
            break
    assert sorted(seen) == [("a.jsonl", 30), ("b.jsonl", 30), ("c", None), ("e.txt", 30)]
    for uri, names in ((folder[:-1], 4), (f"{folder}a.jsonl", 1), ("s3://", 1), (f"{folder}none", 0)):
        page = ask.get("/api/v1/connections/lake/entries", params={"uri": uri}).json()
        assert len(page["entries"]) >= names if uri == "s3://" else len(page["entries"]) == names, uri
    shown = ask.get("/api/v1/connections/lake/preview", params={"uri": folder, "documents": 2}).json()
    assert shown == {
        "file": f"{folder}a.jsonl",
        "documents": [{"text": "first", "url": ""}, {"rejected": "text is not a string"}],
    }
    assert ask.delete("/api/v1/connections/lake").status_code == 204
    assert ask.delete("/api/v1/connections/lake").status_code == 404


def test_names_and_mistakes(client: Client) -> None:
    ask = client("editor")
    for name in ("", "ab", "a" * 65, "a b", "../x", "a/b", "-ab", "--json", "a.b", "ä-b-c", "abc\n"):
        body = lake("https://s3.example.com") | {"name": name}
        answer = ask.post("/api/v1/connections", json=body)
        assert answer.status_code == 422 and SECRET not in answer.text, name
    for change in (
        {"kind": "ftp"},
        {"endpoint": "ftp://x"},
        {"endpoint": "https://me:x@h"},
        {"extra": 1},
        {"region": "A"},
    ):
        body = lake("https://s3.example.com")
        body["connection"] |= change  # type: ignore[operator]
        answer = ask.post("/api/v1/connections", json=body)
        assert answer.status_code == 422 and SECRET not in answer.text, change
    assert client("viewer").post("/api/v1/connections", json=lake("https://s3.example.com")).status_code == 403
    made = [lake("https://s3.example.com") for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda body: ask.post("/api/v1/connections", json=body).status_code, made))
    assert sorted(statuses) == [201] + 19 * [409]
    assert ask.post("/api/v1/connections/none/test").status_code == 404
    web = {"name": "web", "connection": {"kind": "http", "endpoint": "https://example.com", "token": "t"}}
    assert ask.post("/api/v1/connections", json=web).status_code == 201
    assert "say what" in ask.post("/api/v1/connections/web/test").json()["what"]
    assert ask.put("/api/v1/connections/web/secret", json={"secret": "u", "access_key": "x"}).status_code == 422


def test_one_that_is_named_is_not_deleted(studio: Studio, client: Client) -> None:
    ask = client("editor")
    ask.post("/api/v1/connections", json=lake("https://s3.example.com"))
    pipelines.create(studio, OWNER, name="tiny", recipe=RECIPE)
    answer = ask.delete("/api/v1/connections/lake")
    assert answer.status_code == 409 and "tiny" in answer.text
    pipelines.delete(studio, OWNER, "tiny", "tiny")
    run = create_run(
        studio.workspace, "tiny", RECIPE.replace("lake", "pond"), ["data.sources[0].connection=lake"], Path("/")
    )
    answer = ask.delete("/api/v1/connections/lake")
    assert answer.status_code == 409 and run.id in answer.text
    (run.path / "recipe.yaml").unlink()
    assert ask.delete("/api/v1/connections/lake").status_code == 204


ECHOES = [
    Reply(403, {"X-Error-Code": "canary"}, b"<Error><Code>AccessDenied</Code><Key>canary</Key></Error>"),
    Reply(418, {"Server": "canary"}, b"canary"),
    Reply(307, {"Location": "http://me:canary@127.0.0.1:1/canary?canary"}, b"canary"),
    Reply(200, {"ETag": "canary"}, b"canary"),
]


def test_s10_no_secret_in_an_answer_a_log_the_audit_or_a_file(
    store: Store, studio: Studio, client: Client, guard: None, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("rewarm.data.remote.place._FIRST_PAUSE", 0.002)
    proxy, ask, said = Proxy(store.address), client("editor"), []
    allow(studio.workspace, [proxy.address.removeprefix("http://")])
    try:
        said.append(ask.post("/api/v1/connections", json=lake(proxy.address, CANARY)))
        said.append(ask.post("/api/v1/connections", json=lake(proxy.address, CANARY)))
        said.append(ask.put("/api/v1/connections/lake/secret", json={"secret": CANARY + "2", "access_key": KEY}))
        assert load_connection(studio.workspace, "lake").secret_key.get_secret_value() == CANARY + "2"  # type: ignore[union-attr]
        for body in ({"secret": ""}, {"secret": CANARY, "x": CANARY}, [CANARY], {"secret": [CANARY]}):
            said.append(ask.put("/api/v1/connections/lake/secret", json=body))
            assert said[-1].status_code == 422
        for kind in (
            {},
            {"kind": CANARY},
            {"kind": "hf", "secret_key": CANARY},
            {"kind": "s3", "secret_key": [CANARY]},
        ):
            said.append(ask.post("/api/v1/connections", json={"name": "other", "connection": kind}))
            assert said[-1].status_code == 422
        for echo in ECHOES:
            proxy.fault = lambda path, reply, echo=echo: echo  # type: ignore[misc]
            said.append(ask.post("/api/v1/connections/lake/test"))
            said.append(ask.get("/api/v1/connections/lake/preview", params={"uri": f"s3://{BUCKET}/x"}))
            assert said[-1].status_code == said[-2].status_code == 422
        said.append(ask.get("/api/v1/connections"))
        said.append(client("administrator").get("/api/v1/audit"))
        assert '"connection/lake"' in said[-1].text
        assert not [answer.text for answer in said if "canary" in answer.text]
        assert "canary" not in caplog.text
        studio.database.close()
        kept = b"".join(path.read_bytes() for path in studio.workspace.root.rglob("*") if path.is_file())
        assert b"canary" not in kept
    finally:
        proxy.close()


def test_s9_no_address_of_a_user_leads_inside(
    studio: Studio, client: Client, guard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of connection, its endpoint or its address inside; also from the process that reads a preview."""
    inside = socket.create_server(("", 0))
    lines: list[object] = []

    def count() -> None:
        while True:
            lines.append(inside.accept())

    threading.Thread(target=count, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    ask, here = client("editor"), f"http://127.0.0.1:{inside.getsockname()[1]}"
    kinds = {
        "s3": ({"access_key": "a", "secret_key": "b", "endpoint": here}, "s3://bucket/a.txt"),
        "hf": ({"token": "t", "endpoint": here}, "hf://datasets/a/b/c.txt"),
        "http": ({"token": "t", "endpoint": here}, f"{here}/a.txt"),
    }
    for kind, (values, uri) in kinds.items():
        made = ask.post("/api/v1/connections", json={"name": f"one-{kind}", "connection": {"kind": kind, **values}})
        assert made.status_code == 201, made.text
        for method, verb in (("POST", "test"), ("GET", "entries"), ("GET", "preview")):
            answer = ask.request(method, f"/api/v1/connections/one-{kind}/{verb}", params={"uri": uri})
            assert "does not connect" in answer.json()["what"], (kind, verb, answer.text)
            assert answer.status_code == (422 if verb == "preview" else 403)
    assert lines == []
    inside.close()
