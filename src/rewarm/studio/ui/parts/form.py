"""A form made of a JSON schema: one input for each field, with its range and its one line of help.

What is left empty stays out of the value, so that a default is a default and not a choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

UNSET = ""


def form(fields: dict[str, dict[str, Any]], value: dict[str, Any], changed: Callable[[], None]) -> None:
    """Inputs for those of ``fields`` that a form can hold; what they say goes into ``value`` at once."""
    with ui.element("div").classes("rw-form"):
        for name, schema in fields.items():
            if (build := _builder(schema)) is not None:
                _field(name, schema, value, changed, build)


Build = Callable[[str, dict[str, Any], Any, Callable[[Any], None]], ui.element]


def _field(name: str, schema: dict[str, Any], value: dict[str, Any], changed: Callable[[], None], build: Build) -> None:
    def keep(given: Any) -> None:
        if given is None or given == UNSET or given == []:
            value.pop(name, None)
        else:
            value[name] = given
        changed()

    with ui.element("div"):
        build(name, schema, value.get(name, UNSET), keep).props("dense outlined stack-label").classes("w-full")
        ui.label(_help(schema)).classes("rw-help")


def _builder(schema: dict[str, Any]) -> Build | None:
    kinds = _kinds(schema)
    if any("enum" in kind or "const" in kind or kind.get("type") == "boolean" for kind in kinds) and len(kinds) == 1:
        return _choice
    if kinds and all(kind.get("type") in ("integer", "number", "string") or "enum" in kind for kind in kinds):
        return _text
    if len(kinds) == 1 and kinds[0].get("type") == "array" and kinds[0].get("items", {}).get("type") == "string":
        return _list
    return None


def _kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]


def _choice(name: str, schema: dict[str, Any], given: Any, keep: Callable[[Any], None]) -> ui.element:
    (kind,) = _kinds(schema)
    values = kind.get("enum") or ([kind["const"]] if "const" in kind else [True, False])
    options = {UNSET: f"– ({_shown(schema.get('default'))})"} | {value: _shown(value) for value in values}
    return ui.select(options, value=given if given in options else UNSET, label=name, on_change=lambda e: keep(e.value))


def _text(name: str, schema: dict[str, Any], given: Any, keep: Callable[[Any], None]) -> ui.element:
    numbers = any(kind.get("type") in ("integer", "number") for kind in _kinds(schema))
    placeholder = _shown(schema.get("default")) if schema.get("default") is not None else ""
    return ui.input(
        name, value="" if given is None else str(given), placeholder=placeholder,
        on_change=lambda e: keep(_number(e.value) if numbers else e.value),
    )  # fmt: skip


def _list(name: str, schema: dict[str, Any], given: Any, keep: Callable[[Any], None]) -> ui.element:
    shown = ", ".join(map(str, given)) if isinstance(given, list) else str(given)
    return ui.input(
        name, value=shown, on_change=lambda e: keep([part.strip() for part in e.value.split(",") if part.strip()])
    )


def _number(text: str) -> Any:
    """A number where it is one; otherwise the text, of which the check says what is wrong."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _help(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounds = "" if low is None and high is None else f" ({'' if low is None else low} … {'' if high is None else high})"
    return f"{schema.get('description', '')}{bounds}"
