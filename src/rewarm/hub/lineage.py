"""Where a version comes from and what came from it, as a graph: base, data, recipe, run, versions."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from rewarm.core.errors import UserError
from rewarm.hub.models import Version, list_models


def lineage_graph(models: Path, version: Version) -> dict[str, Any]:
    """``{"nodes": [{id, kind, label}], "edges": [{source, target, kind}]}``; an edge leads from what was used.

    Kinds of nodes: version, base (a model from elsewhere), dataset, recipe, run, import. The version's ancestors
    come with all that made them, its descendants as versions alone.
    """
    known = {str(found): found for found in list_models(models)}
    bases = {name: base_of(found) for name, found in known.items()}
    nodes: dict[str, dict[str, str]] = {}
    edges: dict[tuple[str, str], dict[str, str]] = {}

    def add(kind: str, label: str, used_by: str | None = None) -> str:
        node = f"{kind}:{label}"
        nodes.setdefault(node, {"id": node, "kind": kind, "label": label})
        if used_by:
            edges.setdefault((node, used_by), {"source": node, "target": used_by, "kind": kind})
        return node

    name: str | None = str(version)
    child: str | None = None
    while name and f"version:{name}" not in nodes:  # up to what came from elsewhere; damage could make a ring
        here = add("version" if name in known else "base", name, child)
        if name not in known:
            break
        lineage = read_lineage(known[name])
        for kind in ("dataset", "recipe", "run"):
            if isinstance(label := lineage.get(kind), str):
                add(kind, label, here)
        if isinstance(imported := lineage.get("imported"), dict):
            add("import", str(imported.get("from")), here)
        name, child = bases[name], here
    waiting = [str(version)]
    while waiting:
        parent = waiting.pop()
        for below in (name for name, base in bases.items() if base == parent and f"version:{name}" not in nodes):
            node = add("version", below)
            edges[(f"version:{parent}", node)] = {"source": f"version:{parent}", "target": node, "kind": "version"}
            waiting.append(below)
    return {"nodes": list(nodes.values()), "edges": list(edges.values())}


def read_lineage(version: Version) -> dict[str, Any]:
    """The version's lineage; empty where it is damaged."""
    with contextlib.suppress(UserError):
        return version.lineage
    return {}


def children(models: Path, version: Version) -> list[str]:
    """The versions that were trained from this one."""
    return [str(found) for found in list_models(models) if base_of(found) == str(version)]


def base_of(version: Version) -> str | None:
    """What the version was trained from: a version, a hub id or a folder; None where nobody knows."""
    base = read_lineage(version).get("base")
    reference = base.get("reference") if isinstance(base, dict) else None
    return reference if isinstance(reference, str) else None
