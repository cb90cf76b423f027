"""A recipe's YAML text to the frozen tree, with the line of every mistake.

YAML 1.1 reads ``no`` as false and ``1e-5`` as a string, and lets the last of two equal keys win.
A recipe says ``checkpoint_strategy: no`` and ``learning_rate: 1e-5`` and means both, so the scalars
are read by YAML 1.2's core schema, and a key given twice is refused. JSON is read too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rewarm.core.config import Path as KeyPath
from rewarm.core.config import dotted, validate
from rewarm.core.errors import DataError, UserError
from rewarm.core.run import Run, read_launch
from rewarm.recipe.recipe import Recipe, Replay

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan, "nan": math.nan}
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


def load_recipe(path: Path, overrides: Sequence[str] = (), folder: Path | None = None) -> Recipe:
    """Read the recipe in ``path`` and apply ``key.path=value`` overrides.

    Relative paths in it are seen from ``folder``, by default the folder that the file lies in.

    Raises:
        UserError: naming file, line and field of everything that is wrong.
    """
    return parse_recipe(read_text(path), overrides, folder or path.resolve().parent, str(path))


def recipe_of(run: Run, settled: bool = True) -> Recipe:
    """The recipe of a run; ``settled``: with the replay that its first stage chose where it is left open.

    Raises:
        UserError: as ``load_recipe``.
    """
    launch = read_launch(run)
    recipe = load_recipe(run.recipe, launch["overrides"], Path(launch["folder"]))
    try:
        chosen = settled and (run.stage("prepare") or {"facts": {}})["facts"].get("replay")
    except DataError:  # a damaged record: the stage runs again
        return recipe
    return recipe.replaying(Replay.model_validate(chosen)) if chosen else recipe


def read_text(path: Path) -> str:
    """The text of a recipe file. Raises ``UserError`` where there is none."""
    try:
        if path.exists() and not path.is_file():  # a device or a pipe has no end
            raise UserError("cannot be read: it is no file", where=path, remedy="give the path of a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError("there is no such recipe", where=path, remedy="give the path of a YAML file") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    if len(data) > MAX_BYTES:
        raise UserError(f"a recipe of more than {MAX_BYTES:,} bytes, which is the limit", where=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 (byte {error.start})", where=path) from None


def parse_recipe(text: str, overrides: Sequence[str], folder: Path, source: str = "recipe.yaml") -> Recipe:
    """The recipe in ``text``; see ``load_recipe``."""
    value, lines = read_yaml(text, source)
    for override in overrides:
        lines.update(_override(value, override))

    def where(path: KeyPath) -> str:
        for end in range(len(path), 0, -1):
            if (place := lines.get(path[:end])) is not None:
                return f"{place}: "
        return f"{source}: "

    return validate(Recipe, value, where).located(folder)


def read_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The mapping that YAML or JSON text holds, and the place of each value. Raises ``UserError``."""
    tree = _Tree(source)
    value = tree.read(text, ())
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise UserError("a recipe is a mapping of keys to values", where=f"{source}:1", remedy="see docs/recipe.md")
    return value, tree.lines


class _Tree:
    """YAML to values; ``lines`` says where each of them stands."""

    def __init__(self, source: str) -> None:
        self.source, self.lines, self._nodes = source, dict[KeyPath, str](), 0

    def read(self, text: str, path: KeyPath) -> Any:
        """The value in ``text``, which stands at ``path`` of the recipe."""
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            where = f"{self.source}:{error.problem_mark.line + 1 if error.problem_mark else 1}"
            raise UserError(f"not YAML: {error.problem}", where=where, remedy="see docs/recipe.md") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"not YAML: {str(error).splitlines()[0]}", where=self.source) from None
        return None if node is None else self._value(node, path)

    def _place(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}"

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, self._place(node))
        self._nodes += 1
        if self._nodes > MAX_NODES:  # a few lines of aliases to aliases can stand for more than any memory holds
            raise UserError(f"more than {MAX_NODES:,} values, aliases included", where=self._place(node))
        if len(path) > 32:
            raise UserError("nested too deeply, or an alias that contains itself", where=self._place(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        text = self._text(node)
        return _scalar(text) if getattr(node, "style", None) is None else text

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError("a key must be a word, not a list or a mapping", where=self._place(key_node))
            key = self._text(key_node)
            inner = (*path, key)
            if key in mapping:
                raise UserError(
                    f"{dotted(inner)}: given twice, first in line {self.lines[inner].rpartition(':')[2]}",
                    where=self._place(key_node),
                    remedy="keep one of them",
                )
            self.lines[inner] = self._place(key_node)
            mapping[key] = self._value(value_node, inner)
        return mapping

    def _text(self, node: yaml.Node) -> str:
        """What a scalar says; JSON writes a character beyond the first 65,536 as two escaped halves."""
        try:
            text = str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise UserError("half a character (a lone surrogate)", where=self._place(node)) from None
        if "\0" in text:
            raise UserError("a NUL character, which no name or path can hold", where=self._place(node))
        return text


def _scalar(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2."""
    word = text.lower()
    if word in _WORDS:
        return _WORDS[word]
    if word in _SPECIAL:
        return _SPECIAL[word]
    if len(text) < 100:
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def _override(value: dict[str, Any], override: str) -> dict[KeyPath, str]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override!r} is not key=value", remedy="for example hyperparameters.learning_rate=1e-5")
    path: KeyPath = tuple(
        int(part) if part.isdigit() else part for part in re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")
    )
    name = f"override {dotted(path)}"
    tree = _Tree(name)
    new = tree.read(text, path)
    here: Any = value
    for part in path[:-1]:
        if isinstance(here, dict) and isinstance(part, str):
            here = here.setdefault(part, {})
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            raise UserError(f"{name}: there is no {part!r} in the recipe")
    last = path[-1]
    named = isinstance(here, dict) and isinstance(last, str)
    numbered = isinstance(here, list) and isinstance(last, int) and last < len(here)
    if not named and not numbered:
        raise UserError(f"{name}: there is no {last!r} in the recipe")
    here[last] = new
    return dict.fromkeys((path, *tree.lines), name)
