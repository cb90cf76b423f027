"""Errors in a configuration, in the words of its author."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
from pydantic import Field

from rewarm.core.config import Frozen, dotted, nearest, validate
from rewarm.core.errors import UserError


class Inner(Frozen):
    rate: float = Field(gt=0, lt=1)


class Outer(Frozen):
    name: str
    inner: list[Inner] = Field(default_factory=list)


def place(path: tuple[str | int, ...]) -> str:
    return f"file:{len(path)}: "


def test_every_mistake_is_named_at_once_with_its_place() -> None:
    with pytest.raises(UserError) as caught:
        validate(Outer, {"inner": [{"rate": 2.0}, {"ratte": 0.5}], "nme": "x"}, place)
    text = str(caught.value)
    assert "file:3: inner[0].rate: input should be less than 1, got 2.0" in text
    assert "inner[1].ratte: unknown key; did you mean 'rate'?" in text
    assert "file:1: nme: unknown key; did you mean 'name'?" in text
    assert "name: missing" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.5", None, [0.5]])
def test_strict_about_types(value: object) -> None:
    with pytest.raises(UserError, match=r"inner\[0\]\.rate"):
        validate(Outer, {"name": "x", "inner": [{"rate": value}]}, place)


def test_frozen() -> None:
    outer = validate(Outer, {"name": "x"}, place)
    with pytest.raises(ValueError, match="frozen"):
        outer.name = "y"  # type: ignore[misc]


def test_words() -> None:
    assert dotted(("data", "sources", 0, "path")) == "data.sources[0].path"
    assert nearest("learning_rte", ["learning_rate", "seed"]) == "learning_rate"
    assert nearest("zzz", ["learning_rate", "seed"]) is None


class Known(Frozen):
    names_elsewhere: ClassVar[Mapping[str, str]] = {"size": "Other's size is count here"}
    count: int = 1
    limit: int | None = None


def test_whole_numbers_have_64_bits() -> None:
    assert validate(Known, {"count": 2**63 - 1}, place).count == 2**63 - 1
    for value in ({"count": 2**63}, {"limit": -(2**63) - 1}):
        with pytest.raises(UserError, match="must fit into 64 bits"):
            validate(Known, value, place)


def test_a_name_of_another_program_is_translated() -> None:
    with pytest.raises(UserError, match="size: unknown key; Other's size is count here"):
        validate(Known, {"size": 3}, place)


def test_of_very_many_mistakes_some_are_shown() -> None:
    with pytest.raises(UserError) as caught:
        validate(Known, {f"x{number}": 1 for number in range(60_000)}, place)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and lines[20] == "and 59,980 more"
