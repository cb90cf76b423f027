"""How the terminal says things: tables and progress bars, and the same as JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from rewarm.core.amounts import amount, size


def print_json(value: Any) -> None:
    """``value`` as indented JSON on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()
) -> None:
    """A table; the columns with the numbers ``right`` are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def console() -> Any:
    """Standard output; as wide as it needs to be where it is not a terminal."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, float, float, str], None]]:
    """A progress callback ``(what, done, total, unit)`` that draws bars on standard error, speed and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def show(what: str, done: float, total: float, unit: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None, text="")
            speed = next(task.speed for task in bar.tasks if task.id == tasks[what])
            form = size if unit == "bytes" else amount
            text = f"{form(done)} of {form(total)}" + ("" if unit == "bytes" else f" {unit}") if total > 1 else ""
            bar.update(
                tasks[what], completed=done, total=total or None, text=text + (f", {form(speed)}/s" if speed else "")
            )

        yield show
