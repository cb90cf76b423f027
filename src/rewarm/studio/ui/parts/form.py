"""A form made of a JSON schema: one input for each field, with its range and its one line of help.

What is left empty stays out of the value, so that a default is a default and not a choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

UNSET = ""


def form(fields: dict[str, dict[str, Any]], value: dict[str, Any], changed: Callable[[], None]) -> dict[str, Any]:
    """Inputs for those of ``fields`` that a form can hold; what they say goes into ``value`` at once.

    Returns the inputs by their names; each has an ``error`` to set.
    """
    made = {}
    with ui.element("div").classes("rw-form"):
        for name, schema in fields.items():
            if (build := _builder(schema)) is not None:
                made[name] = _field(name, schema, value, changed, build)
    return made


Build = Callable[[str, dict[str, Any], Any, Callable[[Any], None]], ui.element]


def _field(
    name: str, schema: dict[str, Any], value: dict[str, Any], changed: Callable[[], None], build: Build
) -> ui.element:
    def keep(given: Any) -> None:
        if given is None or given == UNSET or given == []:
            value.pop(name, None)
        else:
            value[name] = given
        changed()

    with ui.element("div"):
        made = build(name, schema, value.get(name, UNSET), keep).props("dense outlined stack-label hide-bottom-space")
        made.classes("w-full")
        ui.label(_help(schema)).classes("rw-help")
    return made


def _builder(schema: dict[str, Any]) -> Build | None:
    kinds = _kinds(schema)
    if any("enum" in kind or "const" in kind or kind.get("type") == "boolean" for kind in kinds) and len(kinds) == 1:
        return _choice
    if kinds and all(kind.get("type") in ("integer", "number", "string") or "enum" in kind for kind in kinds):
        return _text
    if kinds and kinds[-1].get("type") == "array" and kinds[-1].get("items", {}).get("type") == "string":
        return _list  # or one word in place of a list
    return None


def _kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]


def _choice(name: str, schema: dict[str, Any], given: Any, keep: Callable[[Any], None]) -> ui.element:
    (kind,) = _kinds(schema)
    values = kind.get("enum") or ([kind["const"]] if "const" in kind else [True, False])
    options = {UNSET: f"– ({_shown(schema.get('default'))})"} | {value: _shown(value) for value in values}
    known = isinstance(given, str | int) and given in options
    return ui.select(options, value=given if known else UNSET, label=name, on_change=lambda e: keep(e.value))


def _text(name: str, schema: dict[str, Any], given: Any, keep: Callable[[Any], None]) -> ui.element:
    numbers = any(kind.get("type") in ("integer", "number") for kind in _kinds(schema))
    placeholder = _shown(schema.get("default")) if schema.get("default") is not None else ""
    return ui.input(
        name, value="" if given is None else str(given), placeholder=placeholder,
        on_change=lambda e: keep(_number(e.value) if numbers else e.value),
    )  # fmt: skip


def _list(name: str, schema: dict[str, Any], given: Any, keep: Callable[[Any], None]) -> ui.element:
    shown = ", ".join(map(str, given)) if isinstance(given, list) else str(given)
    one_word = len(_kinds(schema)) > 1

    def take(text: str) -> None:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        keep(parts[0] if one_word and len(parts) == 1 else parts)

    placeholder = _shown(schema["default"]) if schema.get("default") else ""
    return ui.input(name, value=shown, placeholder=placeholder, on_change=lambda e: take(e.value or ""))


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
        return "true" if value else "false"
    return "–" if value is None else str(value)


def _help(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounds = "" if low is None and high is None else f" ({'' if low is None else low} … {'' if high is None else high})"
    return f"{schema.get('description', '')}{bounds}"
