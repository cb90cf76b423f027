"""Accounts, settings and the audit on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewarm.core.errors import Conflict, NotFound
from rewarm.core.workspace import Workspace
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import accounts
from rewarm.studio.service.audit import list_audit
from rewarm.studio.service.settings import Folders, put_setting, read_setting
from rewarm.studio.store.database import Database


def test_a_user_comes_and_goes(database: Database, tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path), database)
    link = accounts.first_link(studio)
    assert link is not None and accounts.first_administrator(studio) == "admin"
    chief, secret = accounts.sign_in_by_link(studio, link.url.partition("#key=")[2], "correct horse battery")
    with pytest.raises(accounts.NotSignedIn):
        accounts.sign_in_by_link(studio, link.url.partition("#key=")[2])
    assert accounts.by_session(studio, secret) == chief and accounts.is_protected(studio)
    assert accounts.sign_in(studio, "admin", "correct horse battery", "")[0] == chief
    accounts.add_user(studio, chief, "ana", Role.editor)
    with pytest.raises(Conflict):
        accounts.add_user(studio, chief, "ana", Role.viewer)
    token = accounts.add_token(studio, chief, "t", Role.viewer, days=1)
    found = accounts.by_token(studio, token.token)
    assert found is not None and (found.name, found.role) == ("admin", Role.viewer)
    assert accounts.list_tokens(studio, chief)[0].used is not None
    accounts.remove_token(studio, chief, token.id)
    with pytest.raises(NotFound):
        accounts.remove_token(studio, chief, token.id)
    with pytest.raises(Conflict):
        accounts.change_user(studio, chief, "admin", disabled=True)
    accounts.sign_out(studio, chief, secret)
    assert accounts.by_session(studio, secret) is None
    for folders in (["/a"], ["/b"]):
        put_setting(studio, OWNER, "folders", {"readable": folders})
    assert read_setting(studio, Folders).readable == ["/b"]
    assert [entry.action for entry in list_audit(studio, OWNER, object="setting/folders")] == ["change", "change"]
    assert [entry.action for entry in list_audit(studio, OWNER, object="token")] == ["remove", "add"]
    assert [entry.object for entry in list_audit(studio, OWNER, by="admin", action="add")][-1] == "user/ana"
