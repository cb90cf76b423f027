"""Connections: the servers that texts and models come from, and the secrets that open them.

Each is a file of the workspace, ``connections/NAME.json``, its secrets encrypted with the key in
``secret.key``. Whoever needs one reads it there: a secret is never part of a command line, an
environment, a recipe, a message or a log.
"""

from __future__ import annotations

import contextlib
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, Field, SecretStr, TypeAdapter, ValidationError

from rewarm.core.config import Frozen
from rewarm.core.errors import Conflict, NotFound, UserError
from rewarm.core.manifest import to_json
from rewarm.core.storage import create_file, write_file
from rewarm.core.workspace import Workspace

HUB = "huggingface"
"""The name of the connection that hub ids and hf:// use when none is named."""
_SECRETS = "secrets"
_IN_ADDRESS = re.compile(
    r"(?i)\s*[a-z][a-z0-9+.-]+://([^/]*@|[^#]*[?&]((x-amz-|x-goog-)?signature|sig|(access_)?token|api_?key|password)=)"
)
SCHEMES = ("s3://", "hf://", "http://", "https://")
_ALMOST = re.compile(r"(?i)\s*(?:[a-z][a-z0-9+.-]+:/|(?:s3|hf|https?)//)")


def check_uri(uri: str) -> None:
    """Raise ``UserError`` for an address of a kind that is not read, or misspelt, or with a secret in it.

    A secret there would be repeated by every recipe, message and manifest.
    """
    if _IN_ADDRESS.match(uri):
        raise UserError(
            "this address has a password or a signature in it, and would be shown wherever the text is named",
            where=re.sub(r"^[^/]*//([^/]*@)?", "", uri).partition("?")[0],
            remedy="give the address alone, and the secret to a connection: rewarm connections add",
        )
    if _ALMOST.match(uri) and not uri.startswith(SCHEMES):
        remedy = f"an address begins with {', '.join(SCHEMES)} as it stands here; all else is a local path"
        raise UserError("this is no address that can be read", where=uri, remedy=remedy)


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://s3.example.com")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a name or password")
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]


class S3Connection(Frozen):
    """An S3 server. The endpoint is the server's address, or one bucket's own (``https://BUCKET.s3.example.com``)."""

    kind: Literal["s3"] = "s3"
    endpoint: Address | None = Field(None, description="address of the server; Amazon's own when unset")
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,64}$", description="region, such as us-east-1")
    access_key: str = Field(min_length=1, description="name of the key")
    secret_key: SecretStr = Field(min_length=1, description="the key itself")


class HubConnection(Frozen):
    """A Hugging Face hub and a token for what is gated or private there."""

    kind: Literal["hf"] = "hf"
    endpoint: Address | None = Field(None, description="address of the hub; HF_ENDPOINT or huggingface.co when unset")
    token: SecretStr = Field(min_length=1, description="a token that may read")


class WebConnection(Frozen):
    """A web server that asks for a bearer token; no other server ever gets to see it."""

    kind: Literal["http"] = "http"
    endpoint: Address = Field(description="address of the server")
    token: SecretStr = Field(min_length=1, description="a bearer token")


Connection = Annotated[S3Connection | HubConnection | WebConnection, Field(discriminator="kind")]
_ANY: TypeAdapter[S3Connection | HubConnection | WebConnection] = TypeAdapter(Connection)


def connection_names(workspace: Workspace) -> list[str]:
    """The names of all connections, sorted."""
    return sorted(path.stem for path in workspace.connections.glob("*.json") if not path.name.startswith("."))


