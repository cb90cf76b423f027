"""What can be said of a recipe while somebody writes it: what it may hold, what is wrong, what has no effect.

The same parser, the same rules and the same words as ``rewarm check``; figures that need the texts are the engine's.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import BaseModel, Field

from rewarm.core.errors import Forbidden, Invalid, UserError
from rewarm.core.storage import write_file
from rewarm.core.workspace import Workspace
from rewarm.hub.models import find
from rewarm.recipe.facts import Machine, ModelFacts
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.load import parse_recipe, read_yaml
from rewarm.recipe.recipe import Recipe, is_items_file
from rewarm.recipe.resolve import Resolved, resolve
from rewarm.recipe.verdicts import advice, ignored, refuse
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service.engine import ask
from rewarm.studio.service.settings import Folders, read_setting

SOURCE = "recipe.yaml"
READABLE = ("uploads", "datasets", "models", "runs", "quickstart", "replay")
"""Folders of the workspace that a recipe may read from, whoever wrote it."""
GROUPS = {
    "General": "batch_size",
    "Training runtime": "disable_gradient_checkpointing",
    "LoRA": "additional_target",
    "DPO": "dpo_label_smoothing",
    "Others": "checkpoint_steps",
}
"""The groups of the hyperparameters, in their order, by the first field of each."""


class Mistake(BaseModel):
    """One thing that is wrong."""

    pointer: str = Field(description="JSON pointer into the recipe", examples=["/hyperparameters/epochs"])
    line: int | None = Field(description="of the YAML text, from 1", examples=[7])
    message: str = Field(examples=["recipe.yaml:7: hyperparameters.epochs: input should be greater than or equal to 1"])


class WithoutEffect(BaseModel):
    field: str = Field(examples=["hyperparameters.lora_rank"])
    because: str = Field(examples=['finetuning_type is "full"'])


class Verdict(BaseModel):
    """What ``rewarm check`` would say of the recipe itself."""

    valid: bool
    mistakes: list[Mistake]
    ignored: list[WithoutEffect]
    advice: list[str]
    tokens_per_update: int | None = Field(
        description="tokens of one optimizer step over all devices, where they are known", examples=[2097152]
    )
    estimate: dict[str, Any] | None = Field(None, description="of the engine, on request: what `rewarm check` prints")


class Converted(BaseModel):
    yaml: str
    recipe: dict[str, Any]


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe; each hyperparameter has its ``group``."""
    found = Recipe.model_json_schema()
    firsts, group = {first: name for name, first in GROUPS.items()}, ""
    for name, field in found["$defs"]["Hyperparameters"]["properties"].items():
        group = firsts.get(name, group)
        field["group"] = group
    return found


def convert(text: str, into: str = "") -> Converted:
    """A recipe as YAML and as JSON, whichever it is given as.

    A block of hyperparameters alone, as other platforms' forms show it, takes the place of those of the recipe
    ``into``. Raises ``UserError`` where either is neither.
    """
    value, _ = read_yaml(text, SOURCE)
    if value and value.keys() <= {*Hyperparameters.model_fields, "deepspeed_zero_stage"}:
        whole, _ = read_yaml(into, SOURCE)
        value = {**whole, "hyperparameters": value}
    return Converted(yaml=yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110), recipe=value)


