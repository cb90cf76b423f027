"""A table: right-aligned numbers, links, states, what to do when it is empty. Cells are text, never HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

_CELL = """
<q-td :props="props" :class="props.row['__class_{name}']">
  <a v-if="props.row['__link_{name}']" :href="props.row['__link_{name}']" class="rw-link">{{{{ props.value }}}}</a>
  <span v-else>{{{{ props.value }}}}</span>
</q-td>
"""


@dataclass(frozen=True)
class Column:
    """One column: its title, the text of a row's cell, and where a click leads, if anywhere.

    ``link`` gives an address of ours: build it with ``urllib.parse.quote`` around whatever comes from data.
    """

    name: str
    title: str
    text: Callable[[Any], str]
    number: bool = False
    link: Callable[[Any], str] | None = None
    style: Callable[[Any], str] | None = None
    """CSS classes of the cell."""


def table(columns: Sequence[Column], rows: Sequence[Any], *, title: str, on_click: Any = None) -> ui.table:
    """The rows as they come. ``title`` is for those who hear the page. ``refill`` gives it other rows."""
    shown = ui.table(
        columns=[
            {
                "name": c.name,
                "label": c.title,
                "field": c.name,
                "align": "right" if c.number else "left",
                "sortable": False,
            }
            for c in columns
        ],
        rows=_cells(columns, rows),
        row_key="__key",
    )
    shown.props(f'flat dense hide-pagination :rows-per-page-options="[0]" aria-label="{_plain(title)}"')
    shown.classes("rw-table")
    for column in columns:
        if column.link or column.style:
            shown.add_slot(f"body-cell-{column.name}", _CELL.format(name=column.name))
    if on_click:
        shown.on("row-click", lambda event: on_click(rows[event.args[1]["__key"]]))
    return shown


def refill(shown: ui.table, columns: Sequence[Column], rows: Sequence[Any]) -> None:
    """Other rows in the same table; nothing is sent where they are the same."""
    cells = _cells(columns, rows)
    if cells != shown.rows:
        shown.rows = cells


def _cells(columns: Sequence[Column], rows: Sequence[Any]) -> list[dict[str, Any]]:
    made = []
    for number, row in enumerate(rows):
        cells: dict[str, Any] = {"__key": number}
        for column in columns:
            cells[column.name] = column.text(row)
            if column.link:
                cells[f"__link_{column.name}"] = column.link(row)
            if column.style:
                cells[f"__class_{column.name}"] = column.style(row)
        made.append(cells)
    return made


def _plain(text: str) -> str:
    return text.replace('"', "'")
