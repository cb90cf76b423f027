"""Tables on narrow terminals, and text that may hold anything."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest

from rewarm.cli.show import console, plain, print_table

HEADS = ("Text or task", "Documents in", "forgetting", "remark")
ROW = ("law-vi", "1,234,567", "38.1 %", "a remark that is long enough to need a second line on its own")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, width: int, *table: Any) -> str:
    """What a terminal of so many columns shows."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream := Terminal())
        print_table(*table)
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_word_is_broken(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    said = printed(monkeypatch, width, "what came in", HEADS, [ROW, ROW], (1,))
    for word in " ".join((*HEADS, *ROW)).split():
        assert word in said.split() or f"{word}:" in said.split()
    assert max(map(len, said.splitlines())) <= width
    assert "Documents in: 1,234,567" in said  # too wide for a table


def test_a_narrow_table_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, 40, "", ("a", "b"), [("1", "2")], (1,))
    assert any(line.split() == ["1", "2"] for line in said.splitlines())


def test_a_narrow_table_leaves_out_what_can_be_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    table = ("", ("text", "role", "result"), [("law", "forgetting (replayed)", "0.9")], (2,), (1,))
    assert "role" in printed(monkeypatch, 60, *table)
    lines = [line.split() for line in printed(monkeypatch, 30, *table).splitlines()]
    assert ["text", "result"] in lines and ["law", "0.9"] in lines
    assert "role:" in printed(monkeypatch, 10, *table)  # too narrow for any table: everything, line by line


def test_lines_break_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream := Terminal())
        console().print(f"a line of some words {'x' * 50}")
    assert [line.strip() for line in stream.getvalue().splitlines()] == ["a line of some words", "x" * 50]


def test_elsewhere_a_table_is_as_wide_as_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ("head", "tail"), [("x" * 300, "y")])
    assert "x" * 300 in capsys.readouterr().out


def test_plain() -> None:
    assert plain("a\tb\nĐiều \U0001f600") == "a\tb\nĐiều \U0001f600"
    assert plain("\x1b[31m\x00\x7f\x85\r") == "\\x1b[31m\\x00\\x7f\\x85\\r"
