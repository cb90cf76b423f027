"""``rewarm``: the command line's root, and what happens to errors.

Commands import what they need when they run, so that ``--help`` answers at once: torch alone takes
seconds to import.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

import rewarm
from rewarm.cli import backup, clean, connections, data, imports, models, results, runs, start, studio
from rewarm.cli.show import plain, ready_streams
from rewarm.core.errors import UserError
from rewarm.core.storage import allow_many_files, as_user_error

app = typer.Typer(
    name="rewarm",
    help="""Continual pretraining: an open model and new text in; a better model, and the proof, out.

    The workspace is the folder REWARM_HOME, by default ~/.rewarm. With REWARM_URL, commands go to a Studio there.""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(start.quickstart)
app.command("import")(imports.import_)
app.command("recommend")(start.recommend)
app.command("check")(start.check)
app.command("run")(start.run)
app.command("resume")(runs.resume)
app.command("stop")(runs.stop)
app.command("report")(results.report)
app.command("compare")(results.compare)
app.command("clean")(clean.clean)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(runs.app, name="runs")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(connections.app, name="connections")
app.add_typer(studio.app, name="studio")


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
    """What stands before the commands; without a docstring of its own, help would show this one."""


def main() -> None:
    """The entry point: a user's mistake is a message and an exit code, never a traceback."""
    ready_streams()
    allow_many_files()
    command = typer.main.get_command(app)
    if os.environ.get("REWARM_URL"):
        from rewarm.cli.remote import answer_remotely

        answer_remotely(command)
    _say_plainly(command)
    try:
        command()
    except (UserError, OSError) as error:
        known = as_user_error(error) if isinstance(error, OSError) else error
        if known is None:
            raise
        sys.stderr.write(plain(f"rewarm: {known}\n"))
        sys.exit(known.exit_code)


def _say_plainly(command: Any) -> None:
    """Let help name arguments as they are typed, and no types beside flags."""
    described = command.get_params
    command.get_params = lambda context: [_plainly(parameter) for parameter in described(context)]
    for inner in getattr(command, "commands", {}).values():
        _say_plainly(inner)


def _plainly(parameter: Any) -> Any:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        name = name if parameter.required or name.startswith("[") else f"[{name}]"
        parameter.get_usage_pieces = lambda context: [name]
    if parameter.param_type_name == "argument" or parameter.is_flag:
        parameter.display_type_rich = lambda ctx: None
    return parameter
