"""The command that turns another program's configuration into a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rewarm.cli.options import AsJson
from rewarm.cli.show import print_json, print_table, say
from rewarm.core.errors import UserError
from rewarm.core.storage import write_file


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A configuration of LLaMA-Factory or Axolotl, or FPT AI Studio's JSON."),
    ],
    out: Annotated[Path, typer.Option(help="Where the recipe is written; a file that is there is kept.")] = Path(
        "recipe.yaml"
    ),
    as_json: AsJson = False,
) -> None:
    """Turn another program's configuration into a recipe, and say what became of each of its keys."""
    from rewarm.recipe.imports.convert import import_file

    if out.exists():
        raise UserError("is there already", where=out, remedy="name another file with --out")
    imported = import_file(file, out.parent)
    write_file(out, imported.text)
    if as_json:
        print_json({**imported.to_json(), "written": str(out)})
        return
    for outcome in ("mapped", "changed", "filled", "dropped"):
        notes = [note for note in imported.notes if note.outcome == outcome]
        rows = [(note.key, _short(note.given), _field(note.field, note.value), note.because) for note in notes]
        if rows:
            keep = [0, 2, 3] if outcome == "filled" else [0, 1, 3] if outcome == "dropped" else [0, 1, 2, 3]
            heads = ("key there", "value", "here", "because")
            cells = [[row[index] for index in keep] for row in rows]
            if outcome == "mapped":
                keep, cells = keep[:3], [row[:3] for row in cells]
            print_table(f"{outcome}: {len(rows)}", [heads[index] for index in keep], cells)
    say(f"{imported.program} -> {out}; look at it, then: rewarm check {out}")


def _field(path: str | None, value: Any) -> str:
    return "" if path is None else f"{path.removeprefix('hyperparameters.')}: {_short(value)}"


def _short(value: Any) -> str:
    shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
