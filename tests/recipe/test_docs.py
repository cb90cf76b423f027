"""docs/recipe.md has a row for every field of the recipe, with its default, what is allowed, and what it means."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.recipe import Recipe

DOCS = Path(__file__).parents[2] / "docs" / "recipe.md"
SCHEMA = Recipe.model_json_schema()


def named(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def choices(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, apart from nothing."""
    some = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return [
        inner
        for one in some
        for inner in (choices(one) if "anyOf" in one else [named(one)])
        if inner.get("type") != "null"
    ]


def allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(schema.get("enum") or [schema["const"]])
    if schema["type"] in ("array", "object"):
        inner = schema["items"] if schema["type"] == "array" else schema.get("additionalProperties") or {}
        kinds = ", ".join(allowed(one) for one in choices(inner) if "properties" not in one) if inner else ""
        start = "names to " if schema["type"] == "object" else "list of "
        return start + (kinds if kinds else "fields below")
    bounds = [
        f"{sign} {schema[name]:,}"
        for name, sign in (("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<="))
        if name in schema
    ]
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}[schema["type"]]
    return " ".join([kind, " and ".join(bounds)]).strip()


def rows(schema: dict[str, Any], path: str, known: set[str]) -> Iterator[str]:
    """The rows of an object's fields, and of the objects in them, but for what a text before them has too."""
    for name, field in schema["properties"].items():
        if name in ("kind", "hyperparameters"):
            continue
        where, options = f"{path}{name}", choices(field)
        default = field.get("default")
        default = str(default).lower() if isinstance(default, bool) else default
        shown = "" if default in (None, [], {}) else f"{default:,}" if isinstance(default, int | float) else default
        plain = [allowed(one) for one in options if "properties" not in one]
        if plain or "description" in field:
            meaning = field.get("description", "")
            rest = f"{name}` | {shown} | {' or '.join(dict.fromkeys(plain)) or 'fields below'} | {meaning} |"
            if rest not in known or not path:
                yield f"| `{path}{rest}"
            known.add(rest)
        for one in options:
            inner = choices(one["items"])[0] if one.get("type") == "array" else one
            if "properties" in inner and name != "steps":
                yield from rows(inner, f"{where}[]." if one.get("type") == "array" else f"{where}.", known)


def step_rows() -> Iterator[str]:
    for step in choices(SCHEMA["$defs"]["Data"]["properties"]["steps"]["items"]):
        yield from rows(step, f"{step['properties']['kind']['const']}.", set())


def test_every_field_of_the_recipe_and_of_the_steps_has_its_row() -> None:
    there = DOCS.read_text("utf-8").splitlines()
    assert [row for row in (*rows(SCHEMA, "", set()), *step_rows()) if row not in there] == []


def test_every_hyperparameter_is_in_the_table() -> None:
    cells = re.findall(r"^\| (`[^|]*`) \|", DOCS.read_text("utf-8").partition("## Hyperparameters")[2], re.MULTILINE)
    patterns = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert [n for n in Hyperparameters.model_fields if not any(fnmatch.fnmatch(n, p) for p in patterns)] == []
    assert [p for p in patterns if not fnmatch.filter(Hyperparameters.model_fields, p)] == []
