"""The recipe that Rewarm would choose for a model and a corpus: what ``rewarm recommend`` prints.

The replay is what a run would choose by itself, written down; what ``resolve`` recommends anyway stays unset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewarm.core.storage import expand_home
from rewarm.core.workspace import Workspace
from rewarm.data.sample import sample_texts, with_own_replay
from rewarm.models.folder import Progress
from rewarm.pipeline.base import locate
from rewarm.pipeline.distance import measure_shift
from rewarm.recipe.facts import Machine
from rewarm.recipe.recipe import Recipe
from rewarm.recipe.resolve import Origin, resolve
from rewarm.recipe.shift import Shift


@dataclass(frozen=True)
class Recommendation:
    """A recipe as it would be written down, and the reasons for what it says and for what it leaves open."""

    recipe: dict[str, Any]
    shift: Shift
    hyperparameters: dict[str, Origin]


def recommend(model: str, corpus: str, workspace: Workspace, progress: Progress) -> Recommendation:
    """The recipe for this model, this corpus and this machine.

    Raises:
        UserError: if model or corpus cannot be read.
    """
    if Path(corpus).exists():
        corpus = str(Path(corpus).resolve())
    if model.startswith((".", "~")):
        model = str(expand_home(model).resolve())
    base = locate(model, workspace, progress)
    source = {"name": "corpus", "path": corpus}
    plain = {"name": _name(corpus), "base_model": base.reference, "data": {"sources": [source]}}
    recipe = Recipe.model_validate(plain)
    shift = measure_shift(recipe, base, progress)
    plain["data"] = with_own_replay(recipe, base.folder, shift.share).model_dump(exclude_unset=True)["data"]
    plain["evaluation"] = {"general_tasks": ["in_context"]}
    sizes = {"corpus": sample_texts(recipe, base.folder)["corpus"].tokens}
    resolved = resolve(Recipe.model_validate(plain), base.facts, sizes, Machine.here())
    chosen = {name: origin for name, origin in resolved.origins.items() if origin.origin == "recommended"}
    return Recommendation(plain, shift, chosen)


def _name(corpus: str) -> str:
    stem = Path(corpus).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:100] or "corpus"