def save_connection(workspace: Workspace, name: str, connection: Connection) -> None:
    """Write a connection, its secrets encrypted.

    Raises:
        UserError: if the name breaks the rule, or there is a connection of that name (``Conflict``).
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{2,63}", name):
        what = "a connection's name has 3 to 64 letters, digits and hyphens, and does not begin with one of these"
        raise UserError(what, where=name[:100], remedy="name it so")
    path = workspace.connections / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        create_file(path, _encrypted(workspace, connection))
    except FileExistsError:
        remedy = f"rewarm connections rm {name}, or name its own address to give it another secret"
        raise Conflict("there is a connection of that name", where=name, remedy=remedy) from None


def replace_secret(workspace: Workspace, name: str, secret: SecretStr, access_key: str | None = None) -> None:
    """Give a connection another token, or another secret key (and access key); it leads where it led before.

    Raises:
        UserError: if there is none of that name, or the secret cannot be one.
    """
    known = load_connection(workspace, name)
    if access_key is not None and not isinstance(known, S3Connection):
        raise UserError("only connections of kind s3 have an access key", where=name, remedy="leave it out")
    field = "secret_key" if isinstance(known, S3Connection) else "token"
    values = {**known.model_dump(), field: secret, **({"access_key": access_key} if access_key else {})}
    try:
        changed = type(known).model_validate(values)
    except ValidationError:
        raise UserError("this cannot be a secret", where=name, remedy="give one that is not empty") from None
    write_file(workspace.connections / f"{name}.json", _encrypted(workspace, changed))


def _encrypted(workspace: Workspace, connection: Connection) -> bytes:
    values = connection.model_dump(exclude_none=True)
    secrets = {key: values.pop(key).get_secret_value() for key in list(values) if isinstance(values[key], SecretStr)}
    values[_SECRETS] = cipher(workspace).encrypt(orjson.dumps(secrets)).decode()
    return to_json(values)


def load_connection(workspace: Workspace, name: str) -> S3Connection | HubConnection | WebConnection:
    """The connection ``name``, its secrets decrypted (and shown as asterisks).

    Raises:
        UserError: if there is none, or its secrets cannot be decrypted.
    """
    if name not in connection_names(workspace):
        known = ", ".join(connection_names(workspace)) or "there is none yet"
        raise NotFound(f"there is no connection {name!r} (known: {known})", remedy="rewarm connections add")
    from cryptography.fernet import InvalidToken  # a tenth of a second, and few commands need it

    try:
        values = orjson.loads((workspace.connections / f"{name}.json").read_bytes())
        values |= orjson.loads(cipher(workspace).decrypt(values.pop(_SECRETS)))
        return _ANY.validate_json(orjson.dumps(values))
    except InvalidToken:
        what = f"its secrets were not encrypted with {workspace.secret_key}"
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError, AttributeError):
        what = "the file is damaged"
    raise UserError(
        what, where=f"connection {name}", remedy=f"rewarm connections rm {name}, then add it again"
    ) from None


def remove_connection(workspace: Workspace, name: str) -> None:
    """Delete a connection. Raises ``UserError`` if there is none."""
    if name not in connection_names(workspace):
        raise NotFound(f"there is no connection {name!r}", remedy="rewarm connections ls")
    (workspace.connections / f"{name}.json").unlink()


def hub_connection(workspace: Workspace, name: str | None = None) -> HubConnection | None:
    """The hub connection ``name``, or the one called ``huggingface``; None where neither is there.

    Raises:
        UserError: if ``name`` is not there or leads elsewhere.
    """
    if name is None and HUB not in connection_names(workspace):
        return None
    found = load_connection(workspace, name or HUB)
    if not isinstance(found, HubConnection):
        raise UserError(
            f"connection {name or HUB!r} is of kind {found.kind}; a hub needs one of kind hf",
            remedy="rewarm connections add hf",
        )
    return found


def cipher(workspace: Workspace):  # type: ignore[no-untyped-def]  # the type would cost the import below
    """What the workspace's key encrypts and decrypts with; the key is made when there is none."""
    from cryptography.fernet import Fernet

    path = workspace.secret_key
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was first: its key stays
            create_file(path, Fernet.generate_key(), 0o600)
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        raise UserError(f"others may read the key (mode {mode:o})", where=path, remedy=f"chmod 600 {path}")
    try:
        return Fernet(path.read_bytes().strip())
    except ValueError:
        raise UserError("this is not a key", where=path, remedy="restore it; without it no secret opens") from None
