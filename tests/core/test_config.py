"""Errors in a configuration, in the words of its author."""

from __future__ import annotations

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
