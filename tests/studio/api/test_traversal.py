"""S4: no name, path or address of any route leads out of its folder. The routes are those of the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from rewarm.core.network import guarded
from rewarm.studio.context import Studio
from tests.studio.api.ask import ask
from tests.studio.conftest import token_of

CANARY = "canary-that-nobody-reads"
NEVER = ("/completions", "/chat")  # these start an engine, whose own tests are about what it loads


def vectors(outside: Path) -> list[str]:
    """Ways to name the file ``outside``, which lies beside the workspace, from a folder of the workspace."""
    up, name = "../" * 3, outside.name
    plain = [f"../{name}", f"../../{name}", up + name, f"x/{up}../{name}", f"./../../{name}", f"....//....//{name}",
             f"..;/..;/{name}", f"..\\..\\{name}", f"..\\../{name}", f"/..//..//{name}", str(outside), f"/{outside}",
             f"//localhost{outside}", f"\\\\localhost\\{name}", f"file://{outside}", f"file:{outside}",
             f"FILE://localhost{outside}", f"~/../{name}", f"~root/{name}", f"{outside}\0.jsonl",
             f"a.jsonl\0{up}{name}",
             f"../home_evil/{name}", f"../../home/../{name}", "..", ".", "...", "../", "./", "/", "//", "\\", "",
             " ", f" ../../{name}", f"../../{name} ", f"../../{name}.", f"../../{name}/", f"../../{name}/.",
             f"{name}::$DATA", "CON", "C:\\x", f"\u2025/\u2025/{name}", f"\u2024\u2024/\u2024\u2024/{name}",
             f"\uff0e\uff0e/\uff0e\uff0e/{name}", f"..\uff0f..\uff0f{name}", f"..\u2215..\u2215{name}",
             f"\udcae\udcae/{name}".encode("utf-8", "replace").decode(), "link", f"link/{name}", "links/a.jsonl",
             f"a%00{name}", "-rf", "--json", f"--output={outside}", f"*/../../{name}", f"[.][.]/{name}",
             "x" * 4096, "../" * 1365 + name, "$(touch x)", "`id`"]  # fmt: skip
    encoded = [f"%2e%2e/%2e%2e/{name}", f"%2e%2e%2f%2e%2e%2f{name}", f"%252e%252e%252f{name}", f"..%5c..%5c{name}",
               f"..%c0%af..%c0%af{name}", f"%u002e%u002e/{name}"]  # fmt: skip
    return plain + encoded


class Place(NamedTuple):
    """Where a vector can be put."""

    method: str
    path: str
    kind: str  # path, query or body
    name: str
    schema: dict[str, Any]


def places(app: FastAPI) -> Iterator[Place]:
    found = app.openapi()
    for path, verbs in found["paths"].items():
        for method, verb in verbs.items():
            if any(part in path for part in NEVER):
                continue
            for parameter in verb.get("parameters", []):
                if parameter["in"] in ("path", "query") and _is_text(parameter["schema"]):
                    yield Place(method.upper(), path, parameter["in"], parameter["name"], {})
            content = verb.get("requestBody", {}).get("content", {})
            if reference := content.get("application/json", {}).get("schema", {}).get("$ref"):
                schema = found["components"]["schemas"][reference.rpartition("/")[2]]
                for name, field in schema.get("properties", {}).items():
                    if _is_text(field):
                        yield Place(method.upper(), path, "body", name, schema)


def _is_text(schema: dict[str, Any]) -> bool:
    return any(each.get("type") == "string" for each in (schema, *schema.get("anyOf", [])))


def send(app: FastAPI, place: Place, vector: str, token: str) -> tuple[int, bytes]:
    raw = re.fullmatch(r".*%[0-9a-fu].*", vector) is not None  # is encoded as it should come
    encoded = vector if raw else quote(vector, safe="")
    path = place.path
    if place.kind == "path":
        path = path.replace(f"{{{place.name}}}", encoded or "%20")
    path = re.sub(r"\{[^}]*\}", "law", path)
    body = b""
    if place.kind == "query":
        path += f"?{place.name}={encoded}&offset=0&uri=s3://bucket/"
    elif place.kind == "body":
        examples = {
            name: field["examples"][0] for name, field in place.schema["properties"].items() if "examples" in field
        }
        body = json.dumps({**examples, place.name: vector}).encode()
    headers = {"authorization": f"Bearer {token}", **({"content-type": "application/json"} if body else {})}
    answer: list[bytes] = []
    return ask(app, place.method, path, headers, body, bodies=answer), b"".join(answer)


def tree(root: Path, but: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if but not in path.parents and path.is_file()}


def campaign(studio: Studio, app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int) -> int:
    """Every place with one in ``share`` of the vectors; how many there were."""
    home, outside = studio.workspace.root, tmp_path / "canary.jsonl"
    outside.write_text(json.dumps({"text": CANARY}))
    for folder in ("uploads/law", "home_evil"):
        ((home if folder[0] == "u" else tmp_path) / folder).mkdir(parents=True)
    (tmp_path / "home_evil/canary.jsonl").write_text(json.dumps({"text": CANARY}))
    (home / "canary.jsonl").write_text(json.dumps({"text": CANARY}))
    (home / "uploads/law/a.jsonl").write_text('{"text": "open"}\n')
    for folder in ("uploads", "uploads/law", "runs", "models", "datasets"):
        (home / folder).mkdir(exist_ok=True)
        (home / folder / "link").symlink_to(tmp_path)
        (home / folder / "links.jsonl").symlink_to(outside)
    monkeypatch.chdir(home / "uploads/law")
    before, token, count = tree(tmp_path, home), token_of(studio, "editor"), 0
    everything = [(place, vector) for place in places(app) for vector in vectors(outside)]
    with guarded(studio.workspace):
        for place, vector in everything[::share]:
            status, body = send(app, place, vector, token)
            assert status < 500 or status == 507, (place[:4], vector[:100], status, body[:300])
            assert CANARY.encode() not in body, (place[:4], vector[:100])
            count += 1
    assert tree(tmp_path, home) == before
    assert (home / "canary.jsonl").read_text() == outside.read_text()
    assert {path.name for path in (home / "uploads").iterdir()} <= {"law", "link", "links.jsonl"}
    return count


def test_s4_no_name_leads_outside(
    studio: Studio, app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(vectors(tmp_path / "x")) >= 60
    assert campaign(studio, app, tmp_path, monkeypatch, 37) > 100


@pytest.mark.nightly
def test_s4_every_vector_in_every_place(
    studio: Studio, app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign(studio, app, tmp_path, monkeypatch, 1)
