"""``rewarm clean``: delete what nothing uses any more, after showing it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from rewarm.cli.options import AsJson, Yes
from rewarm.cli.show import print_json, print_table, say, sure
from rewarm.core.amounts import size
from rewarm.core.workspace import Workspace


def clean(
    yes: Yes = False,
    keep: Annotated[int, typer.Option(min=0, help="Of each name, so many succeeded runs keep their checkpoints.")] = 3,
    days: Annotated[float, typer.Option(min=0, help="Keep what was changed in the last so many days.")] = 7.0,
    datasets: Annotated[
        bool, typer.Option("--datasets", help="Delete datasets too that no run and no version uses.")
    ] = False,
    versions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Delete versions too, except the last N of each model.")
    ] = None,
    no_caches: Annotated[bool, typer.Option("--no-caches", help="Keep blocks of remote files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old checkpoints and caches that nothing uses: no live run, alias, or version trained from another.

    With --json and without --yes, nothing is deleted.
    """
    from rewarm.studio.service import cleaning

    rules = cleaning.Rules(
        checkpoints_of_last=keep, versions_of_last=versions, datasets=datasets, caches=not no_caches,
        older_than_days=days,
    )  # fmt: skip
    workspace = Workspace.default()
    items = cleaning.plan(workspace, rules, time.time())
    if not as_json:
        if not items:
            say("there is nothing to delete by these rules")
            return
        print_table(
            "", ("kind", "name", "size", "why"), [(i.kind, i.name, size(i.bytes), i.reason) for i in items], (2,)
        )
        sure(f"delete these and free {size(sum(i.bytes for i in items))}?", yes)
    gone = cleaning.clean(workspace, rules, time.time()) if yes or not as_json else []
    if as_json:
        print_json({"deleted": yes, "items": [item.model_dump() for item in (gone if yes else items)]})
        return
    say(f"{len(gone)} deleted, {size(sum(i.bytes for i in gone))} freed")
