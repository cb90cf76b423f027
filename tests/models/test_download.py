"""Hub ids against a server on loopback that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from .conftest import MakeModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys
from rewarm.core.errors import UserError
from rewarm.models.folder import check_folder, fetch
reports = []
try:
    folder = fetch(sys.argv[1], lambda *report: reports.append(report))
    check_folder(folder)
    print(json.dumps({"files": sorted(p.name for p in folder.iterdir()), "reports": reports}))
except UserError as error:
    print(json.dumps({"error": type(error).__name__, "code": error.exit_code, "text": str(error)}))
"""
LOCATE = """
import json, sys
from pathlib import Path
from rewarm.core.errors import UserError
from rewarm.core.workspace import Workspace
from rewarm.pipeline.base import locate
try:
    base = locate(sys.argv[1], Workspace(Path("none")), lambda *report: None, weights=False)
    files = sorted(p.name for p in base.folder.iterdir())
    print(json.dumps({"files": files, "parameters": base.parameters, "layers": base.facts.layers}))
except UserError as error:
    print(json.dumps({"error": type(error).__name__, "code": error.exit_code, "text": str(error)}))
"""


WAIT = """
import sys
from pathlib import Path
from huggingface_hub import constants
from rewarm.core import space
from rewarm.core.events import EventLog
from rewarm.models.folder import check_folder, fetch
space.POLL_SECONDS, constants.DOWNLOAD_CHUNK_SIZE = 0.1, 1000  # what has come is kept by the piece
log = EventLog(Path("events.jsonl"), 1)
log.state("starting")
log.state("running")
def work():
    folder = fetch(sys.argv[1], lambda what, done, total, unit: None)
    check_folder(folder)
    return folder
folder = space.with_space(work, purpose="test", folder=Path("."), log=log, stop=lambda: False)
print(sorted(path.name for path in folder.iterdir()))
"""


