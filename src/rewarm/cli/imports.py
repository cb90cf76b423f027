"""The command that turns another program's configuration into a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rewarm.cli.options import AsJson
from rewarm.cli.show import print_json, print_table, say
from rewarm.core.errors import UserError
from rewarm.core.storage import write_file

_HEADS = ("key there", "value", "here", "because")
_SHOWN = {"mapped": (0, 1, 2), "changed": (0, 1, 2, 3), "filled": (0, 2, 3), "dropped": (0, 1, 3)}


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A configuration of LLaMA-Factory or Axolotl, or FPT AI Studio's JSON."),
    ],
    out: Annotated[Path, typer.Option(help="The recipe to write; a file that is there is kept.")] = Path("recipe.yaml"),
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
    for outcome, columns in _SHOWN.items():
        notes = [note for note in imported.notes if note.outcome == outcome]
        rows = [(note.key, _short(note.given), _field(note.field, note.value), note.because) for note in notes]
        if rows:
            cells = [[row[column] for column in columns] for row in rows]
            print_table(f"{outcome}: {len(rows)}", [_HEADS[column] for column in columns], cells)
    say(f"{imported.program} -> {out}; look at it, then: rewarm check {out}")


def _field(path: str | None, value: Any) -> str:
    return "" if path is None else f"{path.removeprefix('hyperparameters.')}: {_short(value)}"


def _short(value: Any) -> str:
    shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
