"""The benchmark items of a recipe's own tasks, as a file that the texts are held against before training."""

from __future__ import annotations

from pathlib import Path

import orjson

from rewarm.core.manifest import canonical
from rewarm.core.storage import sha256_bytes, write_file
from rewarm.core.workspace import Workspace
from rewarm.evaluate.harness import hash_tasks, task_texts
from rewarm.models.folder import Progress
from rewarm.recipe.recipe import Recipe
from rewarm.recipe.steps import Decontaminate, Step


def with_items(recipe: Recipe, workspace: Workspace, progress: Progress | None) -> Recipe:
    """The recipe with a file of items wherever a ``decontaminate`` step names none.

    Args:
        progress: without it nothing is loaded: where no run has written the items yet, the recipe stays as it is.

    Raises:
        UserError: for an unknown task. DataError: if a task's data cannot be loaded.
    """
    texts = (*recipe.data.sources, *filter(None, [recipe.data.replay]))
    every = [*recipe.data.steps, *(step for text in texts for step in text.steps or ())]
    if not recipe.evaluation.all_tasks or not any(_is_open(step) for step in every):
        return recipe
    if (path := _items_file(recipe, workspace, progress)) is None:
        return recipe

    def filled(steps: list[Step] | None) -> list[Step] | None:
        return steps and [step.model_copy(update={"path": str(path)}) if _is_open(step) else step for step in steps]

    sources = [source.model_copy(update={"steps": filled(source.steps)}) for source in recipe.data.sources]
    replay = recipe.data.replay and recipe.data.replay.model_copy(update={"steps": filled(recipe.data.replay.steps)})
    changes = {"steps": filled(recipe.data.steps), "sources": sources}
    found = recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})
    return found.replaying(replay) if replay else found


def _is_open(step: Step) -> bool:
    return isinstance(step, Decontaminate) and step.path is None


def _items_file(recipe: Recipe, workspace: Workspace, progress: Progress | None) -> Path | None:
    """The items of the recipe's tasks, written once for each set of tasks."""
    asked = recipe.evaluation
    folder, data = asked.folders
    name = sha256_bytes(canonical([sorted(asked.all_tasks), hash_tasks(asked.all_tasks, folder, data)]))[:32]
    path = workspace.datasets / ".benchmarks" / f"{name}.jsonl"
    if not path.exists():
        if progress is None:
            return None
        write_file(
            path, b"".join(orjson.dumps(item) + b"\n" for item in task_texts(asked.all_tasks, folder, data, progress))
        )
    return path
