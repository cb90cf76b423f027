"""A configuration of LLaMA-Factory, of Axolotl or of the reference platform, as a recipe with notes."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from rewarm.core.errors import UserError
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.imports import axolotl, llamafactory
from rewarm.recipe.imports.draft import Draft, Note
from rewarm.recipe.load import parse_recipe, read_text, read_yaml
from rewarm.recipe.verdicts import refuse

_ORDER = ("name", "base_model", "data", "hyperparameters", "evaluation", "trackers")


@dataclass(frozen=True)
class Imported:
    """What a file became: the recipe's text, and what happened to each key."""

    program: str
    text: str
    notes: list[Note]

    @property
    def counts(self) -> Counter[str]:
        return Counter(note.outcome for note in self.notes)

    def to_json(self) -> dict[str, Any]:
        notes = [asdict(note) for note in self.notes]
        return {"program": self.program, "recipe": yaml.safe_load(self.text), "counts": self.counts, "notes": notes}


def import_file(path: Path, out: Path) -> Imported:
    """The file ``path`` as a recipe that is to lie in the folder ``out``.

    Raises:
        UserError: where it is of none of the three programs, or asks for what is no continual pretraining.
    """
    given, _ = read_yaml(read_text(path), str(path))
    program, module = _program(given, path)
    names, defaults = (dict(module.NAMES), dict(module.DEFAULTS)) if module else ({}, {})
    if "evaluation_strategy" in given and "eval_strategy" not in given:
        names["eval_strategy"] = "evaluation_strategy"
    d = Draft(program, given, path.resolve().parent, out.resolve(), names, defaults)
    try:
        (module.convert if module else _platform)(d, path.stem)
    except UserError as error:
        raise UserError(error.what, where=error.where or path, remedy=error.remedy) from None
    except (TypeError, ValueError, AttributeError) as error:
        why = f"a value is not of the form that {program} takes: {error}"
        raise UserError(why, where=path, remedy="mend it") from None
    d.drop_rest()
    ordered = {key: d.recipe[key] for key in _ORDER if key in d.recipe}
    text = f"# From {path.name} ({program}) by rewarm import.\n" + yaml.safe_dump(ordered, sort_keys=False, width=110)
    refuse(parse_recipe(text, (), out, f"{path}, as a recipe"))
    return Imported(program, text, d.notes)


def _program(given: dict[str, Any], path: Path) -> tuple[str, Any]:
    """Whose configuration it is, by the keys that only one of them has."""
    if {"base_model", "data"} <= given.keys():
        raise UserError("this is a recipe already", where=path, remedy=f"rewarm check {path}")
    if given.keys() & {"model_name_or_path", "cutoff_len", "stage", "per_device_train_batch_size"}:
        return "LLaMA-Factory", llamafactory
    if given.keys() & {"datasets", "pretraining_dataset", "micro_batch_size", "sequence_len", "sample_packing"}:
        return "Axolotl", axolotl
    if given.keys() & {*Hyperparameters.model_fields, "deepspeed_zero_stage"}:
        return "FPT AI Studio", None
    why = "none of its keys is of LLaMA-Factory, Axolotl or FPT AI Studio"
    raise UserError(why, where=path, remedy="docs/coming-from.md shows what each looks like")


def _platform(d: Draft, default_name: str) -> None:
    """The platform's JSON block, whose names are ours; it says nothing of model and data."""
    d.start([], default_name, "base_model")
    d.data([], [])
    d.asked |= Hyperparameters.model_fields.keys()
    for key in d.given:
        if key in Hyperparameters.model_fields or key == "deepspeed_zero_stage":
            d.put(key, f"hyperparameters.{key}", d.given[key])
