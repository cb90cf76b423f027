"""The command line on a Studio elsewhere: a server's process, and the commands that ask it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from rewarm.cli.main import app
from rewarm.cli.remote import _LOCAL, _VERBS, _leaves
from rewarm.client import Client
from rewarm.core.connections import S3Connection, load_connection
from rewarm.core.errors import Conflict, Forbidden, NotFound, ResourceError, UserError
from rewarm.core.workspace import Workspace
from rewarm.hub.models import publish
from tests.cli.test_runs import Rewarm, ended_run, rewarm, with_report
from tests.servers import free_port
from tests.studio.server import serving

__all__ = ["rewarm"]  # a fixture
RECIPE = "name: far\nbase_model: ./nothing-here\ndata: {sources: [{name: law, path: uploads/law}]}\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Client]]:
    """A workspace with a run that ended, a model and a server; and a client with an editor's token."""
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    ended_run(workspace, "gone")
    with_report(ended_run(workspace, "law"))
    ended_run(workspace, "law")

    def fill(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(os.urandom(3_000_000))
        (folder / "config.json").write_text("{}")

    publish(workspace.models, "law", fill, {"base": {"reference": "org/base"}, "run": "r"})
    with serving(workspace.root) as server:
        yield workspace, Client(str(server.client.base_url).removesuffix("/api/v1/"), _token(server.client.headers))


def _token(headers: object) -> str:
    return headers["Authorization"].removeprefix("Bearer ")  # type: ignore[index,no-any-return]


@pytest.fixture
def far(home: tuple[Workspace, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, Client]:
    monkeypatch.setenv("REWARM_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("REWARM_URL", home[1].url)
    monkeypatch.setenv("REWARM_TOKEN", home[1]._headers["Authorization"].removeprefix("Bearer "))
    monkeypatch.chdir(tmp_path)
    return home


def test_runs_are_listed_shown_and_read(far: tuple[Workspace, Client], rewarm: Rewarm) -> None:
    code, said = rewarm("runs", "ls", "--json")
    rows = json.loads(said)
    assert code == 0 and [row["state"] for row in rows] == ["stopped"] * 3
    assert "stopped" in rewarm("runs", "ls")[1]
    code, said = rewarm("runs", "show", "last")
    assert code == 0 and "train" in said and "2.5" in said
    assert json.loads(rewarm("runs", "show", "last", "--json")[1])["metrics"]["train/loss"] == 2.5
    lines = rewarm("runs", "logs", "last", "--json")[1].splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    code, said = rewarm("runs", "logs", "-f", "last")
    assert code == 130 and "go on with: rewarm resume" in said


def test_a_name_means_the_same_as_on_the_workspace(far: tuple[Workspace, Client], rewarm: Rewarm) -> None:
    newest = json.loads(rewarm("runs", "ls", "--json")[1])[0]["id"]
    for name in (newest, "law", "last", newest[:-2]):
        assert rewarm("runs", "show", name)[1].startswith(newest), name
    code, said = rewarm("runs", "show", "20")
    assert code == 2 and "fits 3 runs" in said
    code, said = rewarm("runs", "show", "physics")
    assert code == 2 and "no run is called" in said


def test_a_report_as_a_table_and_as_json(far: tuple[Workspace, Client], rewarm: Rewarm) -> None:
    with_one = next(run.parent.parent.name for run in far[0].runs.glob("*/report/report.json"))
    code, said = rewarm("report", with_one)
    assert code == 0 and "before and after" in said
    assert json.loads(rewarm("report", with_one, "--json")[1])["rows"] == []


def test_a_model_is_downloaded_and_goes_on_where_it_broke_off(
    far: tuple[Workspace, Client], rewarm: Rewarm, tmp_path: Path
) -> None:
    assert "law@1" in rewarm("models", "ls")[1]
    assert "org/base" in rewarm("models", "show", "law@1")[1]
    assert rewarm("models", "alias", "law@1", "production")[0] == 0
    assert "law@1 (production)" in rewarm("models", "show", "law@production")[1]
    assert "law@1" in rewarm("models", "lineage", "law@production")[1]
    code, said = rewarm("models", "gate", "law", "production", "--forgetting", "1")
    assert code == 2 and "administrator" in said
    assert rewarm("models", "alias", "law@1", "production", "--remove")[0] == 0
    whole = (far[0].models / "law/1/model.safetensors").read_bytes()
    (tmp_path / "to").mkdir()
    (tmp_path / "to/model.safetensors.part").write_bytes(whole[:1_000_000])
    code, said = rewarm("models", "download", "law@1", "--to", "to", "--include", "*.safetensors")
    assert code == 0 and "each matches its SHA-256" in said
    assert (tmp_path / "to/model.safetensors").read_bytes() == whole


def test_texts_go_up_and_a_broken_upload_goes_on(far: tuple[Workspace, Client], rewarm: Rewarm, tmp_path: Path) -> None:
    data = b"".join(
        json.dumps({"text": f"Article {i}. The law of the land, number {i}."}).encode() + b"\n" for i in range(50_000)
    )
    (tmp_path / "law.jsonl").write_bytes(data)
    begun = far[1].post("/uploads", {"text": "law", "file": "law.jsonl", "bytes": len(data)})
    far[1].send(f"/uploads/{begun['id']}", data[:1_000_000], offset=0)
    code, said = rewarm("data", "upload", "law.jsonl", "--text", "law")
    assert code == 0 and "path: uploads/law" in said
    assert (far[0].root / "uploads/law/law.jsonl").read_bytes() == data
    assert far[1].get("/uploads") == []
    assert "uploads/law" in rewarm("data", "ls")[1]


def test_a_recipe_is_judged_there(far: tuple[Workspace, Client], rewarm: Rewarm, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace("data:", "dta:"))
    code, said = rewarm("check", "r.yaml")
    assert code == 2 and "dta" in said and "did you mean" in said
    code, said = rewarm("run", "r.yaml")
    assert code == 2 and "dta" in said


def test_connections(far: tuple[Workspace, Client], rewarm: Rewarm, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("a-very-secret-key\n"))
    code, said = rewarm("connections", "add", "s3", "lake", "--access-key", "me", "--secret-stdin")
    assert code == 0, said
    code, said = rewarm("connections", "ls")
    assert code == 0 and "lake" in said and "very-secret" not in said
    monkeypatch.setattr("sys.stdin", io.StringIO("another-secret\n"))
    code, said = rewarm("connections", "add", "s3", "lake", "--access-key", "you", "--secret-stdin")
    assert code == 0 and "another secret now" in said
    kept = load_connection(far[0], "lake")
    assert isinstance(kept, S3Connection)
    assert (kept.access_key, kept.secret_key.get_secret_value()) == ("you", "another-secret")
    assert rewarm("connections", "rm", "lake")[0] == 0
    assert rewarm("connections", "rm", "lake")[0] == 2


def test_what_is_deleted_asks_first(far: tuple[Workspace, Client], rewarm: Rewarm) -> None:
    code, said = rewarm("runs", "rm", "gone")
    assert code == 2 and "--yes" in said
    assert rewarm("runs", "rm", "gone", "--yes")[0] == 0
    assert not list(far[0].runs.glob("*-gone-*"))


def test_what_may_go_by_rule_is_shown_and_goes_for_an_administrator(
    far: tuple[Workspace, Client], rewarm: Rewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (far[0].root / "cache" / "blocks").mkdir(parents=True)
    (far[0].root / "cache" / "blocks" / "a").write_bytes(bytes(1000))
    os.utime(far[0].root / "cache" / "blocks" / "a", (0, 0))
    code, said = rewarm("clean")
    assert code == 2 and "no terminal to ask on" in said
    code, said = rewarm("clean", "--json", "--keep", "1")
    assert code == 0 and not json.loads(said)["deleted"]
    code, said = rewarm("clean", "--yes")
    assert code == 2 and "administrator" in said


def test_errors_say_what_and_what_to_do(
    far: tuple[Workspace, Client], rewarm: Rewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        far[1].get("/runs/none")
    with pytest.raises(Conflict):
        far[1].post("/uploads", {"text": "law", "file": "law.jsonl", "bytes": 3})
    with pytest.raises(Forbidden):
        far[1].get("/users")
    with pytest.raises(ResourceError, match="no answer"):
        Client(f"http://127.0.0.1:{free_port()}", "x").get("/runs")
    with pytest.raises(UserError, match="address of a Studio"):
        Client("ftp://x", "x")
    code, said = rewarm("data", "build", "r.yaml")
    assert code == 2 and "unset REWARM_URL" in said
    monkeypatch.setenv("REWARM_TOKEN", "wrong")
    code, said = rewarm("runs", "ls")
    assert code == 2 and "REWARM_TOKEN" in said
    monkeypatch.delenv("REWARM_TOKEN")
    code, said = rewarm("runs", "ls")
    assert code == 2 and "set it" in said
    assert rewarm("runs", "ls", "--help")[0] == 0


def test_every_command_answers_or_says_that_it_is_local() -> None:
    commands = {name for name, _ in _leaves(typer.main.get_command(app), ())}
    assert set(_VERBS) <= commands
    local = {name for name in commands - set(_VERBS) if name[0] not in _LOCAL}
    data = {("data", "build"), ("data", "cloze"), ("data", "preview"), ("data", "thresholds")}
    assert local == {("models", "seen"), ("recommend",), *data}
