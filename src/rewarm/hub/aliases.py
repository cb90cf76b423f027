"""Aliases and tags of model versions: what people say of them, beside the versions, which never change.

``models/NAME/aliases.json`` holds which version each alias means now, and what the report of a version must show
before the alias may mean it; ``models/NAME/tags.json`` holds each version's tags. Both are replaced as a whole.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from rewarm.core.config import Frozen
from rewarm.core.errors import Conflict, ModelError, NotFound, UserError
from rewarm.core.manifest import MANIFEST, to_json
from rewarm.core.storage import locked, write_file

K = TypeVar("K", bound=str | int)
V = TypeVar("V")

ALIASES, TAGS = "aliases.json", "tags.json"
REPORT = "report/report.json"
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,63}")
_MOST_TAGS = 50


class Demands(Frozen):
    """What the report must show, in per cent of the base's bits per byte, row by row and with its interval."""

    most_forgetting: float | None = Field(None, description="upper bound of every panel and of the replayed text")
    least_gain: float | None = Field(None, description="what the lower bound of every source must exceed")


class Alias(Frozen):
    """Which version an alias means; None while only its demands are known."""

    version: int | None = None
    by: str = ""
    time: float = 0.0
    demands: Demands = Demands()


_ALL: TypeAdapter[dict[str, Alias]] = TypeAdapter(dict[str, Alias])
_ALL_TAGS: TypeAdapter[dict[int, dict[str, str]]] = TypeAdapter(dict[int, dict[str, str]])


def read_aliases(home: Path) -> dict[str, Alias]:
    """The aliases of the model in ``models/NAME``. Raises ``ModelError`` where the file is damaged."""
    return _read(home / ALIASES, _ALL)


def read_tags(home: Path) -> dict[int, dict[str, str]]:
    """The tags of each version of the model in ``models/NAME``. Raises ``ModelError`` where the file is damaged."""
    return _read(home / TAGS, _ALL_TAGS)


def _read(path: Path, form: TypeAdapter[dict[K, V]]) -> dict[K, V]:
    try:
        return form.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise ModelError("this file is damaged", where=path, remedy="correct it, or delete it to begin anew") from None


def aliases_of(home: Path, number: int) -> list[str]:
    """The aliases that mean this version."""
    return sorted(name for name, alias in read_aliases(home).items() if alias.version == number)


def point(home: Path, alias: str, number: int, by: str) -> Alias:
    """Let ``alias`` mean version ``number``, which exists.

    Raises:
        UserError: if ``alias`` cannot be one.
        NotFound: if the version was deleted meanwhile.
        Conflict: if the version's report does not show what the alias demands.
    """
    _check_name(alias)
    with _changing(home / ALIASES, _ALL) as found:
        if not (home / str(number) / MANIFEST).is_file():
            raise NotFound("there is no such version", where=f"{home.name}@{number}")
        demands = found[alias].demands if alias in found else Demands()
        meets(demands, home / str(number), f"{alias} cannot mean {home.name}@{number}")
        found[alias] = Alias(version=number, by=by, time=time.time(), demands=demands)
        return found[alias]


def demand(home: Path, alias: str, demands: Demands) -> Alias:
    """Let ``alias`` demand this of the versions that it is to mean from now on. Raises ``UserError``: see ``point``."""
    _check_name(alias)
    with _changing(home / ALIASES, _ALL) as found:
        found[alias] = found.get(alias, Alias()).model_copy(update={"demands": demands})
        return found[alias]


def unpoint(home: Path, alias: str) -> None:
    """Let ``alias`` mean nothing; what it demands stays. Raises ``NotFound`` where it means nothing already."""
    with _changing(home / ALIASES, _ALL) as found:
        if alias not in found or found[alias].version is None:
            known = ", ".join(name for name, known in found.items() if known.version is not None) or "none"
            raise NotFound(f"there is no alias {alias!r}; known are: {known}", where=home.name)
        found[alias] = found[alias].model_copy(update={"version": None})


@contextlib.contextmanager
def unnamed(home: Path, number: int) -> Iterator[None]:
    """While this lasts, no alias comes to mean the version. Raises ``Conflict`` where one does already."""
    with _changing(home / ALIASES, _ALL) as found:
        if names := sorted(name for name, alias in found.items() if alias.version == number):
            raise Conflict(f"it is {', '.join(names)}", where=f"{home.name}@{number}", remedy="remove the alias first")
        yield


def tag(home: Path, number: int, tags: Mapping[str, str]) -> None:
    """Give version ``number`` these tags instead of those that it has. Raises ``UserError`` for what cannot be one."""
    if len(tags) > _MOST_TAGS:
        raise UserError(f"{len(tags)} tags are too many", remedy=f"take at most {_MOST_TAGS}")
    for key, value in tags.items():
        if not _KEY.fullmatch(key) or len(value) > 200 or not value.isprintable():
            raise UserError(
                "a tag is a name of at most 64 letters, digits, spaces and . _ / -, and a value of at most 200 "
                "printable characters",
                where=key[:64],
            )
    with _changing(home / TAGS, _ALL_TAGS) as found:
        found.pop(number, None)
        found.update({number: dict(tags)} if tags else {})


def _check_name(alias: str) -> None:
    if not _ALIAS.fullmatch(alias):
        raise UserError(
            f"{alias[:80]!r} cannot be an alias",
            remedy="start with a letter; use letters, digits, _ and - only, at most 64 of them",
        )


@contextlib.contextmanager
def _changing(path: Path, form: TypeAdapter[dict[K, V]]) -> Iterator[dict[K, V]]:
    """What the file holds, to be changed; written when the context ends without an error."""
    with locked(path.with_name(f".{path.name}.lock"), path.name, lambda: None):
        found = _read(path, form)
        before = form.dump_python(found, mode="json")
        yield found
        after = form.dump_python(found, mode="json")
        if after != before:
            write_file(path, to_json({str(key): value for key, value in after.items()}))


def meets(demands: Demands, version: Path, refusal: str) -> None:
    """Raise ``Conflict``, naming the row, unless the version's report shows what is demanded."""
    bounds = (("gain", demands.least_gain), ("forgetting", demands.most_forgetting))
    for role, limit in bounds:
        if limit is None:
            continue
        rows = _rows(version, role)
        if not rows:
            raise Conflict(f"{refusal}: its report has no {role} in bits per byte", where=version / REPORT)
        for row in rows:
            bound = row["percent_high"]  # of the change of bits per byte: the worse end, for either role
            known = isinstance(bound, int | float)
            if known and (bound <= limit if role == "forgetting" else -bound > limit):
                continue
            shown = "has no interval" if not known else f"reaches {-bound if role == 'gain' else bound:.2f} %"
            asked = f"at most {limit:g} %" if role == "forgetting" else f"more than {limit:g} %"
            raise Conflict(
                f"{refusal}: the {role} of {row['task']!r} {shown}, where {asked} is demanded",
                where=version / REPORT,
                remedy="take another version, or ask an administrator to change what the alias demands",
            )


def _rows(version: Path, role: str) -> list[dict[str, Any]]:
    """The report's rows in bits per byte, where the text is one that a role is measured on."""
    try:
        report = orjson.loads((version / REPORT).read_bytes())
        return [
            row for row in report["rows"]
            if row["role"] == role and row["metric"] == "bits_per_byte" and row["kind"] != "task"
        ]  # fmt: skip
    except FileNotFoundError:
        return []
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ModelError("the report is damaged", where=version / REPORT) from None
