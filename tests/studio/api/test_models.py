"""The Model Hub over HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rewarm.core.run import create_run
from rewarm.hub.models import Version, publish
from rewarm.studio.context import Studio
from rewarm.studio.store.runs import upsert
from rewarm.studio.store.tables import AuditRow, PipelineRow
from tests.hub.test_aliases import FORGOT, GOOD
from tests.pipeline.conftest import make_model
from tests.studio.conftest import Client

WEIGHTS = bytes(range(256)) * 400


def version(studio: Studio, *rows: dict[str, Any], base: str = "org/base", name: str = "legal") -> Version:
    def fill(folder: Path) -> None:
        (folder / "report").mkdir()
        report = {"rows": rows, "headline": {"gain": {"percent": 7.0}, "forgetting": None}}
        (folder / "report" / "report.json").write_text(json.dumps(report))
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        (folder / "README.md").write_text("# Legal\n")

    return publish(studio.workspace.models, name, fill, {"base": {"reference": base}, "run": "r1", "dataset": "d1"})


@pytest.fixture
def editor(client: Client) -> TestClient:
    return client("editor")


def test_versions_are_listed_and_shown(studio: Studio, editor: TestClient) -> None:
    version(studio, *GOOD), version(studio, *FORGOT), version(studio, name="court", base="legal@1")
    found = editor.get("/api/v1/models").json()
    assert [row["model"] for row in found] == ["court@1", "legal@2", "legal@1"]
    assert found[1]["headline"]["gain"]["percent"] == 7.0 and found[1]["base"] == "org/base"
    assert [row["model"] for row in editor.get("/api/v1/models?after=legal@2&limit=1").json()] == ["legal@1"]
    assert editor.put("/api/v1/models/legal@1/tags", json={"language": "vi"}).json() == {"language": "vi"}
    assert [row["model"] for row in editor.get("/api/v1/models?text=VI").json()] == ["legal@1"]
    shown = editor.get("/api/v1/models/legal@1").json()
    assert shown["card"] == "# Legal\n" and shown["used_by"] == ["version court@1"]
    files = {file["name"]: file for file in shown["files"]}
    assert files["model.safetensors"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    edges = {(edge["source"], edge["target"]) for edge in editor.get("/api/v1/models/court@1/lineage").json()["edges"]}
    assert ("version:legal@1", "version:court@1") in edges
    for path in ("legal@9", "legel@1", "..", "legal@1/lineagex", "%2e%2e"):
        assert editor.get(f"/api/v1/models/{path}").status_code == 404


def test_a_damaged_version_hides_no_other(studio: Studio, editor: TestClient) -> None:
    (version(studio).path / "lineage.json").write_text("{")
    version(studio)
    found = editor.get("/api/v1/models").json()
    assert [bool(row["damaged"]) for row in found] == [False, True]


def test_a_file_comes_whole_or_in_ranges(studio: Studio, editor: TestClient) -> None:
    made = version(studio)
    path = "/api/v1/models/legal@1/files/model.safetensors"
    whole = editor.get(path)
    assert whole.content == WEIGHTS and whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"] == 'attachment; filename="model.safetensors"'
    tag = whole.headers["etag"]
    assert tag == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    part = editor.get(path, headers={"Range": "bytes=1000-", "If-Range": tag})
    assert part.status_code == 206 and part.content == WEIGHTS[1000:]
    assert editor.get(path, headers={"Range": "bytes=1000-", "If-Range": '"another"'}).content == WEIGHTS
    assert editor.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert editor.get(path, headers={"Range": f"bytes={len(WEIGHTS)}-"}).status_code == 416
    began = time.monotonic()
    assert editor.get(path, headers={"Range": "bytes=" + ",".join("0-" for _ in range(10_000))}).status_code >= 400
    assert time.monotonic() - began < 0.5  # the whole request, on a shared machine
    (made.path.parent / "secret").write_text("canary")
    (made.path / "hidden").write_text("canary")
    for name in ("../secret", "..%2fsecret", "%2e%2e/secret", "hidden", "/etc/passwd", "report"):
        answer = editor.get(f"/api/v1/models/legal@1/files/{name}")
        assert answer.status_code == 404 and "canary" not in answer.text


def test_the_archive_is_whole(studio: Studio, editor: TestClient) -> None:
    version(studio)
    answer = editor.get("/api/v1/models/legal@1/archive")
    assert int(answer.headers["content-length"]) == len(answer.content)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as found:
        assert "legal-1/model.safetensors" in found.getnames()


def test_an_alias_with_a_gate(studio: Studio, editor: TestClient, client: Client) -> None:
    version(studio, *GOOD), version(studio, *FORGOT)
    gate = "/api/v1/models/legal/gates/production"
    assert editor.put(gate, json={"most_forgetting": 1}).status_code == 403
    assert client("administrator").put(gate, json={"most_forgetting": 1}).status_code == 200
    alias = "/api/v1/models/legal/aliases/production"
    refused = editor.put(alias, json={"version": 2})
    assert refused.status_code == 409 and "'code'" in refused.json()["what"]
    assert editor.put(alias, json={"version": 1}).json()["version"] == 1
    assert editor.get("/api/v1/models/legal@production").json()["model"] == "legal@1"
    assert editor.get("/api/v1/models/legal/aliases").json()["production"]["by"] == "editor"
    assert editor.delete("/api/v1/models/legal@1?confirm=legal@1").json()["what"] == "it is used: alias production"
    assert editor.delete(alias).status_code == 204 and editor.delete(alias).status_code == 404
    with studio.database.read() as session:
        actions = [(row.user, row.action, row.object) for row in session.query(AuditRow) if "model/" in row.object]
    assert actions == [
        ("administrator", "gate", "model/legal"),
        ("editor", "alias", "model/legal@1"),
        ("editor", "unalias", "model/legal"),
    ]


def test_delete_refuses_what_is_used(studio: Studio, editor: TestClient) -> None:
    version(studio), version(studio), version(studio, name="court", base="legal@1")
    run = create_run(studio.workspace, "more", "name: more\nbase_model: legal@2\n", [], studio.workspace.root)
    recipe = "name: p\nbase_model: 'court@1'\n"
    with studio.database.write() as session:
        upsert(session, run)
        session.add(PipelineRow(name="p", recipe=recipe, created=0.0, updated=0.0, created_by="ana", template=None))
    for model, used in (("legal@1", "version court@1"), ("legal@2", f"run {run.id}"), ("court@1", "pipeline p")):
        answer = editor.delete(f"/api/v1/models/{model}?confirm={model}")
        assert (answer.status_code, answer.json()["what"]) == (409, f"it is used: {used}")
    version(studio)
    assert editor.delete("/api/v1/models/legal@3?confirm=legal").status_code == 422
    assert editor.delete("/api/v1/models/legal@3?confirm=legal@3").status_code == 204
    assert editor.delete("/api/v1/models/legal@3?confirm=legal@3").status_code == 404


def ended(editor: TestClient, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    until = time.monotonic() + 60
    while (found := editor.get(f"/api/v1/transfers/{answer.json()['id']}").json())["state"] == "running":
        assert time.monotonic() < until
        time.sleep(0.1)
    return dict(found)


def test_s6_an_upload_is_imported_unless_it_is_a_pickle(studio: Studio, editor: TestClient) -> None:
    uploads = studio.workspace.root / "uploads"
    make_model(uploads / "small")
    shutil.copytree(uploads / "small", uploads / "bad")
    (uploads / "bad" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    good, bad = (
        editor.post("/api/v1/models/imports", json={"source": f"uploads/{name}", "name": "small"})
        for name in ("small", "bad")
    )
    found = ended(editor, good)
    assert (found["state"], found["result"], found["by"]) == ("done", {"model": "small@1"}, "editor"), found
    log = studio.workspace.root / "transfers" / found["id"] / "log.txt"
    assert json.loads(log.read_text().splitlines()[0])["progress"]["what"] == "copy"
    refused = ended(editor, bad)
    assert refused["state"] == "failed" and "pickle" in refused["error"] and refused["remedy"]
    assert editor.get("/api/v1/models/small@1").json()["imported"] == "./small"
    assert [row["id"] for row in editor.get("/api/v1/transfers").json()] == sorted(
        (good.json()["id"], bad.json()["id"]), reverse=True
    )
    assert editor.get(f"/api/v1/transfers/{found['id']}/file").status_code == 404
    for source in ("/etc", "uploads/../models", "uploads/", "./x", "uploads/x\u0001", "http://a/b"):
        assert editor.post("/api/v1/models/imports", json={"source": source, "name": "x"}).status_code in (403, 404)
    assert editor.post("/api/v1/models/imports", json={"source": "org/x", "name": "../x"}).status_code == 422


def test_gguf_without_a_converter_says_what_to_do(
    studio: Studio, editor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    version(studio)
    monkeypatch.setenv("REWARM_GGUF_CONVERTER", "/nowhere")
    found = ended(editor, editor.post("/api/v1/models/legal@1/gguf", json={}))
    assert found["state"] == "failed" and "not installed" in found["error"] and "PATH" in found["remedy"]
