"""``rewarm``: the command line's root, and what happens to errors.

Commands import what they need when they run, so that ``--help`` answers at once: torch alone takes
seconds to import.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import rewarm
from rewarm.cli import connections, data, models, runs, start
from rewarm.core.errors import EXIT_RESOURCE, UserError
from rewarm.core.storage import is_disk_full

app = typer.Typer(
    name="rewarm",
    help="Continual pretraining: an open model and new text in; a better model, and the proof, out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(start.quickstart)
app.command("check")(start.check)
app.command("run")(start.run)
app.command("resume")(runs.resume)
app.command("stop")(runs.stop)
app.command("report")(runs.report)
app.add_typer(runs.app, name="runs")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(connections.app, name="connections")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rewarm {rewarm.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The workspace is REWARM_HOME, by default ~/.rewarm."""


def main() -> None:
    """The entry point: a user's mistake is a message and an exit code, never a traceback."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"rewarm: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        if not is_disk_full(error):
            raise
        sys.stderr.write(f"rewarm: {error}\n  what to do: free some space\n")
        sys.exit(EXIT_RESOURCE)