def read(workspace: Workspace, text: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in ``text``, whose relative paths are seen from the workspace. Raises ``UserError``."""
    recipe = parse_recipe(text, overrides, workspace.root, SOURCE)
    refuse(recipe)
    return recipe


def check(
    studio: Studio, user: User, text: str, overrides: Sequence[str] = (), *, with_estimate: bool = False
) -> Verdict:
    """What is wrong with a recipe, what of it has no effect, and what an experienced colleague would say.

    Args:
        with_estimate: ask the engine for tokens, memory, disk and time as well, which takes seconds.

    Raises:
        Forbidden: for an estimate, which reads the texts through connections, unless they may use those.
    """
    if with_estimate:
        user.check(Role.editor)
    verdict = Verdict(valid=False, mistakes=[], ignored=[], advice=[], tokens_per_update=None)
    try:
        recipe = read(studio.workspace, text, overrides)
        check_paths(studio, user, recipe)
        resolved = resolved_without_texts(studio.workspace, recipe)
    except UserError as error:
        verdict.mistakes = _mistakes(error)
        return verdict
    values = resolved.hyperparameters if resolved else _certain(recipe)
    devices = recipe.infrastructure.world_size
    given = recipe.hyperparameters.model_fields_set
    verdict.valid = True
    verdict.ignored = [WithoutEffect(field=i.field, because=i.because) for i in ignored(given, values, devices)]
    verdict.advice = advice(recipe, values)
    if resolved or {"batch_size", "gradient_accumulation_steps", "max_sequence_length"} <= given:
        update = values.batch_size * values.gradient_accumulation_steps * devices
        verdict.tokens_per_update = update * values.max_sequence_length or None
    if with_estimate:
        verdict.estimate = _estimate(studio.workspace, text, overrides)
    return verdict


def _certain(recipe: Recipe) -> Hyperparameters:
    """The values as far as they do not depend on the base model."""
    values = recipe.hyperparameters
    if "checkpoint_strategy" not in values.model_fields_set and not values.save_best_checkpoint:
        values = values.model_copy(update={"checkpoint_strategy": "steps"})
    return values


def _mistakes(error: UserError) -> list[Mistake]:
    if isinstance(error, Invalid):
        return [Mistake(pointer=_pointer(path), line=_line(text), message=text) for path, text in error.mistakes]
    return [Mistake(pointer="", line=_line(error.where or error.what), message=str(error))]


def _pointer(path: tuple[str | int, ...]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _line(text: str) -> int | None:
    found = re.match(rf"{re.escape(SOURCE)}:(\d+)", text)
    return int(found[1]) if found else None


def _estimate(workspace: Workspace, text: str, overrides: Sequence[str]) -> dict[str, Any]:
    # The file lies in the workspace, which is where relative paths are seen from.
    with tempfile.NamedTemporaryFile("w", dir=workspace.root, prefix=".tmp-check-", suffix=".yaml") as file:
        write_file(path := Path(file.name), text)
        found = ask(workspace, ["check", "--", str(path), *overrides])
    assert isinstance(found, dict)
    return found


def facts_of(workspace: Workspace, base_model: str) -> ModelFacts | None:
    """The shape of a base model, where its config.json is on this computer already."""
    if base_model.startswith(("/", ".", "~")):
        folder: Path | None = Path(base_model).expanduser()
    elif "@" in base_model:
        folder = find(workspace.models, base_model).path
    else:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        found = None
        with contextlib.suppress(HFValidationError):  # no id of a hub; the run says so
            found = try_to_load_from_cache(base_model, "config.json")
        folder = Path(found).parent if isinstance(found, str) else None
    if folder is None:
        return None
    try:
        config = orjson.loads((folder / "config.json").read_bytes())
        return ModelFacts.of(config) if isinstance(config, dict) else None
    except (OSError, orjson.JSONDecodeError):
        return None


def resolved_without_texts(workspace: Workspace, recipe: Recipe) -> Resolved | None:
    """Every value of the run as far as the base model decides it, as if there were plenty of text.

    None where nothing is known of the base model here. Raises ``UserError`` for what this machine cannot do.
    """
    facts = None
    with contextlib.suppress(UserError):  # a model that is not there is found out by the run
        facts = facts_of(workspace, recipe.base_model)
    if facts is None or not facts.layers:
        return None
    return resolve(recipe, facts, {text.name: 10**9 for text in recipe.data.trained}, Machine.here())


def check_paths(studio: Studio, user: User, recipe: Recipe) -> None:
    """Raise ``Forbidden`` unless all that the recipe reads is open to it.

    Open is what lies in the workspace's folders of data and models, and what an administrator opens by the setting
    ``folders``. An administrator may name any path, and alone task files, since these may carry Python.
    """
    if user.role.includes(Role.administrator):
        return
    if recipe.evaluation.task_path is not None:
        raise Forbidden(
            "task files may carry Python, so an administrator must save this recipe", where="evaluation.task_path"
        )
    opened = [Path(folder) for folder in read_setting(studio, Folders).readable]
    allowed = [path.resolve() for path in (*(studio.workspace.root / name for name in READABLE), *opened)]
    for where, path in _local_paths(recipe):
        parts = Path(path).parts
        if ".." in parts or not any(Path(path).resolve().is_relative_to(folder) for folder in allowed):
            raise Forbidden(
                "a recipe may not read this path",
                where=f"{where}: {path}",
                remedy="upload it, use a connection, or ask an administrator to open its folder (setting: folders)",
            )


def _local_paths(recipe: Recipe) -> list[tuple[Literal["base_model", "path", "steps"], str]]:
    """Every path of this computer that the located recipe names."""
    found: list[tuple[Literal["base_model", "path", "steps"], str]] = []
    if recipe.base_model.startswith(("/", ".", "~")):
        found.append(("base_model", recipe.base_model))
    if recipe.evaluation.data_path is not None:
        found.append(("path", recipe.evaluation.data_path))
    found += [("path", task) for task in recipe.evaluation.all_tasks if is_items_file(task)]

    def seen(path: str) -> str:
        found.append(("steps", path))
        return path

    texts = [*recipe.evaluation.panels, *recipe.data.sources]
    replay = recipe.data.replay
    if replay is not None and replay.generate is None:
        texts.append(replay)
    for text in texts:
        found += [("path", path) for path in text.paths if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path)]
        for step in text.steps or ():
            step.located(seen)
    for step in recipe.data.steps:
        step.located(seen)
    return found
