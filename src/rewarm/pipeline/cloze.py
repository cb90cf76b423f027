"""Which cloze items a base model knows already: what ``rewarm data cloze --model`` leaves out, or keeps alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import orjson

from rewarm.core.workspace import Workspace
from rewarm.evaluate.harness import run_tasks
from rewarm.models.folder import Progress
from rewarm.pipeline.base import locate
from rewarm.recipe.facts import Machine

Keep = Literal["unknown", "known"]


def judged(
    items: Sequence[dict[str, str]], model: str, keep: Keep, workspace: Workspace, progress: Progress
) -> list[dict[str, str]]:
    """The items whose completion the model does not say of itself (greedily), or does.

    Raises:
        UserError: if the model cannot be read.
    """
    folder = locate(model, workspace, progress).folder
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "cloze.jsonl"
        path.write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in items))
        device = "cuda" if Machine.here().gpus else "cpu"
        scored = run_tasks(folder, [str(path)], device=device, progress=progress)["cloze"].items
    knows = {int(item["id"]): item["acc"] == 1 for item in scored}
    return [item for i, item in enumerate(items) if knows[i] == (keep == "known")]
