"""Data sets of a hub, from a server on loopback that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from pydantic import SecretStr

from rewarm.core.connections import HubConnection, replace_secret, save_connection
from rewarm.core.errors import DataError, Unreachable
from rewarm.core.workspace import Workspace
from rewarm.data.documents import Document, read_documents
from rewarm.data.files import File, list_files
from rewarm.data.remote import browse
from rewarm.data.signature import ChangedError, UnsettledError
from tests.data.test_documents import CONTENTS, TEXTS

FILES = {
    "data/a b.jsonl": CONTENTS["jsonl"],
    "data/vi/Điều.parquet": CONTENTS["parquet"],
    "data/vi/c.txt": b"plain",
    "README.md": b"about",
}


class Hub(BaseHTTPRequestHandler):
    """One data set, ``owner/texts``; large files lie on another server; ``gated/texts`` asks for a token."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    elsewhere: str
    asked: list[tuple[str, str | None]]
    failures: int
    faults: list[str]
    parts: list[str]
    token: str | None = None

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.asked.append((path, self.headers.get("Authorization")))
        if self.failures:
            type(self).failures -= 1
            self._answer(b"", {}, 503)
        elif self.token and not path.startswith("lake/") and self.headers["Authorization"] != f"Bearer {self.token}":
            self._answer(b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"}, 401)
        elif path.startswith("gated/texts/") or "/gated/texts" in path:
            self._answer(b"{}", {"X-Error-Code": "GatedRepo"}, 403 if "Authorization" in self.headers else 401)
        elif found := re.fullmatch(r"api/datasets/owner/texts/tree/(main|v1|pull/1)(?:/(.*))?", path):
            self._tree(found[2] or "", "recursive=true" in self.path)
        elif found := re.fullmatch(r"datasets/owner/texts/resolve/(main|v1|pull/1)/(.*)", path):
            self._resolve(found[2])
        elif path.startswith("lake/"):
            data = self.files[path.removeprefix("lake/")]
            self._part(data, {"ETag": '"of-the-lake"'}) if "Range" in self.headers else self._answer(data, {})
        else:
            self._answer(b"{}", {"X-Error-Code": "RepoNotFound"}, 401)

    def _tree(self, folder: str, deep: bool) -> None:
        below = [name for name in self.files if name.startswith(f"{folder}/" if folder else "")]
        if not below:
            self._answer(b"{}", {"X-Error-Code": "EntryNotFound"}, 404)
            return
        files = [n for n in below if deep or "/" not in n[len(folder) + bool(folder) :]]
        depth = folder.count("/") + 2 if folder else 1
        folders = {"/".join(n.split("/")[:depth]) for n in below if n not in files}
        every = [{"type": "directory", "path": f, "oid": "0" * 40} for f in folders] + [*map(self._entry, files)]
        at = int((re.findall(r"cursor=(\d+)", self.path) or "0")[0])  # pages of two entries
        question = f"{urlsplit(self.path).query.partition('&')[0]}&cursor={at + 2}"
        more = {"Link": f'<http://{self.headers["Host"]}{urlsplit(self.path).path}?{question}>; rel="next"'}
        self._json(every[at : at + 2], more if len(every) > at + 2 else {})

    def _entry(self, name: str) -> dict[str, object]:
        data = self.files[name]
        entry = {"type": "file", "path": name, "size": len(data), "oid": git_hash(data)}
        if name.endswith(".parquet"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _resolve(self, name: str) -> None:
        if name not in self.files:
            self._answer(b"", {"X-Error-Code": "EntryNotFound"}, 404)
        elif name.endswith(".parquet"):
            headers = {"X-Linked-Etag": f'"{hashlib.sha256(self.files[name]).hexdigest()}"'}
            self._answer(b"", {**headers, "Location": f"{self.elsewhere}/lake/{quote(name)}"}, 302)
        else:
            self._part(self.files[name], {"ETag": f'"{git_hash(self.files[name])}"'})

    def _part(self, data: bytes, headers: dict[str, str]) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        self._answer(part, {**headers, "Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"}, 206)

    def _json(self, value: object, headers: dict[str, str]) -> None:
        self._answer(json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def _answer(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response_only(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if status == 206:
            self.parts.append(self.headers["Range"])
        if len(body) < 1000 or not self.faults:
            self.wfile.write(body)
            return
        self.wfile.write(body[:10_000])
        if self.faults.pop() == "stall":
            time.sleep(1)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None: ...


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def hub(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    kind = type("Kind", (Hub,), {"files": dict(FILES), "asked": [], "failures": 0, "faults": [], "parts": []})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for _ in range(2)]
    kind.elsewhere = f"http://127.0.0.1:{servers[1].server_address[1]}"
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    endpoint = f"http://127.0.0.1:{servers[0].server_address[1]}"
    save_connection(workspace, "huggingface", HubConnection.model_validate({"endpoint": endpoint, "token": "canary"}))
    yield kind
    for server in servers:
        server.shutdown()
        server.server_close()


def texts(uri: str) -> list[str]:
    listing = list_files([uri])
    found = [File(name, listing.signatures[name]) for name in listing.files]
    return [item.text for file in found for item in read_documents(file) if isinstance(item, Document)]


def test_folders_patterns_and_files(hub: type[Hub]) -> None:
    root = "hf://datasets/owner/texts"
    assert list_files([root]).files == [f"{root}/{name}" for name in sorted(FILES) if name != "README.md"]
    assert texts(f"{root}/data/vi") == ["plain", *TEXTS]
    assert texts(f"{root}@v1/data/a b.jsonl") == TEXTS
    assert list_files([f"{root}@pull%2F1/data/vi"]).files == [
        f"{root}@pull%2F1/data/vi/{n}" for n in ("c.txt", "Điều.parquet")
    ]
    assert texts(f"{root}/data/**/*.parquet") == TEXTS
    assert texts(f"{root}/data/*") == [*TEXTS, "plain", *TEXTS]
    assert {entry.uri for entry in browse(f"{root}/data", None)} == {f"{root}/data/a b.jsonl", f"{root}/data/vi/"}
    to_the_hub = {token for path, token in hub.asked if not path.startswith("lake/")}
    assert to_the_hub == {"Bearer canary"}
    assert {token for path, token in hub.asked if path.startswith("lake/")} == {None}  # no secret for other hosts


def test_a_new_commit_is_noticed_only_where_it_changed_something(hub: type[Hub]) -> None:
    uris = ["hf://datasets/owner/texts/data/vi/Điều.parquet", "hf://datasets/owner/texts/data/vi/c.txt"]
    known = [File.at(uri) for uri in uris]
    assert list_files(uris).signatures == {file.uri: file.signature for file in known}
    hub.files = {**FILES, "data/a b.jsonl": b"another"}
    assert known[1].head() == b"plain"
    hub.files = {"data/vi/Điều.parquet": CONTENTS["parquet"] + b"\n", "data/vi/c.txt": b"plane"}
    with pytest.raises(ChangedError):
        known[0].head()
    with pytest.raises(ChangedError):
        File(uris[1], known[1].signature._replace(version="0" * 40)).head()


def test_another_kind_of_server_is_said(hub: type[Hub], workspace: Workspace) -> None:
    known = HubConnection.model_validate({"endpoint": f"{hub.elsewhere}/lake", "token": "canary"})
    save_connection(workspace, "lake", known)
    for answer in (b"<html>canary", b'{"error": "canary"}'):
        hub.files = {"api/datasets/owner/texts/tree/main": answer}
        with pytest.raises(UnsettledError, match="does not answer like a hub"):
            list_files(["hf://datasets/owner/texts"], connection="lake")


def test_failures_in_passing(hub: type[Hub]) -> None:
    hub.failures = 3
    assert texts("hf://datasets/owner/texts/data/vi/c.txt") == ["plain"]
    hub.failures = 1000
    with pytest.raises(Unreachable, match="HTTP 503"):  # and not: there is no such folder
        list_files(["hf://datasets/owner/texts/data"])


def test_cut_and_stalled_answers_are_gone_on_with_from_where_they_ended(
    hub: type[Hub], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the hub itself and where it leads; each time the hub is asked anew where the bytes lie."""
    monkeypatch.setattr("rewarm.data.remote.place._PROGRESS", 100)
    data = "".join(f"Câu số {n}, khác với mọi câu kia.\n" for n in range(20_000)).encode()
    for name in ("data/big.txt", "data/big.parquet"):
        hub.files, hub.faults = {name: data}, ["cut", "stall"] * 6
        known = File.at(f"hf://datasets/owner/texts/{name}")
        hub.asked.clear()
        with known.open() as source:
            assert source.read() == data
        assert not hub.faults
        starts = [int(part[6:].partition("-")[0]) for part in hub.parts[-13:]]
        assert starts == sorted(set(starts)) and starts[0] == 0
        assert len(hub.asked) == 13 * (2 if name.endswith("parquet") else 1)


def test_a_token_that_is_taken_back_midway(hub: type[Hub], workspace: Workspace) -> None:
    root = "hf://datasets/owner/texts"
    listing = list_files([f"{root}/data"])
    hub.token = "another"
    for name in listing.files:
        with pytest.raises(Unreachable, match="does not accept this token, and accepted the connection before"):
            File(name, listing.signatures[name]).head()
    with pytest.raises(Unreachable):
        list_files([root])
    replace_secret(workspace, "huggingface", SecretStr("another"))
    assert texts(f"{root}/data/vi/c.txt") == ["plain"]


@pytest.mark.parametrize(
    ("uri", "words", "remedy"),
    [
        ("hf://datasets/gated/texts", "gated", "accept them at http"),
        ("hf://datasets/gated/texts/data/a.jsonl", "gated", "rewarm connections add hf"),
        ("hf://datasets/owner/absent/a.jsonl", "no such data set", "compare the spelling"),
        ("hf://datasets/owner/texts/absent", "no such file or folder", "browse"),
        ("hf://models/owner/texts", "no data set", "hf://datasets/OWNER"),
        ("hf://datasets/texts", "no data set", "hf://datasets/OWNER"),
    ],
)
def test_what_is_not_to_be_had(hub: type[Hub], uri: str, words: str, remedy: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        list_files([uri])
    assert remedy in str(caught.value.remedy)
    assert "canary" not in str(caught.value)


def test_a_hub_that_is_down_is_not_taken_for_one_without_the_file(
    hub: type[Hub], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewarm.data.remote.hub.HubPlace.patience", 1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    known = HubConnection.model_validate({"endpoint": f"http://127.0.0.1:{port}", "token": "canary"})
    save_connection(workspace, "down", known)
    with pytest.raises(Unreachable, match="nothing answers there"):
        list_files(["hf://datasets/owner/texts/data/a.jsonl"], connection="down")


def test_offline_is_said(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnsettledError, match="HF_HUB_OFFLINE"):
        list_files(["hf://datasets/owner/texts"])


def test_the_usual_endpoint_and_token_without_a_connection(hub: type[Hub], tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads its environment when it is imported."""
    endpoint = hub.elsewhere
    code = "from rewarm.data.files import list_files; print(len(list_files(['hf://datasets/owner/texts']).files))"
    environment = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "canary-2", "REWARM_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr
    assert hub.asked[-1][1] == "Bearer canary-2"
