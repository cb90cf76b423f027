"""Models from elsewhere: what is taken along, and what is refused without ever being run."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rewarm.core.connections import HubConnection, save_connection
from rewarm.core.errors import ModelError, UserError
from rewarm.core.workspace import Workspace
from rewarm.hub.models import Version, find, list_models
from rewarm.models.generate import generate
from rewarm.pipeline.imports import import_model
from rewarm.pipeline.push import push, to_gguf
from tests.pipeline.conftest import make_model


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere") / "model"
    make_model(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    return shutil.copytree(source, tmp_path / "copy")


def quiet(*_: object) -> None: ...


def test_a_folder_becomes_a_version(copy: Path, workspace: Workspace, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name in ("pytorch_model.bin", "model.pt", "extra.ckpt", "state.pkl", "array.npy"):
        (copy / name).write_bytes(pickle.dumps(Canary(canary)))
    (copy / "modeling.py").write_text(f"open({str(canary)!r}, 'w')")
    (copy / "manifest.json").write_text('{"files": {}}')
    (copy / "lineage.json").write_text('{"base": {"reference": "forged@1"}}')
    version = import_model(str(copy), "small", workspace, quiet)
    version.verify()
    kept = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(version.manifest["files"]) == {*kept, "README.md", "lineage.json"}
    assert version.lineage["imported"] == {"from": "./copy"} and "base" not in version.lineage
    assert generate(version.path, "nhang", max_tokens=3)
    assert not canary.exists()


def test_an_archive_becomes_a_version(source: Path, workspace: Workspace, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as packed:
        packed.add(source, "model")
    version = import_model(str(tmp_path / "small.tar.gz"), "small", workspace, quiet)
    assert version.lineage["model"] == import_model(str(source), "small", workspace, quiet).lineage["model"]


def config(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_cannot_be_trusted_is_refused_and_never_run(copy: Path, workspace: Workspace, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = f"import pathlib; pathlib.Path({str(canary)!r}).touch()"
    (copy / "evil.py").write_text(code)
    weights = copy / "model.safetensors"

    def only_pickle(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(canary)))

    attacks: list[tuple[Callable[[Path], object], str]] = [
        (only_pickle, "pickles"),
        (lambda folder: (folder / weights.name).write_bytes(pickle.dumps(Canary(canary))), "pickle"),
        (lambda folder: (folder / "tokenizer.model").write_bytes(pickle.dumps(Canary(canary))), "pickle"),
        (lambda folder: config(folder, auto_map={"AutoConfig": "evil.Config"}), "auto_map"),
        (lambda folder: config(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}), "auto_"),
        (lambda folder: (folder / weights.name).write_bytes(weights.read_bytes()[:-8]), "cut"),
        (lambda folder: config(folder, num_hidden_layers=10**9), "layer"),
        (lambda folder: (folder / "LICENSE").symlink_to("/etc/passwd"), "leads out"),
    ]
    for number, (attack, message) in enumerate(attacks):
        folder = shutil.copytree(copy, tmp_path / str(number))
        attack(folder)
        with pytest.raises(ModelError, match=message):
            import_model(str(folder), "small", workspace, quiet)
    assert list_models(workspace.models) == [] and not list((workspace.models / "small").iterdir())
    assert not canary.exists()


def test_no_import_or_generation_renders_a_template(copy: Path, workspace: Workspace, tmp_path: Path) -> None:
    """A chat template is a program of strangers; only the chat probe renders it (tests/evaluate/test_chat.py)."""
    canary = tmp_path / "canary"
    inject = f"{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}"
    endless = "{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}"
    config(copy, "tokenizer_config.json", chat_template=inject + endless)
    (copy / "chat_template.jinja").write_text(inject + endless)
    version = import_model(str(copy), "small", workspace, quiet)
    assert generate(version.path, "nhang", max_tokens=2)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["http://127.0.0.1/x", "name", "a/b/c", "name@1", "--help/x"])
def test_what_names_no_source(name: str, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="neither a folder or archive"):
        import_model(name, "small", workspace, quiet)


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as an upload asks for: what it gets is kept, with the tokens that were sent."""

    commits: list[dict[str, Any]]
    stored: dict[str, bytes]
    tokens: set[str]

    def log_message(self, *_: object) -> None: ...

    def _answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._answer({"id": "team/small", "sha": "0" * 40, "siblings": []})

    def do_PUT(self) -> None:
        self.stored[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def do_POST(self) -> None:
        self.tokens.add(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        here = f"http://{self.headers['Host']}"
        if self.tokens != {"Bearer hf_writes"}:
            self._answer({"error": "no"}, 403)
        elif self.path == "/api/repos/create":
            self._answer({"url": f"{here}/team/small"})
        elif "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                     for f in json.loads(body)["files"]]  # fmt: skip
            self._answer({"files": [{**file, "shouldIgnore": False} for file in files]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{here}/blob/{item['oid']}", "header": {}}}}
                for item in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            self.commits.extend(json.loads(line) for line in body.splitlines())
            self._answer({"commitUrl": f"{here}/team/small/commit/{40 * '0'}", "commitOid": "0" * 40, "hookOutput": ""})
        else:
            self._answer({})


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.commits, Hub.stored, Hub.tokens = [], {}, set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def version(source: Path, workspace: Workspace) -> Version:
    return import_model(str(source), "small", workspace, quiet)


def test_a_version_is_pushed(version: Version, workspace: Workspace, hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # its store is no small thing to stand in
    with pytest.raises(UserError, match="no connection"):
        push(version, "team/small", workspace)
    save_connection(workspace, "team", HubConnection.model_validate({"endpoint": hub, "token": "hf_writes"}))
    assert push(version, "team/small", workspace, "team") == f"{hub}/team/small"
    added = {line["value"]["path"] for line in Hub.commits if line["key"] in ("file", "lfsFile")}
    assert added == {*version.manifest["files"]} - {"lineage.json"}
    weights = version.manifest["files"]["model.safetensors"]
    assert Hub.stored[f"/blob/{weights['sha256']}"] == (version.path / "model.safetensors").read_bytes()
    save_connection(workspace, "other", HubConnection.model_validate({"endpoint": hub, "token": "hf_reads"}))
    with pytest.raises(ModelError, match=r"refuses \(403\)") as error:
        push(version, "team/small", workspace, "other")
    assert "hf_reads" not in str(error.value)


CONVERTER = """\
import sys
if "--outtype" not in sys.argv or "bad" in sys.argv[-1]:
    sys.exit("no such type")
open(sys.argv[sys.argv.index("--outfile") + 1], "wb").write(b"GGUF" + sys.argv[1].encode())
"""


def test_gguf_wants_a_converter(version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in takes llama.cpp's place: its converter comes with no package."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("REWARM_GGUF_CONVERTER", raising=False)
    with pytest.raises(UserError, match="not installed"):
        to_gguf(version, tmp_path / "small.gguf")
    (tmp_path / "convert.py").write_text(CONVERTER)
    monkeypatch.setenv("REWARM_GGUF_CONVERTER", str(tmp_path / "convert.py"))
    assert to_gguf(version, tmp_path / "small.gguf").read_bytes() == b"GGUF" + str(version.path).encode()
    with pytest.raises(UserError, match="exists already"):
        to_gguf(version, tmp_path / "small.gguf")
    with pytest.raises(ModelError, match="no such type"):
        to_gguf(version, tmp_path / "other.gguf", "bad")  # type: ignore[arg-type]
    assert not list(tmp_path.glob(".tmp-*")) and find(version.path.parents[1], "small@1") == version
