"""S5: what users call things is no command, no option and no path. S6, S7: what our own source never does."""

from __future__ import annotations

import ast
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

import rewarm
from rewarm.hub.models import publish
from rewarm.studio.context import Studio
from tests.studio.conftest import Client

SOURCE = Path(rewarm.__file__).parent


def names(canary: Path) -> list[str]:
    """Of things, for a shell, for a command line, and for whoever looks at names."""
    touch = f"touch {canary}"
    return [
        f"a;{touch}", f"a$({touch})", f"a`{touch}`", f"a|{touch}", f"a\n{touch}", f"a&{touch}&", f"'{touch}'", "--help",
        "--version", f"--output={canary}", f"--json={canary}", "-c", f"--to={canary}", "@/etc/passwd", "a/--help",
        "--/a", "*", "~", "a@1 --help", "${HOME}/a", "%(x)s", "{0.__class__}",
    ]  # fmt: skip


@pytest.fixture
def editor(studio: Studio, client: Client) -> TestClient:
    publish(studio.workspace.models, "legal", lambda folder: (folder / "config.json").write_text("{}"), {})
    return client("editor")


def test_s5_no_name_is_a_command_or_an_option(studio: Studio, editor: TestClient, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    add = {
        "name": "lake",
        "connection": {"kind": "s3", "endpoint": "http://127.0.0.1:1", "access_key": "a", "secret_key": "b"},
    }
    assert editor.post("/api/v1/connections", json=add).status_code == 201
    recipe = "name: tiny\nbase_model: org/x\ndata: {sources: [{name: law, path: s3://x/y}]}\n"
    for name in names(canary):
        answers = [
            editor.post("/api/v1/models/imports", json={"source": "org/x", "name": name}),
            editor.post("/api/v1/models/imports", json={"source": name, "name": "x"}),
            editor.post("/api/v1/models/legal@1/push", json={"hub_id": name}),
            editor.post("/api/v1/models/legal@1/push", json={"hub_id": "a/b", "connection": name}),
            editor.get("/api/v1/connections/lake/preview", params={"uri": name}),
            editor.get(f"/api/v1/connections/{quote(name, safe='')}/preview", params={"uri": "s3://x/y"}),
            editor.post("/api/v1/uploads", json={"text": name, "file": "a.txt", "bytes": 1}),
            editor.post("/api/v1/pipelines", json={"name": name, "recipe": recipe}),
            editor.get("/api/v1/runs/compare", params={"before": name, "after": "legal@1"}),
            editor.get("/api/v1/runs/compare", params={"before": "base", "after": name}),
            editor.get(f"/api/v1/runs/{quote(name, safe='')}/recomputed"),
        ]
        refused = [answer.status_code for answer in answers]
        assert all(400 <= status < 500 for status in refused), (name, refused)
        checked = editor.post("/api/v1/recipe/check?estimate=true", json={"recipe": recipe, "overrides": [name]})
        assert 400 <= checked.status_code < 500 or not checked.json()["valid"], name
    for name in names(canary)[:9:4]:  # it goes on, in a process, to a server that is away
        column = editor.get("/api/v1/connections/lake/preview", params={"uri": "s3://x/y", "text_column": name})
        assert 400 <= column.status_code < 500 and "Usage" not in column.text, column.text
    time.sleep(0.2)
    assert not canary.exists() and not list(studio.workspace.root.glob("transfers/*"))


def calls() -> list[tuple[str, ast.Call]]:
    """Every call in our source, with the file that it stands in."""
    return [
        (str(path.relative_to(SOURCE)), node)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call)
    ]


def test_s5_s6_s7_our_source_calls_no_shell_no_pickle_and_no_code_of_a_model() -> None:
    never = {"os.system", "os.popen", "asyncio.create_subprocess_shell", "pickle.load", "pickle.loads", "torch.load",
             "joblib.load", "marshal.loads", "eval", "exec", "compile", "yaml.load", "yaml.unsafe_load"}  # fmt: skip
    never_true = {"shell", "trust_remote_code", "allow_pickle"}
    found = calls()
    assert len(found) > 10_000
    for where, call in found:
        assert ast.unparse(call.func) not in never, (where, call.lineno)
        for given in call.keywords:
            constant = isinstance(given.value, ast.Constant) and given.value.value is False
            assert given.arg not in never_true or constant, (where, call.lineno)
