"""``rewarm backup`` and ``rewarm restore``: the workspace as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rewarm.cli.options import AsJson
from rewarm.cli.show import print_json, progress_bar, say
from rewarm.core.amounts import size
from rewarm.core.errors import UserError
from rewarm.core.workspace import Workspace

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url", envvar="REWARM_DATABASE_URL", show_envvar=True, show_default=False,
        help="The Studio's PostgreSQL database, where it is not the file in the workspace.",
    ),
]  # fmt: skip


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Such as rewarm.tar.zst; it must not be there yet.")],
    without_checkpoints: Annotated[
        bool, typer.Option("--without-checkpoints", help="Leave checkpoints out; such runs begin anew if resumed.")
    ] = False,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Put in the key that opens connections and passwords.")
    ] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write the whole workspace into one file, with the SHA-256 of all in it. Runs and the Studio may go on."""
    from rewarm.studio.service.backup import back_up

    workspace = Workspace.default()
    with progress_bar() as progress:
        done = back_up(
            workspace, file.absolute(), database_url=database_url, checkpoints=not without_checkpoints,
            secrets=with_secrets, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({"file": str(file), **done})
        return
    say(f"{file}: {done['files']:,} files, {size(done['bytes'])}, {size(file.stat().st_size)} packed")
    if done["database"] is None:
        say("there is no database in it; where the Studio has one elsewhere, give --database-url")
    if done["left_out"]:
        say(f"left out, as it was deleted meanwhile: {', '.join(done['left_out'])}")
    if not with_secrets and workspace.secret_key.exists():
        say(f"keep {workspace.secret_key} apart from it: without that key, no connection and no password opens")


def restore(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="What rewarm backup wrote.")] = None,
    database: Annotated[
        bool, typer.Option("--database", help="Only the database: from the newest daily copy that is whole, or FILE.")
    ] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make an empty workspace what a backup holds; every file is compared with its SHA-256 first."""
    from rewarm.studio.service import backup as verbs

    workspace = Workspace.default()
    if database:
        copy = verbs.restore_database(workspace, file and file.absolute(), database_url)
        print_json({"copy": str(copy)}) if as_json else say(
            f"the database is that of {copy.name}; start: rewarm studio"
        )
        return
    if file is None:
        raise UserError("say which backup", remedy="rewarm restore FILE, or rewarm restore --database")
    with progress_bar() as progress:
        done = verbs.restore(workspace, file.absolute(), database_url=database_url, progress=progress)
    if as_json:
        print_json({"workspace": str(workspace.root), **done})
        return
    say(f"{workspace.root}: {done['files']:,} files, {size(done['bytes'])}, every one as it was")
    if not done["secrets"]:
        say(f"put the key back that was kept apart, as {workspace.secret_key} (chmod 600), to open the connections")
