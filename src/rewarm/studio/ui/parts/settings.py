"""Settings beside each other: where recipes, or what became of them, differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.parts.text import told
from rewarm.studio.ui.visit import Visit


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """``{"hyperparameters.epochs": 2}``; of a value that carries its origin, the value; of texts, by their names."""
    if isinstance(tree, dict) and "value" in tree and "origin" in tree:
        return flat(tree["value"], path)
    if isinstance(tree, list) and tree and all(isinstance(one, dict) and "name" in one for one in tree):
        tree = {one["name"]: {key: value for key, value in one.items() if key != "name"} for one in tree}
    if isinstance(tree, dict):
        return {k: v for key, value in tree.items() for k, v in flat(value, f"{path}.{key}".lstrip(".")).items()}
    return {path: tree}


def differences(visit: Visit, trees: Mapping[str, Any], title: str) -> bool:
    """A table of the settings that are not the same in all of ``trees``, a column each; whether there are any."""
    leaves = {name: flat(tree) for name, tree in trees.items()}
    keys = sorted({key for one in leaves.values() for key in one})
    different = [key for key in keys if len({told(one.get(key)) for one in leaves.values()}) > 1]
    if different:
        columns: Sequence[Column] = [
            Column("key", visit.say("compare.setting"), lambda key: key),
            *(
                Column(f"of{at}", name, lambda key, one=one: told(one.get(key))[:200] or "–")  # type: ignore[misc]
                for at, (name, one) in enumerate(leaves.items())
            ),
        ]
        table(columns, different, title=title)
    return bool(different)
