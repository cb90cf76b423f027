"""A workspace that cannot be is refused before anything is looked for in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewarm.core.errors import UserError
from rewarm.core.workspace import Workspace


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARM_HOME", str(tmp_path / "new" / "home"))
    assert Workspace.default().root == tmp_path / "new" / "home"


@pytest.mark.parametrize("home", ["~nosuchuser/x", "{}/file", "{}/file/below", "/dev/null", "/dev/null/x", "{}/loop"])
def test_where_none_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("REWARM_HOME", home.format(tmp_path))
    with pytest.raises(UserError) as caught:
        Workspace.default()
    assert caught.value.exit_code == 2
    assert caught.value.remedy
