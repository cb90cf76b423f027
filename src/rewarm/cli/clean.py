"""``rewarm clean``: delete what nothing uses any more, after showing it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

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

    workspace, rules = Workspace.default(), cleaning.Rules(**rules_of(keep, days, datasets, versions, no_caches))
    show_and_clean(
        [item.model_dump() for item in cleaning.plan(workspace, rules, time.time())],
        lambda: [item.model_dump() for item in cleaning.clean(workspace, rules, time.time())],
        yes,
        as_json,
    )


def rules_of(keep: int, days: float, datasets: bool, versions: int | None, no_caches: bool) -> dict[str, Any]:
    """The options by the names of the rules."""
    return {
        "checkpoints_of_last": keep, "versions_of_last": versions, "datasets": datasets, "caches": not no_caches,
        "older_than_days": days,
    }  # fmt: skip


def show_and_clean(
    items: list[dict[str, Any]], remove: Callable[[], list[dict[str, Any]]], yes: bool, as_json: bool
) -> None:
    """Show what would go, ask, and let it go."""
    if as_json:
        print_json({"deleted": yes, "items": remove() if yes else items})
        return
    if not items:
        say("there is nothing to delete by these rules")
        return
    rows = [(item["kind"], item["name"], size(item["bytes"]), item["reason"]) for item in items]
    print_table("", ("kind", "name", "size", "why"), rows, (2,))
    sure(f"delete these and free {size(sum(item['bytes'] for item in items))}?", yes)
    gone = remove()
    say(f"{len(gone)} deleted, {size(sum(item['bytes'] for item in gone))} freed")
