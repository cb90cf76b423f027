"""Scores kept in ``evaluations/KEY``, so that a base model is scored once for all the runs that start from it.

KEY is a hash of everything that a score depends on: the model's fingerprint, the text or task with
its version, and the settings. An entry (``items.jsonl``, ``results.json``) is written beside,
checksummed and renamed into place, so a half-written one never counts; one that fails its
checksums is thrown away and computed again.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from rewarm.core.errors import DataError
from rewarm.core.manifest import MANIFEST, canonical, to_json, verify, write_manifest
from rewarm.core.storage import remove_folder, sha256_bytes, staged_folder, write_file

Item = dict[str, Any]
Warn = Callable[[str], None]
logger = logging.getLogger(__name__)


class Scores(NamedTuple):
    """One entry: an item a document, and what there is to say about all of them."""

    items: list[Item]
    results: dict[str, Any]


def key_of(facts: dict[str, Any]) -> str:
    """The folder name for scores that depend on ``facts``: 32 hex digits of their SHA-256."""
    return sha256_bytes(canonical(facts))[:32]


def cached(
    evaluations: Path,
    key_facts: dict[str, Any],
    compute: Callable[[], list[Item]],
    *,
    warn: Warn = logger.warning,
) -> list[Item]:
    """The items stored for ``key_facts``; computed and stored where there are none.

    ``key_facts`` must name all that the scores depend on, in JSON values. ``warn`` is told of a
    damaged entry, which is then computed again.
    """
    found = read_scores(evaluations, key_facts, warn) or write_scores(evaluations, key_facts, compute())
    return found.items


def read_scores(evaluations: Path, key_facts: dict[str, Any], warn: Warn = logger.warning) -> Scores | None:
    """The entry for ``key_facts``, or None; a damaged one is deleted, and ``warn`` is told."""
    path = evaluations / key_of(key_facts)
    if not path.is_dir():
        return None
    try:
        verify(path)
        return _read(path)
    except DataError as error:
        warn(f"stored scores are damaged and are computed again: {error}")
        remove_folder(path)
        return None


def write_scores(
    evaluations: Path, key_facts: dict[str, Any], items: Sequence[Item], results: dict[str, Any] | None = None
) -> Scores:
    """Store an entry for ``key_facts``, and return it as a later run will read it."""
    path = evaluations / key_of(key_facts)
    try:
        with staged_folder(path) as folder:
            write_file(folder / "items.jsonl", b"".join(orjson.dumps(item) + b"\n" for item in items))
            write_file(folder / "results.json", to_json({"depends_on": key_facts, "n": len(items), **(results or {})}))
            write_manifest(folder, {"schema": 1, "kind": "evaluation", "key": path.name})
    except OSError:
        if not (path / MANIFEST).is_file():  # else another run has stored the same scores meanwhile
            raise
    return _read(path)


class Answers:
    """What a model has answered of a task in work, a line each, so that a killed evaluation asks only for the rest.

    The harness tells it each answer as soon as it has it; of texts that are scored by windows, none until the last.
    With requests one by one the scores are the same to the last digit; answered together they round by their company.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, Any] = {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):  # the last one may be torn
                told = orjson.loads(line)
                self._known[told["request"]] = told["answer"]

    def get(self, kind: str, request: Any) -> Any:
        """The answer to a request, or None."""
        answer = None if request is None else self._known.get(self._name(kind, request))
        return tuple(answer) if isinstance(answer, list) else answer

    def add_partial(self, kind: str, request: Any, answer: Any) -> None:
        """Keep an answer; the harness knows this method by its name."""
        if self.path is not None and not (isinstance(answer, tuple) and not math.isfinite(answer[0])):
            with self.path.open("ab") as file:
                file.write(orjson.dumps({"request": self._name(kind, request), "answer": answer}) + b"\n")

    def forget(self) -> None:
        """The task is finished, and its scores are kept."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @staticmethod
    def _name(kind: str, request: Any) -> str:
        return sha256_bytes(orjson.dumps([kind, request], default=str, option=orjson.OPT_SORT_KEYS))[:32]


def _read(path: Path) -> Scores:
    items = [orjson.loads(line) for line in (path / "items.jsonl").read_bytes().splitlines()]
    return Scores(items, orjson.loads((path / "results.json").read_bytes()))
