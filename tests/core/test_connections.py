"""What is kept of a connection opens with the workspace's key alone, and shows its secret to nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from rewarm.core.connections import (
    Connection,
    HubConnection,
    S3Connection,
    WebConnection,
    connection_names,
    hub_connection,
    load_connection,
    remove_connection,
    save_connection,
)
from rewarm.core.errors import UserError
from rewarm.core.workspace import Workspace

SECRET = "canary/+secret=0123456789ộ"
ALL: dict[str, Connection] = {
    "store-1": S3Connection.model_validate(
        {"endpoint": "https://b.s3.example.com/", "access_key": "AKIA", "secret_key": SECRET}
    ),
    "huggingface": HubConnection.model_validate({"token": SECRET}),
    "Web": WebConnection.model_validate({"endpoint": "http://127.0.0.1:8000", "token": SECRET}),
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path / "home")
    for name, connection in ALL.items():
        save_connection(found, name, connection)
    return found


def test_what_was_saved_is_loaded(workspace: Workspace) -> None:
    assert connection_names(workspace) == ["Web", "huggingface", "store-1"]
    assert {name: load_connection(workspace, name) for name in ALL} == ALL
    assert hub_connection(workspace) == ALL["huggingface"]
    remove_connection(workspace, "huggingface")
    assert hub_connection(workspace) is None
    assert connection_names(workspace) == ["Web", "store-1"]


def test_the_secret_is_nowhere_to_be_seen(workspace: Workspace) -> None:
    assert workspace.secret_key.stat().st_mode & 0o777 == 0o600
    texts = [path.read_text() for path in workspace.root.rglob("*") if path.is_file()]
    texts += [f"{connection!r} {connection} {connection.model_dump()}" for connection in ALL.values()]
    assert not any("canary" in text for text in texts)


def test_two_processes_agree_on_the_key(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom rewarm.core.connections import *\nfrom rewarm.core.workspace import Workspace\n"
        "from pathlib import Path\nws = Workspace(Path(sys.argv[1]))\n"
        "save_connection(ws, sys.argv[2], HubConnection.model_validate({'token': 't'}))"
    )
    home = str(tmp_path / "home")
    running = [subprocess.Popen([sys.executable, "-c", code, home, f"hub-{n}"]) for n in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert [load_connection(Workspace(Path(home)), f"hub-{n}").kind for n in range(4)] == ["hf"] * 4
    assert not list((tmp_path / "home").glob(".tmp-*"))


@pytest.mark.parametrize("name", ["ab", "a" * 65, "a_b", "../x", "a.b", "a/b", "", "ộng"])
def test_names_that_break_the_rule(workspace: Workspace, name: str) -> None:
    with pytest.raises(UserError, match="3 to 64"):
        save_connection(workspace, name, ALL["Web"])
    with pytest.raises(UserError, match="no connection"):
        load_connection(workspace, name)


def test_a_name_is_given_once(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="of that name"):
        save_connection(workspace, "Web", ALL["Web"])
    with pytest.raises(UserError, match="kind http"):
        hub_connection(workspace, "Web")


@pytest.mark.parametrize(
    "endpoint",
    ["s3.example.com", "ftp://x", "https://", "https://me:canary@example.com", "https://x/?a=b", "file:///etc/passwd"],
)
def test_addresses_that_are_none(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        S3Connection.model_validate({"endpoint": endpoint, "access_key": "a", "secret_key": "b"})


def test_damage_is_said_with_what_to_do(workspace: Workspace) -> None:
    key, path = workspace.secret_key, workspace.connections / "store-1.json"
    good, whole = key.read_bytes(), path.read_bytes()
    key.chmod(0o644)
    with pytest.raises(UserError, match="others may read the key"):
        load_connection(workspace, "store-1")
    key.chmod(0o600)
    for content in (whole.replace(b"gAAA", b"gAAB"), whole[:40], b"[]", b"{}", whole.replace(b"us-east-1", b"US!")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged|not encrypted") as caught:
            load_connection(workspace, "store-1")
        assert "canary" not in str(caught.value) and "rewarm connections rm" in str(caught.value)
    path.write_bytes(whole)
    key.write_bytes(b"not a key")
    with pytest.raises(UserError, match="not a key"):
        load_connection(workspace, "store-1")
    key.unlink()
    with pytest.raises(UserError, match="not encrypted with"):  # another key was made
        load_connection(workspace, "store-1")
    key.write_bytes(good)
    assert load_connection(workspace, "store-1") == ALL["store-1"]
