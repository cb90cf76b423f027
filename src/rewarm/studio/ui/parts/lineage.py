"""The graph of what was made of what."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from nicegui.element import Element

from rewarm.studio.ui.visit import Visit

PLACES = {"version": "/models/", "run": "/runs/", "dataset": "/data/datasets/"}
Nodes = Sequence[dict[str, str]]


class Lineage(Element, component="lineage.js"):
    """Nodes and edges as the verbs give them; ``here`` is the id of what the page is about."""

    def __init__(self, visit: Visit, heading: str, nodes: Nodes, edges: Nodes, here: str) -> None:
        super().__init__()
        rows: dict[int, list[dict[str, object]]] = {}
        for node, row in zip(nodes, _rows(nodes, edges), strict=True):
            kind, (_, _, name) = node["kind"], node["id"].partition(":")
            shown = node["label"][:12] if kind in ("dataset", "recipe") else node["label"]
            known = {
                "link": PLACES[kind] + quote(name) if kind in PLACES else "",
                "word": visit.say(f"lineage.{kind}"), "here": node["id"] == here,
            }  # fmt: skip
            rows.setdefault(row, []).append({**node, **known, "label": shown})
        self._props.update(
            heading=heading,
            rows=[rows[row] for row in sorted(rows)],
            edges=[(edge["source"], edge["target"]) for edge in edges],
        )


def _rows(nodes: Nodes, edges: Nodes) -> list[int]:
    """For each node the row that it stands in: right above the first that used it, below all that it came from."""
    depth = {node["id"]: 0 for node in nodes}
    before: dict[str, int] = {}
    while depth != before:
        before = dict(depth)
        for edge in edges:
            if edge["source"] in depth and edge["target"] in depth:  # a ring, which only damage makes, ends here too
                depth[edge["target"]] = max(depth[edge["target"]], min(depth[edge["source"]] + 1, len(nodes)))
    targets, first = {edge["target"] for edge in edges}, dict[str, int]()
    for edge in edges:
        if edge["source"] not in targets and edge["target"] in depth:
            first[edge["source"]] = min(depth[edge["target"]] - 1, first.get(edge["source"], len(nodes)))
    return [first.get(node["id"], depth[node["id"]]) for node in nodes]
