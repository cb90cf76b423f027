"""Uploads over HTTP: resumed, checked, private until they are whole, and inside their folder whatever their names."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from rewarm.core import storage
from rewarm.core.run import create_run
from rewarm.studio.context import OWNER, Studio
from rewarm.studio.service import accounts, pipelines, uploads
from tests.studio.api.ask import ask as ask_raw
from tests.studio.conftest import Client, token_of

DATA = b"".join(b'{"text": "document %d"}\n' % n for n in range(1000))
RAW = {"Content-Type": "application/octet-stream"}
RECIPE = "name: tiny\nbase_model: a/b\ndata:\n  sources:\n    - {name: law, path: uploads/law}\n"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def send(ask: Any, data: bytes, file: str = "a.jsonl", text: str = "law") -> Any:
    """The answer to ``finish`` of a whole upload, or to what failed before."""
    begun = ask.post("/api/v1/uploads", json={"text": text, "file": file, "bytes": len(data)})
    if begun.status_code != 201:
        return begun
    id = begun.json()["id"]
    put = ask.put(f"/api/v1/uploads/{id}", params={"offset": 0}, content=data, headers=RAW)
    assert put.json()["offset"] == len(data), put.text
    return ask.post(f"/api/v1/uploads/{id}/finish", json={"sha256": sha(data)})


def test_in_pieces_and_resumed(studio: Studio, client: Client) -> None:
    ask = client("editor")
    begun = ask.post("/api/v1/uploads", json={"text": "law", "file": "a.jsonl", "bytes": len(DATA)}).json()
    where = f"/api/v1/uploads/{begun['id']}"
    assert begun["offset"] == 0 and not (studio.workspace.root / "uploads").exists()
    put = ask.put(where, params={"offset": 0}, content=DATA[:5000], headers=RAW)
    assert put.json()["offset"] == 5000
    wrong = ask.put(where, params={"offset": 0}, content=DATA[:5000], headers=RAW)
    assert wrong.status_code == 409 and "5000" in wrong.json()["what"]
    early = ask.post(f"{where}/finish", json={"sha256": sha(DATA)})
    assert early.status_code == 409 and "missing" in early.text
    more = ask.put(where, params={"offset": 5000}, content=DATA, headers=RAW)
    assert more.status_code == 422 and ask.get(where).json()["offset"] == 5000
    assert ask.put(where, params={"offset": 5000}, content=DATA[5000:], headers=RAW).status_code == 200
    assert ask.post(f"{where}/finish", json={"sha256": sha(b"x")}).status_code == 422
    done = ask.post(f"{where}/finish", json={"sha256": sha(DATA).upper()})
    assert done.status_code == 200 and done.json()["sha256"] == sha(DATA)
    assert (studio.workspace.root / "uploads/law/a.jsonl").read_bytes() == DATA
    assert ask.get(where).status_code == 404 and not list((studio.workspace.root / "unfinished").iterdir())
    (text,) = client("viewer").get("/api/v1/texts").json()
    assert (text["path"], text["bytes"], text["files"][0]["by"]) == ("uploads/law", len(DATA), "editor")
    shown = client("viewer").get("/api/v1/texts/law/preview", params={"documents": 1}).json()
    assert shown == {"file": "a.jsonl", "documents": [{"text": "document 0", "url": ""}]}
    assert send(ask, DATA).status_code == 409
    assert send(ask, b"plain text", "b c.txt").status_code == 200
    assert ask.delete("/api/v1/texts/law", params={"file": "b c.txt"}).status_code == 200
    assert [path.name for path in (studio.workspace.root / "uploads/law").iterdir() if path.name[0] != "."] == [
        "a.jsonl"
    ]


def test_a_line_that_breaks_leaves_what_came(studio: Studio, app: FastAPI, client: Client) -> None:
    ask = client("editor")
    id = ask.post("/api/v1/uploads", json={"text": "law", "file": "a.jsonl", "bytes": len(DATA)}).json()["id"]
    path, headers = f"/api/v1/uploads/{id}?offset=0", {"authorization": f"Bearer {token_of(studio, 'editor')}", **RAW}

    def breaking(count: int) -> Callable[[], Awaitable[Message]]:
        pieces = iter([{"type": "http.request", "body": DATA[:3000], "more_body": True}] * count)

        async def receive() -> Message:
            return next(pieces, {"type": "http.disconnect"})

        return receive

    headers["transfer-encoding"] = "chunked"
    ask_raw(app, "PUT", path, headers, receive=breaking(1))
    assert ask.get(f"/api/v1/uploads/{id}").json()["offset"] == 3000


def test_two_requests_at_once_do_not_mix(studio: Studio, client: Client) -> None:
    ask = client("editor")
    id = ask.post("/api/v1/uploads", json={"text": "law", "file": "a.jsonl", "bytes": len(DATA)}).json()["id"]
    user = accounts.by_token(studio, token_of(studio, "editor"))
    assert user is not None
    part = uploads.open_part(studio, user, id, 0)
    part.write(DATA[:10])
    second = ask.put(f"/api/v1/uploads/{id}", params={"offset": 10}, content=b"x", headers=RAW)
    assert second.status_code == 409 and "another request" in second.text
    assert ask.delete(f"/api/v1/uploads/{id}").status_code == 409
    part.close()
    assert ask.put(f"/api/v1/uploads/{id}", params={"offset": 10}, content=DATA[10:], headers=RAW).status_code == 200


def test_s3_what_is_unfinished_is_its_uploader_s_alone(studio: Studio, client: Client) -> None:
    mine, other = client("editor"), client("administrator")
    id = mine.post("/api/v1/uploads", json={"text": "law", "file": "a.jsonl", "bytes": 5}).json()["id"]
    for method, path, options in (
        ("GET", "", {}),
        ("PUT", "?offset=0", {"content": b"x", "headers": RAW}),
        ("POST", "/finish", {"json": {"sha256": sha(b"x")}}),
        ("DELETE", "", {}),
    ):
        answers = [other.request(method, f"/api/v1/uploads/{name}{path}", **options) for name in (id, "0" * 32)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].text.replace(id, "") == answers[1].text.replace("0" * 32, "")
    assert other.get("/api/v1/uploads").json() == [] and len(mine.get("/api/v1/uploads").json()) == 1
    assert client("viewer").get("/api/v1/uploads").status_code == 403
    assert mine.delete(f"/api/v1/uploads/{id}").status_code == 204


def test_a_disk_without_room_is_known_before(studio: Studio, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "free_bytes", lambda path: (1 << 30) + 1000)
    ask = client("editor")
    body = {"text": "law", "file": "a.jsonl", "bytes": 600}
    assert ask.post("/api/v1/uploads", json=body).status_code == 201
    answer = ask.post("/api/v1/uploads", json=body)  # the first has not come yet, but will
    assert answer.status_code == 507 and "space" in answer.text
    assert ask.post("/api/v1/uploads", json=body | {"bytes": 0}).status_code == 422


def test_abandoned_ones_are_swept(studio: Studio, client: Client) -> None:
    client("editor").post("/api/v1/uploads", json={"text": "law", "file": "a.jsonl", "bytes": 5})
    uploads.sweep(studio)
    assert list((studio.workspace.root / "unfinished").iterdir())
    uploads.sweep(studio, older_than=0)
    assert not list((studio.workspace.root / "unfinished").iterdir())


def test_what_holds_no_documents_is_refused(studio: Studio, client: Client) -> None:
    ask = client("editor")
    for data, file, words in (
        (b"\x80\x04canary", "a.jsonl", "hold no document"),
        (b'{"x": 1}\n', "a.jsonl", "column"),
        (gzip.compress(DATA)[:50], "a.jsonl.gz", "ends before"),
        (b"PAR1 nothing", "a.parquet", ""),
        (DATA, "a.pkl", "does not promise"),
        (DATA, "a.bin", "does not promise"),
        (DATA, "README.jsonl", "does not promise"),
    ):
        answer = send(ask, data, file)
        assert answer.status_code == 422 and words in answer.json()["what"], (file, answer.text)
        assert str(studio.workspace.root) not in answer.text
    assert client("viewer").get("/api/v1/texts").json() == []


def packed(kind: str, outside: Path) -> tuple[bytes, str]:
    """An archive that means harm, and a name for it."""
    out = io.BytesIO()
    if kind == "bomb":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.jsonl", "w") as member:
            for _ in range(300):
                member.write(b"0" * (1 << 20))
        return out.getvalue(), "a.zip"
    if kind == "nested":
        data, name = DATA, "a.jsonl"
        for _ in range(5):
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as archive:
                archive.writestr(name, data)
            data, name = out.getvalue(), "a.zip"
        return data, name
    if kind == "crowd":
        entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, *[0] * 7, 8, *[0] * 6)
        listed = b"".join(entry + b"%06d.t" % n for n in range(1_000_000))
        out.write(b"PK\3\4" + bytes(26) + listed)
        out.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, len(listed), 30))
        out.write(struct.pack("<4sLQL", b"PK\6\7", 0, 30 + len(listed), 1))
        out.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0))
        return out.getvalue(), "a.zip"
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("a.jsonl")
        entry.type = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}[kind]
        entry.linkname = str(outside)
        archive.addfile(entry)
    return out.getvalue(), "a.tar"


@pytest.mark.parametrize("kind", ["bomb", "nested", "crowd", "symlink", "hardlink", "device"])
def test_s14_archives_that_mean_harm(studio: Studio, client: Client, tmp_path: Path, kind: str) -> None:
    (outside := tmp_path / "outside.jsonl").write_text('{"text": "canary"}\n')
    answer = send(client("editor"), *packed(kind, outside))
    assert answer.status_code == 422 and "canary" not in answer.text, answer.text
    assert client("viewer").get("/api/v1/texts").json() == []


def test_s14_names_in_archives_write_nothing(studio: Studio, client: Client, tmp_path: Path) -> None:
    (canary := tmp_path / "canary.jsonl").write_text("untouched")
    before = sorted(path for path in tmp_path.rglob("*") if studio.workspace.root not in path.parents)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("../../canary.jsonl", str(canary), "..\\canary.jsonl"):
            archive.writestr(name, DATA)
    assert send(client("editor"), out.getvalue(), "a.zip").status_code == 200  # names in it are only names
    assert canary.read_text() == "untouched"
    assert before == sorted(path for path in tmp_path.rglob("*") if studio.workspace.root not in path.parents)


def test_a_text_that_is_used_is_not_deleted(studio: Studio, client: Client) -> None:
    ask = client("editor")
    send(ask, DATA)
    pipelines.create(studio, OWNER, name="tiny", recipe=RECIPE)
    assert ask.get("/api/v1/texts/law").json()["used_by"]["pipelines"] == ["tiny"]
    answer = ask.delete("/api/v1/texts/law")
    assert answer.status_code == 409 and "tiny" in answer.text
    run = create_run(studio.workspace, "tiny", RECIPE, [], studio.workspace.root)
    assert ask.delete("/api/v1/texts/law", params={"used": True}).status_code == 409
    (run.path / "recipe.yaml").unlink()
    answer = ask.delete("/api/v1/texts/law", params={"used": True})
    assert answer.status_code == 200 and answer.json()["pipelines"] == ["tiny"]
    assert not (studio.workspace.root / "uploads/law").exists()


def test_a_piece_that_never_comes_is_not_waited_for(
    studio: Studio, app: FastAPI, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewarm.studio.api.routes.uploads._SILENT_SECONDS", 0.05)
    id = client("editor").post("/api/v1/uploads", json={"text": "law", "file": "a.jsonl", "bytes": 9}).json()["id"]

    async def silent() -> Message:
        return await asyncio.Future()

    headers = {"authorization": f"Bearer {token_of(studio, 'editor')}", "transfer-encoding": "chunked", **RAW}
    assert ask_raw(app, "PUT", f"/api/v1/uploads/{id}?offset=0", headers, receive=silent, bodies=[]) == 422
    assert storage.free_bytes(studio.workspace.root) > 0
