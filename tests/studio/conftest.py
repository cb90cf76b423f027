"""A Studio in a folder of its own, and clients that may do what a role may."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from rewarm.core.workspace import Workspace
from rewarm.studio.api.app import build_app
from rewarm.studio.context import OWNER, Role, Studio, User, open_studio
from rewarm.studio.service import accounts
from rewarm.studio.store.accounts import user_named
from tests.studio.postgres import database, postgres, postgres_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

__all__ = ["database", "postgres", "postgres_server"]  # fixtures
HOME = "http://127.0.0.1:8765"
Client = Callable[[Role | str | None], TestClient]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """An open Studio on SQLite, without a server."""
    found = open_studio(Workspace(tmp_path / "home"))
    yield found
    found.database.close()


@pytest.fixture
def app(studio: Studio) -> FastAPI:
    """The application over ``studio``, whose loops do not go by themselves."""
    return build_app(studio)


def user_with(studio: Studio, role: Role | str) -> User:
    """A user with this role and its name."""
    role = Role(role)
    with studio.database.read() as session:
        row = user_named(session, role)
    if row is None:
        accounts.add_user(studio, OWNER, role, role)
        return user_with(studio, role)
    return User(row.id, row.name, role)


def token_of(studio: Studio, role: Role | str) -> str:
    """A token of ``user_with(studio, role)``."""
    return accounts.add_token(studio, user_with(studio, role), "test", Role(role)).token


@pytest.fixture
def cookie(studio: Studio) -> str:
    """The secret of an administrator's session."""
    link = accounts.new_link(studio, OWNER, user_with(studio, "administrator").name)
    return accounts.sign_in_by_link(studio, link.url.partition("#key=")[2])[1]


@pytest.fixture
def client(studio: Studio, app: FastAPI) -> Client:
    """``client(role)`` asks the application with a token of that role; ``client(None)`` without one."""

    def build(role: Role | str | None) -> TestClient:
        headers = {} if role is None else {"Authorization": f"Bearer {token_of(studio, role)}"}
        return TestClient(app, base_url=HOME, headers=headers, follow_redirects=False)

    return build
