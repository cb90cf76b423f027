"""A recipe in the making: what is taken from another program's file, and a note on what became of each key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rewarm.core.config import nearest
from rewarm.core.errors import UserError
from rewarm.core.storage import expand_home
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.imports.dropped import DROPPED, SECRET

Texts = list[dict[str, Any]]


@dataclass(frozen=True)
class Note:
    """What became of one key: taken as it is, changed, dropped, or filled in because the file lacks it."""

    key: str
    given: Any
    outcome: Literal["mapped", "changed", "dropped", "filled"]
    field: str | None
    value: Any
    because: str


@dataclass
class Draft:
    """The file's keys, and the recipe so far, which will lie in ``out``."""

    program: str
    given: Mapping[str, Any]
    folder: Path
    out: Path
    names: Mapping[str, str]  # the program's word for an argument of Hugging Face's Trainer, where it has its own
    defaults: Mapping[str, Any]  # what the program takes for a key that the file lacks
    derived: dict[str, Any] = field(default_factory=dict)  # what follows from other keys, whose notes say so
    asked: set[str] = field(default_factory=set)  # keys that count: what a misspelt one can have meant
    recipe: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def value(self, name: str) -> Any:
        """What the file gives for the Trainer's ``name``, or the program's default; None for neither."""
        self.asked.add(key := self.names.get(name, name))
        given = self.given.get(key)
        return self.derived.get(name, self.defaults.get(name)) if given is None else given

    def put(self, name: str, path: str, value: Any, because: str = "") -> None:
        """Set a hyperparameter, or a field by its path; with a reason, what was given is changed by that."""
        path = f"hyperparameters.{path}" if path in Hyperparameters.model_fields else path
        *parents, last = path.split(".")
        here = self.recipe
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
        self.tell(name, path, value, because)

    def same(self, *names: str, **fields: str) -> None:
        """Set the hyperparameters that mean the same here, under their own names or those given."""
        for name, path in ({one: one for one in names} | fields).items():
            if (value := self.value(name)) is not None:
                self.put(name, path, value)

    def tell(self, name: str, path: str, value: Any, because: str = "") -> None:
        """Note that the field at ``path`` comes from the Trainer's ``name``."""
        self.asked.add(key := self.names.get(name, name))
        if (given := self.given.get(key)) is not None:
            self.notes.append(Note(key, given, "changed" if because else "mapped", path, value, because))
        elif name not in self.derived:
            self.notes.append(Note(key, None, "filled", path, value, because or f"the default of {self.program}"))

    def drop(self, key: str, given: Any, because: str) -> None:
        """Note why something has no place in a recipe."""
        self.notes.append(Note(key, given, "dropped", None, None, because))

    def drop_rest(self) -> None:
        """Note each key that nothing was said of yet: empty, by the first pattern of DROPPED it fits, or unknown."""
        for key in [key for key in self.given if all(note.key != key for note in self.notes)]:
            value, others = self.given[key], sorted(self.asked - {key})
            because = next((reason for reason, pattern in DROPPED.items() if re.search(pattern, key)), "")
            close = nearest(key, others)
            if because and (key in self.asked or not difflib.get_close_matches(key, others, 1, cutoff=0.88)):
                close = None  # a pattern takes in what is misspelt too, so only a near miss is one
            unknown = f"unknown: no argument of {self.program} that Rewarm knows of"
            hint = f"; did you mean {close!r}?" if close else ""
            if value in (None, [], {}, ""):
                self.drop(key, None, "empty")
            else:
                self.drop(key, "(not shown)" if because == SECRET else value, (because or unknown) + hint)

    def find(self, path: str) -> Path | None:
        """The file or folder that a relative path means: seen from the file, from a folder above, or from here."""
        places = [self.folder, *list(self.folder.parents)[:4], Path.cwd()]
        return next((there for place in places if (there := place / expand_home(path)).exists()), None)

    def written(self, path: Path) -> str:
        """A path as the recipe says it: from its own folder where it lies in there."""
        path = path.resolve()
        return f"./{path.relative_to(self.out)}" if path.is_relative_to(self.out) else str(path)

    def place(self, path: str, where: str) -> str | None:
        """How a recipe names a path, a data set of the hub or an address; None, with a note, where it cannot.

        Raises:
            UserError: for a path that is there neither on this disk nor, by its form, anywhere else.
        """
        if re.match(r"(s3|https?|hf)://", path):
            return path
        if "://" in path:
            self.drop(where, path, "Rewarm reads local files, s3://, hf:// and https://")
            return None
        if (there := self.find(path)) is not None:
            return self.written(there)
        if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path):
            return f"hf://datasets/{path}"
        raise UserError(f"{where}: there is no file or folder {path!r}", remedy="put it where the file says")

    def text(
        self, where: str, given: Any, name: str, paths: list[str], column: Any, said: list[str], to: Texts
    ) -> None:
        """Add a text to ``to``, under a name that no other has, with a note: ``said`` is what differs."""
        plain, names = plain_name(name) or "text", {one["name"] for one in to}
        unique = next(n for n in (plain, *(f"{plain}-{i}" for i in range(2, 10_000))) if n not in names)
        to.append({"name": unique, "path": paths[0] if len(paths) == 1 else paths})
        if all(path.endswith(".txt") for path in paths):
            said.append("a .txt file is one document here, a document a line there: make it jsonl to keep them apart")
        elif column:
            to[-1]["text_column"] = column
        outcome: Any = "changed" if said else "mapped"
        self.notes.append(Note(where, given, outcome, f"source {unique}", to[-1]["path"], "; ".join(said)))

    def start(self, names: list[str], default: str, base_model: str) -> None:
        """The recipe's name, by what the program called the run or its folder; and the model, a folder or a hub id."""
        first = next((name for name in names if self.given.get(name)), "name")
        name = plain_name(Path(str(self.given.get(first, default))).name) or "imported"
        self.put(first, "name", name, "the run's name; Rewarm keeps its folders in the workspace")
        model, why = self.value(base_model), ""
        if not isinstance(model, str):
            model, why = "./base-model", "not in the file: put the folder or hub id of your model here"
        elif (there := self.find(model)) and there.is_dir():
            model = self.written(there)
        self.put(base_model, "base_model", model, why)

    def data(self, sources: Texts, panels: Texts) -> None:
        """What is trained on, what is scored besides, and the share that is held out."""
        if not sources:
            sources.append({"name": "text", "path": "./corpus"})
            self.tell(
                "data.sources", "data.sources", "./corpus", "not in the file: put your text there, or mend its path"
            )
        self.recipe |= {"data": {"sources": sources}} | ({"evaluation": {"panels": panels}} if panels else {})
        if isinstance(share := self.value("val_size"), float) and 0 < share < 0.5:
            self.put("val_size", "data.held_out", share)
        if self.value("packing") is False:
            self.tell("packing", "(always)", True, "documents are always packed, and none attends to another")


def plain_name(text: str) -> str:
    """``text`` as a name in a recipe: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:100]
