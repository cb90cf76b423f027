"""How the terminal says things: tables and progress bars, and the same as JSON."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.amounts import amount, size
from rewarm.core.errors import UserError

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """``text`` with control characters made visible: what a document says must not steer the terminal."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(name: str) -> str:
    """A name as one line of the terminal: that of an object may hold anything."""
    return name if name.isprintable() else repr(name)


def say(text: str) -> None:
    """``text`` and a new line, on standard output."""
    sys.stdout.write(plain(text) + "\n")


def ready_streams() -> None:
    """Let output never fail for its encoding, nor because the caller closed it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as we live
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_json(value: Any) -> None:
    """``value`` as indented JSON on standard output, in UTF-8 whatever the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    right: Sequence[int] = (),
    spare: Sequence[int] = (),
) -> None:
    """A table; the columns with the numbers ``right`` are aligned to the right.

    Where the terminal is too narrow, columns of ``spare`` are left out, the first ones first; where that is not
    enough, each row is a block of lines ``column: value``: no word is broken.
    """
    out = console()
    for left_out in range(len(spare) + 1):
        table = _table(title, columns, rows, right, [i for i in range(len(columns)) if i not in spare[:left_out]])
        if out.measure(table, options=out.options.update(max_width=sys.maxsize)).maximum <= out.width:
            out.print(table)
            return
    out.print(f"\n{title}" if title else "")
    for row in rows:
        for index, (column, cell) in enumerate(zip(columns, row, strict=True)):
            out.print(f"{'  ' if index else ''}{column}: {cell}")
    out.print()


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int], shown: Sequence[int]
) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index in shown:
        table.add_column(columns[index], justify="right" if index in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(plain(str(row[index])) for index in shown))
    return table


def print_list(
    rows: Sequence[Any],
    as_json: bool,
    heads: Sequence[str],
    cells: Callable[[Any], Sequence[object]],
    empty: str,
    right: Sequence[int] = (),
) -> None:
    """What a listing found: as JSON, as a table with the ``cells`` of each row, or the words for nothing."""
    if as_json:
        print_json(rows)
    elif rows:
        print_table("", heads, [cells(row) for row in rows], right)
    else:
        say(empty)


def answer(value: Any, text: str, as_json: bool) -> None:
    """The outcome of a command, as JSON or in words."""
    print_json(value) if as_json else say(text)


def sure(question: str, yes: bool) -> None:
    """Ask before something is deleted. Raises ``UserError`` where nobody can be asked."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(f"there is no terminal to ask on: {question}", remedy="--yes")
    import typer

    typer.confirm(question, abort=True)


def _filled(text: str, width: int) -> str:
    """``text`` in lines of whole words."""
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(line) for line in plain(text).split("\n"))


def console() -> Any:
    """Standard output; as wide as it needs to be where it is not a terminal."""
    from rich.console import Console

    class Plain(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            if text := all(isinstance(each, str) for each in objects):  # rich would break a long path
                objects = tuple(_filled(each, self.width) for each in objects)
            super().print(*objects, **{"soft_wrap": text, **options})

    return Plain(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 1000)


def _progress_lines() -> Callable[[str, float, float, str], None]:
    told = 0.0

    def tell(what: str, done: float, total: float, unit: str) -> None:
        nonlocal told
        if time.monotonic() - told >= 1 or done >= total:
            told = time.monotonic()
            line = {"progress": {"what": what, "done": done, "total": total, "unit": unit}}
            sys.stderr.write(orjson.dumps(line).decode() + "\n")
            sys.stderr.flush()

    return tell


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, float, float, str], None]]:
    """A progress callback ``(what, done, total, unit)`` that draws bars on standard error, speed and time left.

    With REWARM_PROGRESS=json it writes a line of JSON instead, once a second.
    """
    if os.environ.get("REWARM_PROGRESS") == "json":
        yield _progress_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
    from rich.table import Column

    def text_column(form: str) -> TextColumn:
        return TextColumn(form, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))

    tasks: dict[str, TaskID] = {}
    columns = (text_column("{task.description}"), BarColumn(20), text_column("{task.fields[text]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))

    def show(what: str, done: float, total: float, unit: str) -> None:
        bar.start()  # not before: bars of nothing would be an empty line
        if what not in tasks:
            tasks[what] = bar.add_task(plain(what), total=total or None, text="")
        speed = next(task.speed for task in bar.tasks if task.id == tasks[what])
        form = size if unit == "bytes" else amount
        text = f"{form(done)} of {form(total)}" + ("" if unit == "bytes" else f" {unit}") if total > 1 else ""
        text += f", {form(speed)}/s" if speed else ""
        bar.update(tasks[what], completed=done, total=total or None, text=text)

    try:
        yield show
    finally:
        if tasks:
            bar.stop()
