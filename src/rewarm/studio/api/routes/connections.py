"""Connections, what lies behind them, and which hosts the Studio may connect to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rewarm.core.connections import Connection
from rewarm.studio.api.access import Administrator, Editor, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import connections as verbs
from rewarm.studio.service.connections import ConnectionInfo, NetworkRules, Page, Preview, Tested

router = routes("/connections", "connections")
network = routes("/network", "settings")

Uri = Annotated[str, Query(max_length=4096, examples=["s3://corpora/law/"])]
Documents = Annotated[int, Query(ge=1, le=20)]
Column = Annotated[str | None, Query(max_length=200, description="the field that holds the text")]


class NewConnection(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="3 to 64 letters, digits and hyphens", examples=["lake"])
    connection: Connection


class Secret(BaseModel):
    model_config = ConfigDict(extra="forbid")
    secret: SecretStr = Field(min_length=1, max_length=4096, description="the secret key or token")
    access_key: str | None = Field(None, min_length=1, max_length=256, description="of kind s3, where it changes too")


@router.get("")
def list_connections(studio: TheStudio, user: Viewer) -> list[ConnectionInfo]:
    """All connections, without their secrets."""
    return verbs.listed(studio, user)


@router.post("", status_code=201, responses=documented(409))
def add(studio: TheStudio, user: Editor, body: NewConnection) -> ConnectionInfo:
    """Keep a server's address and its secret, which is encrypted and never shown again."""
    return verbs.add(studio, user, body.name, body.connection)


@router.put("/{connection}/secret", status_code=204, responses=documented(404))
def replace_secret(connection: str, studio: TheStudio, user: Editor, body: Secret) -> Response:
    """Give it another secret."""
    verbs.replace_secret(studio, user, connection, body.secret, body.access_key)
    return Response(status_code=204)


@router.delete("/{connection}", status_code=204, responses=documented(404, 409))
def delete(connection: str, studio: TheStudio, user: Editor) -> Response:
    """Forget a connection; not while a pipeline or a live run names it."""
    verbs.delete(studio, user, connection)
    return Response(status_code=204)


@router.post("/{connection}/test", responses=documented(404))
def test(connection: str, studio: TheStudio, user: Editor, uri: Uri | None = None) -> Tested:
    """Ask the server for a listing, and say what it answers."""
    return verbs.test(studio, user, connection, uri)


@router.get("/{connection}/entries", responses=documented(404))
def browse(
    connection: str,
    studio: TheStudio,
    user: Editor,
    uri: Uri = "s3://",
    after: Annotated[str | None, Query(max_length=4096)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page:
    """What lies in a folder directly."""
    return verbs.browse(studio, user, connection, uri, after, limit)


@router.get("/{connection}/preview", responses=documented(404))
def preview(
    connection: str, studio: TheStudio, user: Editor, uri: Uri, documents: Documents = 3, text_column: Column = None
) -> Preview:
    """The first documents of a file, or of the first one in a folder."""
    return verbs.preview(studio, user, connection, uri, documents, text_column)


@network.get("")
def network_rules(studio: TheStudio, user: Administrator) -> NetworkRules:
    """What the Studio may connect to beyond public hosts at the usual ports."""
    return verbs.network_rules(studio, user)


@network.put("")
def set_network_rules(studio: TheStudio, user: Administrator, body: NetworkRules) -> NetworkRules:
    """Allow these hosts and networks, each at a port or at the usual ones."""
    return verbs.set_network_rules(studio, user, body)