class Hub(BaseHTTPRequestHandler):
    """``models`` maps a hub id to its files; ids that start with "gated/" show their list, but no file."""

    models: dict[str, dict[str, bytes]]
    asked: list[str]
    down = False
    cuts = 0

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.strip("/")
        if self.down:
            self._answer(b"", {}, 503)
            return
        self.asked.append(f"{self.headers.get('Range') or 'all'} of {path}" if self.command == "GET" else path)
        parts = path.split("/")
        if parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._refuse(404, "EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _describe(self, model: str, rest: list[str]) -> None:
        files = self.models.get(model)
        if files is None:
            self._refuse(401, "RepoNotFound")
        elif rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            self._answer(json.dumps(entries).encode(), {"Content-Type": "application/json"})
        else:
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            content = {"id": model, "modelId": model, "sha": COMMIT, "siblings": siblings, "private": False}
            self._answer(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, model: str, name: str) -> None:
        if model.startswith("gated/"):
            self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        elif (part := self.headers.get("Range")) is not None:
            first, last = part.removeprefix("bytes=").split("-")
            data = self.models[model][name]
            self._answer(data[int(first) : int(last or len(data)) + 1], {}, 206)
        else:
            data = self.models[model][name]
            self._answer(data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(b"{}", {"X-Error-Code": code, "X-Error-Message": code}, status)

    def _answer(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET" and self.cuts and self.path.endswith("model.safetensors"):
            type(self).cuts -= 1
            type(self).down |= not self.cuts
            self.wfile.write(body[: len(body) // 2])
        elif self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(make_model: MakeModel) -> Iterator[tuple[str, type[Hub]]]:
    folder = make_model(tie_word_embeddings=True)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    extra = {
        "pytorch_model.bin": b"no",
        "evil.py": b"no",
        "consolidated.safetensors": b"no",
        "onnx/config.json": b"no",
        "README.md": b"a card",
        "LICENSE": b"license",
        "LICENSE-MODEL.md": b"license-model.md",
        "NOTICE": b"notice",
        "manifest.json": b'{"files": {"report/report.html": {"bytes": 1, "sha256": ""}}}',
        "USE_POLICY.md": b"use_policy.md",
    }
    pickles = {"config.json": files["config.json"], "pytorch_model.bin": b"\x80\x02"}
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder / "cut", max_shard_size="20KB")
    cut = {path.name: path.read_bytes() for path in (folder / "cut").iterdir()}
    config = json.loads(files["config.json"])
    models = {
        "open/model": {**files, **extra},
        "gated/model": files,
        "open/pickles": pickles,
        "open/cut": {**{name: data for name, data in files.items() if name != "model.safetensors"}, **cut},
        "open/short": {**files, "config.json": json.dumps({**config, "num_hidden_layers": 1}).encode()},
        "open/damaged": {**files, "model.safetensors": b"\x09" + bytes(7) + b"no header"},
    }
    handler = type("Handler", (Hub,), {"models": models, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()
    thread.join()


def surroundings(endpoint: str, home: Path) -> dict[str, str]:
    """An environment for another process, with this hub and a cache of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


def ask(model: str, endpoint: str, home: Path, script: str = SCRIPT, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", script, model],
        env={**surroundings(endpoint, home), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_fetches_weights_tokenizer_configuration_and_terms_and_nothing_else(
    hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    endpoint, handler = hub
    first = ask("open/model", endpoint, tmp_path)
    assert "error" not in first, first
    assert set(first["files"]) == {  # type: ignore[call-overload]
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md", "LICENSE", "LICENSE-MODEL.md", "NOTICE", "USE_POLICY.md",
    }  # fmt: skip
    what, done, total, unit = first["reports"][-1]  # type: ignore[index]
    assert (what, unit) == ("download", "bytes") and 0 < done == total
    handler.asked.clear()
    assert "error" not in ask("open/model", endpoint, tmp_path)
    assert not any(path.endswith(".safetensors") for path in handler.asked)  # it lies in the cache
    offline = ask("open/model", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert offline["files"] == first["files"]


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": "hf_" + "x" * 34}], ids=["without a token", "with a token"])
def test_gated_models_say_what_to_do(hub: tuple[str, type[Hub]], tmp_path: Path, token: dict[str, str]) -> None:
    answer = ask("gated/model", hub[0], tmp_path, **token)
    assert (answer["error"], answer["code"]) == ("ModelError", 3)
    text = str(answer["text"])
    assert "gated" in text and f"{hub[0]}/gated/model" in text and "hf auth login" in text
    assert "hf_x" not in text


@pytest.mark.parametrize(
    ("model", "environment", "words"),
    [
        ("open/modell", {}, ["no such model", "search=modell"]),
        ("open/pickles", {}, ["pickles (pytorch_model.bin)"]),
        ("no//id", {}, ["not a hub id"]),
        ("open/model", {"HF_HUB_OFFLINE": "1"}, ["HF_HUB_OFFLINE is set", "name its folder"]),
    ],
    ids=["unknown", "pickles", "no id", "offline"],
)
def test_failures_name_their_remedy(
    hub: tuple[str, type[Hub]], tmp_path: Path, model: str, environment: dict[str, str], words: list[str]
) -> None:
    answer = ask(model, hub[0], tmp_path, **environment)
    assert answer.get("error") == "ModelError", answer
    assert all(word in str(answer["text"]) for word in [*words, "what to do:"]), answer["text"]


def test_a_hub_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    for script in (SCRIPT, LOCATE):
        answer = ask("open/model", "http://127.0.0.1:9", tmp_path, script)
        assert (answer["error"], answer["code"]) == ("Unreachable", 3)
        assert "http://127.0.0.1:9 does not answer" in str(answer["text"]) and "what to do:" in str(answer["text"])


def test_a_run_waits_for_a_hub_that_goes_away_midway_and_goes_on(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    """Twice the weights come cut, then the hub is down; later it is there again."""
    endpoint, handler = hub
    handler.cuts = 2
    command = [sys.executable, "-c", WAIT, "open/model"]
    here = surroundings(endpoint, tmp_path)
    run = subprocess.Popen(command, cwd=tmp_path, env=here, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    events = tmp_path / "events.jsonl"
    while not (events.exists() and "paused" in events.read_text()):
        assert run.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    assert "answers HTTP 503" in events.read_text() or "does not answer" in events.read_text()
    handler.down = False
    out, _ = run.communicate(timeout=100)
    assert run.returncode == 0 and "model.safetensors" in out
    states = [json.loads(line)["state"] for line in events.read_text().splitlines()]
    assert states == ["starting", "running", "paused", "running"]
    parts = [asked for asked in handler.asked if asked.endswith("model.safetensors") and asked.startswith("bytes")]
    assert len(parts) == 1  # where the first cut was; a pause begins a file again that had not come whole


@pytest.mark.parametrize("model", ["open/model", "open/cut"])
def test_what_a_run_needs_is_known_without_the_weights(hub: tuple[str, type[Hub]], tmp_path: Path, model: str) -> None:
    endpoint, handler = hub
    found = ask(model, endpoint, tmp_path, LOCATE)
    assert "error" not in found, found
    config = json.loads(handler.models[model]["config.json"])
    whole = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).num_parameters()
    assert (found["parameters"], found["layers"]) == (whole, 2)
    assert "tokenizer.json" in found["files"] and not any(n.endswith(".safetensors") for n in found["files"])
    assert not any(path.startswith("all") and path.endswith(".safetensors") for path in handler.asked)
    fetched = ask(model, endpoint, tmp_path)
    assert any(name.endswith(".safetensors") for name in fetched["files"])
    _, done, total, _ = fetched["reports"][-1]
    assert done == total > 0  # what lies in the cache already is not counted
    assert ask(model, "http://127.0.0.1:9", tmp_path, LOCATE, HF_HUB_OFFLINE="1")["parameters"] == whole


def test_check_fetches_no_weights(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    endpoint, handler = hub
    (tmp_path / "new.jsonl").write_text("".join(f'{{"text": "line {n} of a text"}}\n' for n in range(100)))
    (tmp_path / "recipe.yaml").write_text(
        "name: a\nbase_model: open/model\ndata: {sources: [{name: new, path: new.jsonl}]}\n"
        "hyperparameters: {max_sequence_length: 32}\ninfrastructure: {devices: cpu}\n"
    )
    script = (
        "import json, sys; from pathlib import Path; from rewarm.cli.check import examine\n"
        "from rewarm.core.workspace import Workspace; from rewarm.recipe.load import load_recipe\n"
        "print(json.dumps(examine(load_recipe(Path(sys.argv[1])), Workspace(Path('none')))['base_model']))"
    )
    found = ask(str(tmp_path / "recipe.yaml"), endpoint, tmp_path / "cache", script)
    assert found["reference"] == "open/model" and found["parameters"]
    assert not any(path.startswith("all") and path.endswith(".safetensors") for path in handler.asked)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("open/short", ["num_hidden_layers is 1, but the weights have 2"]),
        ("open/damaged", ["its weights are damaged"]),
        ("open/pickles", ["pickles (pytorch_model.bin)"]),
        ("gated/model", ["gated"]),
    ],
)
def test_what_cannot_be_trained_is_refused_without_the_weights(
    hub: tuple[str, type[Hub]], tmp_path: Path, model: str, words: list[str]
) -> None:
    answer = ask(model, hub[0], tmp_path, LOCATE)
    assert (answer.get("error"), answer.get("code")) == ("ModelError", 3), answer
    assert all(word in str(answer["text"]) for word in [*words, "what to do:"]), answer["text"]
    assert not any(path.startswith("all") and path.endswith(".safetensors") for path in hub[1].asked)
