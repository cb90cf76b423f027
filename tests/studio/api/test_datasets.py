"""Datasets over HTTP: a real one, who uses it, and when it may be deleted."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics

import orjson
import pytest

from rewarm.core.run import Run, create_run
from rewarm.data.prepare import build_dataset
from rewarm.hub.models import publish
from rewarm.studio.context import Studio
from tests.data.conftest import make_recipe, tokenizer_folder, write_jsonl
from tests.data.remote.test_dataset import recipe_of
from tests.studio.conftest import Client

__all__ = ["make_recipe", "tokenizer_folder"]  # fixtures


@pytest.fixture
def dataset(studio: Studio, tmp_path: Path, tokenizer_folder: Path) -> str:
    """The hash of a dataset in the workspace: forty documents, two of them alike."""
    texts = [text[:400] for text in sorted(topics.values()) if len(text) > 400][:39]
    write_jsonl(tmp_path / "law.jsonl", [*texts, texts[0]])
    recipe = recipe_of(str(tmp_path / "law.jsonl"))
    return build_dataset(recipe, tokenizer_folder, studio.workspace.datasets, workers=1).hash


def run_on(studio: Studio, tmp_path: Path, dataset: str) -> Run:
    values = {"epochs": 1, "batch_size": 1, "gradient_accumulation_steps": 1, "max_sequence_length": 64, "seed": 1}
    source = f"{{name: law, path: {tmp_path / 'law.jsonl'}}}"
    recipe = f"name: tiny\nbase_model: a/b\ndata:\n  held_out: 0.1\n  sources: [{source}]\n"
    run = create_run(studio.workspace, "tiny", recipe, [], Path("/"))
    resolved = {"dataset": dataset, "hyperparameters": {name: {"value": value} for name, value in values.items()}}
    (run.path / "resolved.json").write_bytes(orjson.dumps(resolved))
    facts = {"dataset": dataset, "hyperparameters": values}
    run.stage_record("prepare").parent.mkdir()
    run.stage_record("prepare").write_bytes(orjson.dumps({"inputs": "", "outputs": {}, "facts": facts, "seconds": 1}))
    return run


def test_what_became_of_every_document(studio: Studio, client: Client, dataset: str) -> None:
    ask = client("viewer")
    page = ask.get("/api/v1/datasets").json()
    (row,) = page["datasets"]
    assert page["after"] is None and (row["dataset"], row["sources"]) == (dataset, ["law"])
    assert row["bytes"] > row["tokens"] > 1000 and row["used_by"] == {"pipelines": [], "runs": [], "versions": []}
    shown = ask.get(f"/api/v1/datasets/{dataset}").json()
    (law,) = shown["texts"]
    bars = dict(law["waterfall"])
    assert bars["documents in"] == 40 and bars["duplicate"] == 1
    assert bars["accepted"] == row["documents"] == 39 - bars.get("held out", 0)
    assert any("tokenizer serves law" in note for note in shown["notes"])
    assert ask.get("/api/v1/datasets/00000000").status_code == 404
    (studio.workspace.datasets / dataset / "manifest.json").write_text("{")
    assert "damaged" in ask.get("/api/v1/datasets").json()["datasets"][0]["sources"][0]
    assert ask.get(f"/api/v1/datasets/{dataset}").status_code == 422


def test_who_uses_it_and_when_it_goes(studio: Studio, client: Client, dataset: str, tmp_path: Path) -> None:
    ask, where = client("editor"), f"/api/v1/datasets/{dataset}"
    assert ask.get(f"{where}/rows").status_code == 404
    run = run_on(studio, tmp_path, dataset)
    publish(studio.workspace.models, "legal", lambda folder: None, {"dataset": dataset})
    used = {"pipelines": [], "runs": [run.id], "versions": ["legal@1"]}
    assert ask.get(where).json()["used_by"] == used
    graph = ask.get(f"{where}/lineage").json()
    assert {node["kind"] for node in graph["nodes"]} == {"text", "dataset", "run", "version"} and len(
        graph["edges"]
    ) == 3
    (row,) = ask.get(f"{where}/rows", params={"count": 1}).json()
    assert sum(part["end"] - part["begin"] for part in row) == 64 and row[0]["text"]
    for query in ({}, {"used": True}):
        answer = ask.delete(where, params=query)
        assert answer.status_code == 409 and answer.json()["where"] == run.id
    (run.path / "events.jsonl").write_bytes(
        b'{"v":1,"seq":1,"attempt":1,"time":1,"stage":"train","kind":"state","state":"succeeded"}\n'
    )
    answer = ask.delete(where)
    assert answer.status_code == 409 and "legal@1" in answer.text
    assert client("viewer").delete(where, params={"used": True}).status_code == 403
    assert ask.delete(where, params={"used": True}).json() == used
    assert not (studio.workspace.datasets / dataset).exists()
    assert ask.get("/api/v1/datasets").json()["datasets"] == []


def test_pages(studio: Studio, client: Client) -> None:
    for n in range(5):
        folder = studio.workspace.datasets / f"{n:08x}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text('{"sources": [], "files": {}}')
    seen, after = [], None
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        page = client("viewer").get("/api/v1/datasets", params=query).json()
        seen += [row["dataset"] for row in page["datasets"]]
        if (after := page["after"]) is None:
            break
    assert sorted(seen) == [f"{n:08x}" for n in range(5)]
