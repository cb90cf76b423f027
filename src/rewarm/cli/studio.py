"""``rewarm studio``: the server for a team, and what only the terminal beside it may do with accounts."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import webbrowser
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from rewarm.cli.show import say
from rewarm.core.errors import UserError
from rewarm.core.workspace import Workspace

if TYPE_CHECKING:
    from rewarm.studio.context import Studio
    from rewarm.studio.service.accounts import Link

app = typer.Typer(
    help="The Studio: the workspace for a team, over HTTP, with accounts, a queue and a record of who did what.",
    invoke_without_command=True,
)
Url = Annotated[str | None, typer.Option(metavar="URL", help="Where users reach it; links begin with it.")]


@app.callback()
def studio(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's own need a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")] = 8765,
    database_url: Annotated[
        str | None,
        typer.Option(envvar="REWARM_DATABASE_URL", help="postgresql://USER:PASSWORD@HOST/NAME; SQLite when not given."),
    ] = None,
    url: Url = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser, where there is one.")] = True,
) -> None:
    """Serve the workspace until Ctrl-C. Runs are processes of their own and go on."""
    listener = None if context.invoked_subcommand else _listen(host, port)
    os.environ.pop("REWARM_DATABASE_URL", None)  # a password is no business of the runs that are started from here
    port = listener.getsockname()[1] if listener else port
    opened = _open(database_url, _address(url, host, port))
    context.obj = opened
    if listener is None:
        return
    from rewarm.studio.service.accounts import first_link, is_protected

    if not _is_loopback(host) and not is_protected(opened):
        remedy = "set one: rewarm studio password admin; or leave --host out"
        raise UserError("no administrator has a password: others could not be kept out", where=host, remedy=remedy)
    link = first_link(opened)
    say(f"Rewarm Studio: {opened.url} (workspace {opened.workspace.root})")
    if link is not None:
        _show(link, "admin")
    elif browser and (sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(opened.url)
    sys.stdout.flush()
    _serve(opened, listener)


@app.command("link")
def link(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[USER]", help="Who; the first administrator when not given.")
    ] = None,
) -> None:
    """Make a link that signs a user in once. Earlier ones of that user stop working."""
    from rewarm.studio.context import OWNER
    from rewarm.studio.service.accounts import first_administrator, first_link, new_link

    made = None if name else first_link(context.obj)
    name = name or first_administrator(context.obj)
    _show(made or new_link(context.obj, OWNER, name), name)


@app.command("password")
def password(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="USER", help="Whose; admin is the first administrator.")],
    from_input: Annotated[bool, typer.Option("--stdin", help="Read it from standard input.")] = False,
) -> None:
    """Set a user's password. It is asked for; the user's sessions end."""
    from rewarm.studio.context import OWNER
    from rewarm.studio.service.accounts import first_link, reset_password

    if not from_input and not sys.stdin.isatty():
        raise UserError("there is no terminal to ask for the password on", remedy="give it with --stdin")
    new = sys.stdin.readline().rstrip("\r\n") if from_input else typer.prompt("password", hide_input=True)
    first_link(context.obj)
    reset_password(context.obj, OWNER, name, new)
    say(f"the password of {name} is set")


@app.command("token")
def token(
    context: typer.Context,
    user: Annotated[str | None, typer.Argument(metavar="[USER]", help="Whose; the first administrator's.")] = None,
    name: Annotated[str, typer.Option(help="What lists call it.")] = "terminal",
    days: Annotated[float | None, typer.Option(min=0.01, help="Until it expires; never when not given.")] = None,
) -> None:
    """Make a token for programs and for this command line elsewhere. It is printed once."""
    from rewarm.studio.service.accounts import add_token, first_administrator, first_link, user_named

    if user is None:
        first_link(context.obj)
    owner = user_named(context.obj, user or first_administrator(context.obj))
    say(add_token(context.obj, owner, name, owner.role, days).token)


def _open(database_url: str | None, url: str) -> Studio:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401

        from rewarm.studio.context import open_studio
        from rewarm.studio.service import accounts  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", remedy="pip install 'rewarm[studio]'") from None
    return open_studio(Workspace.default(), database_url, url)


def _listen(host: str, port: int) -> socket.socket:
    try:
        (family, kind, proto, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        what = f"cannot listen there: {(error.strerror or str(error)).lower()}"
        raise UserError(what, where=f"{host}:{port}", remedy="choose another --host or --port") from None
    return listener


def _address(url: str | None, host: str, port: int) -> str:
    if url is None:
        name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
        return f"http://{name}:{port}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise UserError("this is no address of a server", where=url, remedy="such as https://studio.example.com")
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _show(link: Link, name: str) -> None:
    say(f"{name} signs in, once, until {datetime.fromtimestamp(link.expires):%Y-%m-%d %H:%M}, at {link.url}")


def _serve(studio: Studio, listener: socket.socket) -> None:
    """Until SIGTERM or Ctrl-C, which both are the usual end."""
    import uvicorn

    from rewarm.studio.api.wire import Wire
    from rewarm.studio.ui.site import build_site

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises it once more when it has ended
    config = uvicorn.Config(
        build_site(studio),
        http=Wire,
        log_config=None,
        access_log=False,  # addresses may say more than a log should know
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,  # longer than browsers and proxies wait before they ask again on the same connection
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        studio.database.close()
