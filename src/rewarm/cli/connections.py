"""The commands about connections: add, ls, test, browse, preview, rm.

A secret is typed without an echo or comes on standard input; it is never the value of an option,
where the list of processes and the shell's history would show it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from rewarm.cli.options import AsJson, Documents, TextColumn
from rewarm.cli.show import answer, one_line, print_list, say
from rewarm.core.amounts import size
from rewarm.core.errors import UserError
from rewarm.core.workspace import Workspace

app = typer.Typer(help="Servers that texts and models come from: S3, Hugging Face, the web.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The connection.")]
Place = Annotated[
    str, typer.Argument(metavar="URI", help="s3://bucket/folder, hf://datasets/owner/name or https://...")
]


class Kind(StrEnum):
    s3 = "s3"
    hf = "hf"
    http = "http"


@app.command("add")
def add(
    kind: Annotated[
        Kind, typer.Argument(metavar="KIND", help="s3: object storage; hf: a Hugging Face hub; http: a web server.")
    ],
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="3 to 64 letters, digits, hyphens; huggingface for hf."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="Address of the server; for s3 also that of one bucket: https://BUCKET.s3.example.com"),
    ] = None,
    region: Annotated[str | None, typer.Option(help="The region of an s3 server; us-east-1 when not given.")] = None,
    access_key: Annotated[str | None, typer.Option(help="The name of the s3 key; asked for when not given.")] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the secret key or token from standard input.")
    ] = False,
) -> None:
    """Keep a server's address and secret, encrypted, in the workspace; or give one that is there another secret.

    The secret is asked for. Runs that wait because the old one is refused go on with the new one.
    """
    from pydantic import SecretStr, TypeAdapter, ValidationError

    from rewarm.core.connections import Connection, connection_names, load_connection, replace_secret, save_connection

    workspace = Workspace.default()
    name, values = described(kind, name, endpoint, region, access_key, secret_stdin)
    known = load_connection(workspace, name).model_dump() if name in connection_names(workspace) else None
    if known and (new := another_secret(known, values)):
        replace_secret(workspace, name, SecretStr(new["secret"]), new["access_key"])
        say(f"connection {name} has another secret now; try it with: rewarm connections test {name}")
        return
    try:
        made = TypeAdapter[Any](Connection).validate_python(values)
    except ValidationError as error:  # what was given is not repeated: it may hold a secret in the wrong place
        wrong = [f"{found['loc'][-1]}: {found['msg'].removeprefix('Value error, ')}" for found in error.errors()]
        raise UserError("\n".join(wrong), remedy=f"rewarm connections add {kind.value} --help") from None
    save_connection(workspace, name, made)
    say(f"connection {name} added; try it with: rewarm connections test {name}")


def described(
    kind: Kind, name: str | None, endpoint: str | None, region: str | None, access_key: str | None, secret_stdin: bool
) -> tuple[str, dict[str, str]]:
    """The name and the fields of a new connection; its secret is asked for."""
    from rewarm.core.connections import HUB

    if name is None and kind is not Kind.hf:
        raise UserError("a connection needs a name", remedy=f"rewarm connections add {kind.value} NAME")
    if kind is not Kind.s3 and (region or access_key):
        raise UserError("--region and --access-key belong to kind s3", remedy="leave them out")
    given = {"kind": kind.value, "endpoint": endpoint, "region": region}
    values = {key: value for key, value in given.items() if value is not None}
    if kind is Kind.s3:
        values["access_key"] = access_key or typer.prompt("access key")
    values["secret_key" if kind is Kind.s3 else "token"] = _secret(kind, secret_stdin)
    return name or HUB, values


def another_secret(known: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any] | None:
    """What to change in a connection that is there; None where ``values`` lead elsewhere than it does."""
    if any(
        known.get(field) != values[field].rstrip("/") for field in ("kind", "endpoint", "region") if field in values
    ):
        return None
    return {"secret": values.get("secret_key") or values["token"], "access_key": values.get("access_key")}


def _secret(kind: Kind, from_input: bool) -> str:
    what = "secret key" if kind is Kind.s3 else "token"
    if not from_input and not sys.stdin.isatty():
        raise UserError(f"there is no terminal to ask for the {what} on", remedy="give it with --secret-stdin")
    secret = sys.stdin.readline() if from_input else typer.prompt(what, hide_input=True)
    if not secret.strip():
        raise UserError(f"the {what} is empty", remedy="give it as one line")
    return str(secret).strip()


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the connections, without their secrets."""
    from rewarm.core.connections import connection_names, load_connection

    workspace = Workspace.default()
    rows = []
    for name in connection_names(workspace):
        try:
            found = load_connection(workspace, name)
            rows.append({"connection": name, "kind": found.kind, "endpoint": found.endpoint, "problem": None})
        except UserError as error:
            rows.append({"connection": name, "kind": None, "endpoint": None, "problem": error.what})
    print_list(
        rows,
        as_json,
        ("connection", "kind", "address"),
        lambda r: (r["connection"], r["kind"] or "", r["endpoint"] or r["problem"] or "the usual one"),
        "no connections yet; make one with: rewarm connections add s3 NAME",
    )


@app.command("test")
def test(
    name: Name,
    place: Annotated[
        str | None, typer.Argument(metavar="[URI]", help="What to look at; s3: all buckets when not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the server for a listing, and say what it answers."""
    from rewarm.core.connections import load_connection
    from rewarm.data.remote import browse as list_entries
    from rewarm.data.remote import hurry

    known = load_connection(Workspace.default(), name)
    if place is None and known.kind != "s3":
        raise UserError("say what to look at", remedy=f"rewarm connections test {name} URI")
    place = hurry(place or "s3://", name)
    began = time.monotonic()
    count = len(list_entries(place, name))
    seconds = time.monotonic() - began
    found = {"connection": name, "entries": count, "seconds": seconds}
    answer(found, f"{name} works: {count} entries in {seconds:.2f} s", as_json)


@app.command("browse")
def browse(name: Name, place: Place = "s3://", as_json: AsJson = False) -> None:
    """Show what lies in a folder: its files with their sizes, and its folders."""
    from rewarm.data.remote import browse as list_entries
    from rewarm.data.remote import hurry

    rows = [{"uri": uri, "bytes": known and known.size} for uri, known in list_entries(hurry(place, name), name)]

    def cells(row: dict[str, Any]) -> tuple[str, str]:
        return one_line(row["uri"]), "" if row["bytes"] is None else size(row["bytes"])

    print_list(rows, as_json, ("uri", "size"), cells, "there is nothing", right=(1,))


@app.command("preview")
def preview(
    name: Name,
    place: Place,
    documents: Documents = 3,
    text_column: TextColumn = None,
    as_json: AsJson = False,
) -> None:
    """Show the first documents of a file, or of the first file that a folder or pattern names."""
    from rewarm.cli.data import print_preview
    from rewarm.data.preview import preview as read_first
    from rewarm.data.remote import place_of

    place_of(place, name)  # an address, and no file of this machine
    print_preview(read_first([place], name, documents=documents, text_column=text_column), as_json)


@app.command("rm")
def rm(name: Name) -> None:
    """Forget a connection and its secret."""
    from rewarm.core.connections import remove_connection

    remove_connection(Workspace.default(), name)
    say(f"connection {name} removed")
