"""A recipe in the making: what is taken from another program's file, and a note on what became of each key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from rewarm.core.config import nearest
from rewarm.core.errors import UserError
from rewarm.core.storage import expand_home

_SECRET = re.compile(r"token$|api_key|secret|webhook|password")


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
    """The file's keys, and the recipe so far.

    Args:
        names: the program's word for each argument of Hugging Face's Trainer, where it has its own.
        defaults: what the program takes for a key that the file lacks.
        derived: defaults that come from other keys of the file, of which a note says so already.
        out: the folder that the recipe will lie in.
    """

    program: str
    given: Mapping[str, Any]
    folder: Path
    out: Path
    names: Mapping[str, str]
    defaults: dict[str, Any]
    derived: set[str] = field(default_factory=set)
    recipe: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def key(self, name: str) -> str:
        return self.names.get(name, name)

    def value(self, name: str) -> Any:
        """What the file gives for the Trainer's ``name``, or the program's default; None for neither."""
        given = self.given.get(self.key(name))
        return self.defaults.get(name) if given is None else given

    def put(self, name: str, path: str, value: Any, because: str = "") -> None:
        """Set the field at ``path`` of the recipe; with a reason, what was given is changed by that."""
        *parents, last = path.split(".")
        here = self.recipe
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
        self.tell(name, path, value, because)

    def tell(self, name: str, path: str, value: Any, because: str = "") -> None:
        """Note that the field at ``path`` comes from the Trainer's ``name``."""
        key = self.key(name)
        given = self.given.get(key)
        if given is None and name in self.derived:
            return
        if given is None:
            note = Note(key, None, "filled", path, value, because or f"the default of {self.program}")
        else:
            note = Note(key, given, "changed" if because else "mapped", path, value, because)
        self.notes.append(note)

    def same(self, name: str, hyperparameter: str) -> None:
        """A hyperparameter that means the same here."""
        if (value := self.value(name)) is not None:
            self.put(name, f"hyperparameters.{hyperparameter}", value)

    def drop(self, name: str, because: str) -> None:
        """Note why a key has no place in a recipe, if the file has it."""
        key = self.key(name)
        if self.given.get(key) is not None and not any(note.key == key for note in self.notes):
            shown = "(not shown)" if _SECRET.search(key) else self.given[key]
            self.notes.append(Note(key, shown, "dropped", None, None, because))

    def drop_rest(self, reasons: Mapping[str, str]) -> None:
        """Note each key that nothing was said of yet, by the first pattern of ``reasons`` (names, ``*``) it fits."""
        for key, value in self.given.items():
            if value in (None, [], {}, ""):
                self.notes.append(Note(key, None, "dropped", None, None, "empty"))
            elif (because := _reason(key, reasons)) is not None:
                self.drop(key, because)
            elif all(note.key != key for note in self.notes):
                known = [note.key for note in self.notes] + " ".join(reasons.values()).split()
                close = nearest(key, [name for name in known if "*" not in name])
                hint = f"; did you mean {close!r}?" if close else ""
                self.drop(key, f"unknown: no argument of {self.program} that Rewarm knows of{hint}")

    def find(self, path: str) -> Path | None:
        """The file or folder that a relative path means: seen from the file, from a folder above, or from here."""
        expanded = expand_home(path)
        places = [self.folder, *list(self.folder.parents)[:4], Path.cwd()]
        return next((place / expanded for place in places if (place / expanded).exists()), None)

    def written(self, path: Path) -> str:
        """A path as the recipe says it: from its own folder where it lies in there."""
        path = path.resolve()
        return f"./{path.relative_to(self.out)}" if path.is_relative_to(self.out) else str(path)

    def base_model(self, name: str) -> None:
        """The base model: a folder that is there, or a hub id."""
        given = self.given.get(self.key(name))
        if not isinstance(given, str):
            self.put(name, "base_model", "./base-model", "not in the file: put the folder or hub id of your model here")
            return
        there = self.find(given)
        self.put(name, "base_model", self.written(there) if there and there.is_dir() else given)

    def name(self, keys: Iterable[str], default: str) -> None:
        """The recipe's name, by the first of the keys that is given: what the program called the run or its folder."""
        first, *rest = [*(key for key in keys if self.given.get(key)), ""]
        value = plain_name(Path(str(self.given.get(first, default))).name) or "imported"
        self.put(first or "name", "name", value, "the run's name; Rewarm keeps its folders in the workspace")
        for key in rest:
            self.drop(key, "the run has one name")


def plain_name(text: str) -> str:
    """``text`` as a name in a recipe: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:100]


def _reason(key: str, reasons: Mapping[str, str]) -> str | None:
    for because, names in reasons.items():
        if any(fnmatchcase(key, name) for name in names.split()):
            return because
    return None


def text(draft: Draft, name: str, paths: list[str], text_column: str | None, taken: list[dict[str, Any]]) -> None:
    """Add a text to ``taken``, under a name that no other has."""
    plain, names = plain_name(name) or "text", {one["name"] for one in taken}
    unique = next(n for n in (plain, *(f"{plain}-{i}" for i in range(2, 10_000))) if n not in names)
    source: dict[str, Any] = {"name": unique, "path": paths[0] if len(paths) == 1 else paths}
    if text_column and not all(path.endswith(".txt") for path in paths):
        source["text_column"] = text_column
    taken.append(source)


def place(draft: Draft, path: str, where: str) -> str | None:
    """How a recipe names a local path, a data set of the hub or an address; None, with a note, where it cannot.

    Raises:
        UserError: for a path that is there neither on this disk nor, by its form, anywhere else.
    """
    if re.match(r"(s3|https?|hf)://", path):
        return path
    if "://" in path:
        draft.notes.append(
            Note(where, path, "dropped", None, None, "Rewarm reads local files, s3://, hf:// and https://")
        )
        return None
    if (there := draft.find(path)) is not None:
        return draft.written(there)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not path.startswith("."):
        return f"hf://datasets/{path}"
    raise UserError(f"{where}: there is no file or folder {path!r}", remedy="put it where the file says, or mend it")
