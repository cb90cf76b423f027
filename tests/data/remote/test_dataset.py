"""A dataset from a bucket: the same shards as from the disk, whatever the line to it does."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from rewarm.core.errors import DataError
from rewarm.core.workspace import Workspace
from rewarm.data.prepare import build_dataset
from rewarm.data.sample import sample_texts
from rewarm.recipe.recipe import Recipe
from tests.servers import BUCKET, SECRET, Proxy, Reply, Store, unreliable


def recipe_of(path: str, connection: str | None = None, **more: str) -> Recipe:
    source = {"name": "law", "path": path, "connection": connection, **more}
    data = {"sources": [source], "held_out": 0.1, "max_rejected": 0.1}
    return Recipe.model_validate({"name": "t", "base_model": "none", "data": data})


def lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"body": {"text": text}}).encode() + b"\n" for text in texts)


@pytest.fixture
def parts(english: list[str]) -> dict[str, bytes]:
    return {"a.jsonl": lines(english[:40]), "b.jsonl.gz": gzip.compress(lines(english[40:70])),
            "c/d.jsonl": lines(english[70:]) + b"broken\n"}  # fmt: skip


def shards(path: Path) -> dict[str, bytes]:
    files = sorted(p for p in (path / "law").rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


def test_from_a_bucket_as_from_the_disk(
    store: Store, workspace: Workspace, proxy: Proxy, parts: dict[str, bytes], tmp_path: Path, tokenizer_folder: Path
) -> None:
    disk = tmp_path / "disk"
    for name, data in parts.items():
        store.put(f"set/{name}", data)
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).write_bytes(data)
    column = {"text_column": "body.text"}
    local = build_dataset(recipe_of(str(disk), **column), tokenizer_folder, tmp_path / "local", workers=2)
    clean = recipe_of(f"s3://{BUCKET}/set", store.connect(workspace), **column)
    remote = build_dataset(clean, tokenizer_folder, workspace.datasets, workers=2)
    assert shards(remote.path) == shards(local.path)
    entry = remote.manifest["sources"][0]
    assert entry["documents_in"] == entry["accepted"] + entry["held_out"] + 1
    assert entry["rejected"] == {"broken JSON": 1}

    proxy.fault = unreliable(0.3)
    broken = recipe_of(f"s3://{BUCKET}/set", store.connect(workspace, "broken", endpoint=proxy.address), **column)
    (workspace.cache).rename(tmp_path / "old")
    again = build_dataset(broken, tokenizer_folder, tmp_path / "again", workers=2)
    assert again.hash == remote.hash
    assert shards(again.path) == shards(remote.path)

    proxy.fault = lambda path, reply: reply
    proxy.asked.clear()
    build_dataset(broken, tokenizer_folder, tmp_path / "again", workers=2)
    assert {path.partition("?")[0] for path, _ in proxy.asked} == {f"/{BUCKET}/"}  # listings alone
    printed = b"".join(path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())
    assert SECRET.encode() not in printed
    assert sample_texts(broken, tokenizer_folder)["law"].files == 3


@pytest.mark.nightly
def test_answers_that_do_not_come_in_time(
    store: Store, workspace: Workspace, proxy: Proxy, parts: dict[str, bytes], tmp_path: Path, tokenizer_folder: Path
) -> None:
    """Workers wait half a minute for an answer and ask again: the same dataset."""
    for name, data in parts.items():
        store.put(f"late/{name}", data)
    connection = store.connect(workspace, endpoint=proxy.address)
    recipe = recipe_of(f"s3://{BUCKET}/late", connection, text_column="body.text")
    clean = build_dataset(recipe, tokenizer_folder, tmp_path / "clean", workers=2)
    (workspace.cache).rename(tmp_path / "old")
    fault, late_for = unreliable(0.3), {"a.jsonl", "c/d.jsonl"}

    def late(path: str, reply: Reply) -> Reply | None:
        name = path.removeprefix(f"/{BUCKET}/late/")
        if name not in late_for:
            return fault(path, reply)
        late_for.remove(name)
        return dataclasses.replace(reply, wait=32)

    proxy.fault = late
    again = build_dataset(recipe, tokenizer_folder, tmp_path / "again", workers=2)
    assert (again.hash, shards(again.path)) == (clean.hash, shards(clean.path))
    assert not late_for


def test_an_unreachable_object_is_not_passed_over_as_a_bad_file(
    store: Store, workspace: Workspace, proxy: Proxy, parts: dict[str, bytes], tmp_path: Path, tokenizer_folder: Path
) -> None:
    for name, data in parts.items():
        store.put(f"gone/{name}", data)
    store.put("gone/bad.jsonl.gz", b"\x1f\x8bnot gzip")
    connection = store.connect(workspace, endpoint=proxy.address)
    recipe = recipe_of(f"s3://{BUCKET}/gone", connection, on_bad_file="skip", text_column="body.text")
    good = build_dataset(recipe, tokenizer_folder, tmp_path / "good", workers=1)
    assert [bad["file"] for bad in good.manifest["sources"][0]["bad_files"]] == [f"s3://{BUCKET}/gone/bad.jsonl.gz"]
    (workspace.cache).rename(tmp_path / "old")
    proxy.fault = lambda path, reply: Reply(403, {}, b"") if "d.jsonl" in path else reply
    with pytest.raises(DataError, match="may not read"):
        build_dataset(recipe, tokenizer_folder, tmp_path / "bad", workers=1)
