"""Connections: the servers that texts come from. Their secrets go in and never come out.

A secret can be replaced, the address cannot: whoever may change it could have the secret sent to a server of his own.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, Field, SecretStr

from rewarm.core import connections as core
from rewarm.core import network
from rewarm.core.errors import NotFound, UserError
from rewarm.data import remote
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service.engine import ask
from rewarm.studio.service.uses import users
from rewarm.studio.store.audit import note


class ConnectionInfo(BaseModel):
    """A connection, without its secret."""

    name: str = Field(examples=["lake"])
    kind: str | None = Field(description="s3, hf or http; null where it cannot be read", examples=["s3"])
    endpoint: str | None = Field(description="the usual one where unset", examples=["https://s3.example.com"])
    region: str | None = Field(None, description="of kind s3", examples=["us-east-1"])
    problem: str | None = Field(None, description="why it cannot be used")


class Tested(BaseModel):
    """What a server answered."""

    entries: int = Field(description="of the listing's first page", examples=[12])
    seconds: float = Field(examples=[0.08])


class EntryInfo(BaseModel):
    """A file or a folder on a server."""

    uri: str = Field(examples=["s3://corpora/law/2025.jsonl.gz"])
    name: str = Field(examples=["2025.jsonl.gz"])
    bytes: int | None = Field(description="null for a folder", examples=[104857600])


class Page(BaseModel):
    """Part of what lies in a folder."""

    entries: list[EntryInfo]
    after: str | None = Field(description="ask for what follows with after=...; null at the end")


class Preview(BaseModel):
    """The first documents of a file."""

    file: str = Field(examples=["s3://corpora/law/2025.jsonl.gz"])
    documents: list[dict[str, Any]] = Field(examples=[[{"text": "Article 1 ...", "url": ""}, {"rejected": "no text"}]])


class NetworkRules(BaseModel):
    """What the Studio may connect to beyond public hosts at the usual ports."""

    allow: list[str] = Field(
        max_length=network.MOST_RULES, examples=[["minio.example:9000", "10.1.0.0/16", "[fd00::/8]:9000"]]
    )


def listed(studio: Studio, user: User) -> list[ConnectionInfo]:
    """All connections, sorted by name."""
    return [_info(studio, name) for name in core.connection_names(studio.workspace)]


def _info(studio: Studio, name: str) -> ConnectionInfo:
    try:
        found = core.load_connection(studio.workspace, name)
    except NotFound:
        raise
    except UserError as error:
        return ConnectionInfo(name=name, kind=None, endpoint=None, problem=error.what)
    region = getattr(found, "region", None)
    return ConnectionInfo(name=name, kind=found.kind, endpoint=found.endpoint, region=region)


def add(studio: Studio, user: User, name: str, connection: core.Connection) -> ConnectionInfo:
    """Keep a new connection. Raises ``Conflict`` where there is one of that name."""
    user.check(Role.editor)
    core.save_connection(studio.workspace, name, connection)
    _noted(studio, user, "add", name, kind=connection.kind, endpoint=connection.endpoint)
    return _info(studio, name)


def replace_secret(studio: Studio, user: User, name: str, secret: SecretStr, access_key: str | None) -> None:
    """Give the connection another secret."""
    user.check(Role.editor)
    core.replace_secret(studio.workspace, name, secret, access_key)
    _noted(studio, user, "replace secret", name)


def delete(studio: Studio, user: User, name: str) -> None:
    """Forget a connection and its secret. Raises ``Conflict`` while a pipeline or a live run names it."""
    user.check(Role.editor)
    if name not in core.connection_names(studio.workspace):
        raise NotFound(f"there is no connection {name[:100]!r}")
    found = users(studio, name, lambda recipe: any(text.connection == name for text in recipe.texts))
    found.refuse("connection", found.runs)
    core.remove_connection(studio.workspace, name)
    _noted(studio, user, "delete", name)


def test(studio: Studio, user: User, name: str, uri: str | None = None) -> Tested:
    """Ask the server for a listing. Raises ``UserError`` with what is wrong."""
    user.check(Role.editor)
    kind = core.load_connection(studio.workspace, name).kind
    if uri is None and kind != "s3":
        raise UserError("say what to look at", where="uri", remedy="uri=hf://datasets/OWNER/NAME, or a file's address")
    began = time.monotonic()
    entries, _ = remote.page(remote.hurry(uri or "s3://", name), name, None, 100)
    return Tested(entries=len(entries), seconds=time.monotonic() - began)


def browse(
    studio: Studio, user: User, name: str, uri: str = "s3://", after: str | None = None, limit: int = 100
) -> Page:
    """What lies in a folder directly."""
    user.check(Role.editor)
    core.load_connection(studio.workspace, name)
    entries, following = remote.page(remote.hurry(uri, name), name, after, limit)
    return Page(
        entries=[
            EntryInfo(
                uri=e.uri, name=e.uri.rstrip("/").rpartition("/")[2], bytes=e.signature.size if e.signature else None
            )
            for e in entries
        ],
        after=following,
    )


def preview(
    studio: Studio, user: User, name: str, uri: str, documents: int = 3, text_column: str | None = None
) -> Preview:
    """The first documents of a file, or of the first file in a folder; a process of its own reads it."""
    user.check(Role.editor)
    core.load_connection(studio.workspace, name)
    remote.place_of(uri, name)  # an address, and no option of the command
    column = [f"--text-column={text_column}"] if text_column else []
    found = ask(studio.workspace, ["connections", "preview", f"--documents={documents}", *column, "--", name, uri])
    return Preview.model_validate(found)


def network_rules(studio: Studio, user: User) -> NetworkRules:
    """What an administrator allows the Studio to connect to."""
    user.check(Role.administrator)
    return NetworkRules(allow=network.allowed(studio.workspace))


def set_network_rules(studio: Studio, user: User, rules: NetworkRules) -> NetworkRules:
    """Allow these hosts and networks, and no others but public ones."""
    user.check(Role.administrator)
    kept = network.allow(studio.workspace, rules.allow)
    with studio.database.write() as session:
        note(session, time.time(), user.name, "set", "settings/network", {"allow": kept})
    return NetworkRules(allow=kept)


def _noted(studio: Studio, user: User, action: str, name: str, **detail: Any) -> None:
    with studio.database.write() as session:
        note(session, time.time(), user.name, action, f"connection/{name}", detail)
