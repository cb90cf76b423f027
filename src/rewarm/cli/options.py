"""The arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace those of the recipe.", show_default=False),
]
RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.", show_default=False)]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's id or a part of it, a recipe's name (its newest run), or: last", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Start in the background and return.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Documents = Annotated[int, typer.Option(min=1, help="Documents to show.")]
TextColumn = Annotated[str | None, typer.Option(help="The field that holds the text.")]
