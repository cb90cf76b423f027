"""The commands about connections: add, ls, test, browse, preview, rm.

A secret is typed without an echo or comes on standard input; it is never the value of an option,
where the list of processes and the shell's history would show it.
"""

from __future__ import annotations

import itertools
import sys
import time
from enum import StrEnum
from typing import Annotated

import typer

from rewarm.cli.show import print_json, print_table, say
from rewarm.cli.start import AsJson
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
        str | None, typer.Argument(metavar="[NAME]", help="3 to 64 letters, digits, hyphens; hf: huggingface.")
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
    """Keep a server's address and secret, encrypted, in the workspace. The secret is asked for."""
    from pydantic import ValidationError

    from rewarm.core.connections import HUB, HubConnection, S3Connection, WebConnection, save_connection

    if name is None and kind is not Kind.hf:
        raise UserError("a connection needs a name", remedy=f"rewarm connections add {kind.value} NAME")
    if kind is not Kind.s3 and (region or access_key):
        raise UserError("--region and --access-key belong to kind s3", remedy="leave them out")
    values: dict[str, object] = {"endpoint": endpoint, "region": region} if kind is Kind.s3 else {"endpoint": endpoint}
    values = {key: value for key, value in values.items() if value is not None}
    if kind is Kind.s3:
        values["access_key"] = access_key or typer.prompt("access key")
    values["secret_key" if kind is Kind.s3 else "token"] = _secret(kind, secret_stdin)
    model: type[S3Connection] | type[HubConnection] | type[WebConnection] = S3Connection
    if kind is not Kind.s3:
        model = HubConnection if kind is Kind.hf else WebConnection
    try:
        made = model.model_validate(values)
    except ValidationError as error:  # what was given is not repeated: it may hold a secret in the wrong place
        wrong = [f"{found['loc'][0]}: {found['msg'].removeprefix('Value error, ')}" for found in error.errors()]
        raise UserError("\n".join(wrong), remedy=f"rewarm connections add {kind.value} --help") from None
    save_connection(Workspace.default(), name or HUB, made)
    say(f"connection {name or HUB} added; try it with: rewarm connections test {name or HUB}")


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
    if as_json:
        print_json(rows)
    elif rows:
        cells = [(r["connection"], r["kind"] or "", r["endpoint"] or r["problem"] or "the usual one") for r in rows]
        print_table("", ("connection", "kind", "address"), cells)
    else:
        say("no connections yet; make one with: rewarm connections add s3 NAME")


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

    known = load_connection(Workspace.default(), name)
    if place is None and known.kind != "s3":
        raise UserError("say what to look at", remedy=f"rewarm connections test {name} URI")
    place = _soon(name, place or "s3://")
    began = time.monotonic()
    count = len(list_entries(place, name))
    seconds = time.monotonic() - began
    if as_json:
        print_json({"connection": name, "entries": count, "seconds": seconds})
    else:
        say(f"{name} works: {count} entries in {seconds:.2f} s")


@app.command("browse")
def browse(name: Name, place: Place = "s3://", as_json: AsJson = False) -> None:
    """Show what lies in a folder: its files with their sizes, and its folders."""
    from rewarm.data.remote import browse as list_entries

    found = list_entries(_soon(name, place), name)
    if as_json:
        print_json([{"uri": uri, "bytes": known and known.size} for uri, known in found])
        return
    rows = [(_line(uri), size(known.size) if known else "") for uri, known in found]
    if rows:
        print_table("", ("uri", "size"), rows, right=(1,))
    else:
        say("there is nothing")


@app.command("preview")
def preview(
    name: Name,
    place: Place,
    documents: Annotated[int, typer.Option(min=1, help="Documents to show.")] = 3,
    text_column: Annotated[str | None, typer.Option(help="The field that holds the text.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the first documents of a file, or of the first file that a folder or pattern names."""
    from rewarm.data.documents import Document, read_documents
    from rewarm.data.files import File, list_files

    listing = list_files([_soon(name, place)], connection=name)
    if not listing.files:
        remedy = "name a file, or see what is there with: rewarm connections browse"
        raise UserError(f"no file there promises documents ({len(listing.ignored)} do not)", where=place, remedy=remedy)
    uri = listing.files[0]
    items = read_documents(File(uri, listing.signatures[uri], name), text_column=text_column)
    shown = [
        {"text": item.text[:2000], "url": item.url} if isinstance(item, Document) else {"rejected": item.reason}
        for item in itertools.islice(items, documents)
    ]
    if as_json:
        print_json({"file": uri, "documents": shown})
        return
    say(f"{_line(uri)}")
    for item in shown:
        say(f"\n--- {item.get('url') or item.get('rejected') or ''}\n{item.get('text', '')[:400]}")


@app.command("rm")
def rm(name: Name) -> None:
    """Forget a connection and its secret."""
    from rewarm.core.connections import remove_connection

    remove_connection(Workspace.default(), name)
    say(f"connection {name} removed")


def _soon(name: str, uri: str) -> str:
    """The address; its server is asked three times and not for a minute and a half, because somebody waits."""
    from rewarm.data.remote import place_of

    place_of(uri, name).patience = 3
    return uri


def _line(uri: str) -> str:
    """A name as one line of the terminal: a key may hold anything."""
    return uri if uri.isprintable() else repr(uri)
