"""What the workspace takes of the disk, what may go, how much it may grow, and what runs took of devices and money.

Sizes are measured in the background and kept; no request ever walks a folder to count its bytes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, Field

from rewarm.core.amounts import size
from rewarm.core.config import Frozen
from rewarm.core.errors import ResourceError, UserError
from rewarm.core.events import read_events
from rewarm.core.run import Run, list_runs, read_launch
from rewarm.core.storage import TEMPORARY, bytes_of
from rewarm.core.workspace import Workspace
from rewarm.hub.models import list_models
from rewarm.recipe.load import load_recipe
from rewarm.recipe.recipe import Infrastructure
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service import cleaning
from rewarm.studio.service.cleaning import Item, Rules
from rewarm.studio.service.settings import read_setting, setting
from rewarm.studio.store import usage as store
from rewarm.studio.store.audit import note
from rewarm.studio.store.runs import live

_TOGETHER = 100
"""Runs that are written down at once."""
_MOST_REST = 200.0
"""Seconds of rest in all: a loop that is away for ten minutes counts as late, and the server as failing."""
_IDLE = ("queued", "paused")
_PART_OF_RUN = "checkpoint"
_CACHES = ("cache", "evaluations", "replay", "backups")


def _costs(value: str | None) -> str | None:
    Infrastructure(cost_per_hour=value)  # the recipe's own rule
    return value


@setting("housekeeping")
class Limits(Frozen):
    """How much the workspace may take, and what is cleaned up."""

    quota_bytes: int | None = Field(None, ge=0, description="bytes that the workspace should stay below")
    over_quota: Literal["warn", "refuse"] = Field("warn", description="what becomes of new runs above the quota")
    reserve_bytes: int = Field(10_000_000_000, ge=0, description="bytes of the disk below which there is a warning")
    cost_per_hour: Annotated[str | None, AfterValidator(_costs)] = Field(
        None, description="of one device, where a recipe names no other", examples=["2.50 EUR"]
    )
    automatic: bool = Field(False, description="whether what may go by the rules goes by itself, once a day")
    rules: Rules = Rules()


class Kind(BaseModel):
    kind: str = Field(examples=["run"])
    count: int
    bytes: int


class Overview(BaseModel):
    """The disk and what takes it."""

    disk_bytes: int
    free_bytes: int
    workspace_bytes: int
    coming_bytes: int = Field(description="that live runs will still write of checkpoints")
    kinds: list[Kind] = Field(description="checkpoints are a part of their runs, and not counted twice")
    warnings: list[str]


class Size(BaseModel):
    name: str
    bytes: int
    measured: float = Field(description="when, in seconds since 1970")


class Usage(BaseModel):
    """What the runs of one run, pipeline, user or month took."""

    key: str = Field(examples=["2026-11"])
    runs: int
    device_hours: float
    joules: float
    cost: float | None
    currency: str


# --- verbs ---


def overview(studio: Studio, user: User) -> Overview:
    """The disk, what takes it, and what there is to warn of."""
    user.check(Role.viewer)
    disk = shutil.disk_usage(studio.workspace.root)
    with studio.database.read() as session:
        kinds = store.totals(session)
    total = sum(count for kind, (_, count) in kinds.items() if kind != _PART_OF_RUN)
    coming, rules = _coming(studio), read_setting(studio, Limits)
    return Overview(
        disk_bytes=disk.total,
        free_bytes=disk.free,
        workspace_bytes=total,
        coming_bytes=coming,
        kinds=[Kind(kind=kind, count=count, bytes=each) for kind, (count, each) in sorted(kinds.items())],
        warnings=_warnings(rules, disk.free, total, coming),
    )


def _warnings(rules: Limits, free: int, total: int, coming: int) -> list[str]:
    found = []
    if free - coming < rules.reserve_bytes:
        also = f", and live runs will write {size(coming)} of checkpoints" if coming else ""
        found.append(f"the disk will be full: {size(free)} are free{also}; delete something, or clean up by rule")
    if rules.quota_bytes is not None and total > rules.quota_bytes:
        found.append(f"the workspace takes {size(total)}, more than its quota of {size(rules.quota_bytes)}")
    return found


def check_quota(studio: Studio) -> None:
    """Raises ``ResourceError`` where the workspace is above its quota and new runs are refused then."""
    rules = read_setting(studio, Limits)
    if rules.quota_bytes is None or rules.over_quota == "warn":
        return
    with studio.database.read() as session:
        total = sum(count for kind, (_, count) in store.totals(session).items() if kind != _PART_OF_RUN)
    if total > rules.quota_bytes:
        raise ResourceError(
            f"the workspace takes {size(total)}, more than its quota of {size(rules.quota_bytes)}",
            remedy="delete runs or clean up by rule, or ask an administrator for more; it is measured every 5 minutes",
        )


def sizes(studio: Studio, user: User, kind: str, limit: int, offset: int = 0) -> list[Size]:
    """Of a kind (run, checkpoint, dataset, version, cache, other), the largest first."""
    user.check(Role.viewer)
    with studio.database.read() as session:
        return [Size.model_validate(row, from_attributes=True) for row in store.largest(session, kind, limit, offset)]


def preview(studio: Studio, user: User, rules: Rules | None = None) -> list[Item]:
    """What would go by these rules, or by those that are set."""
    user.check(Role.editor)
    return cleaning.plan(studio.workspace, rules or read_setting(studio, Limits).rules, time.time())


def clean(studio: Studio, user: User, rules: Rules | None = None) -> list[Item]:
    """Delete what may go by these rules, or by those that are set; returns what went."""
    user.check(Role.administrator)
    used = rules or read_setting(studio, Limits).rules
    gone = cleaning.clean(studio.workspace, used, time.time())
    with studio.database.write() as session:
        detail = {"rules": used.model_dump(), "gone": [f"{item.kind} {item.name}" for item in gone[:100]]}
        note(session, time.time(), user.name, "clean", "workspace/all", detail | {"bytes": sum(i.bytes for i in gone)})
    measure(studio, time.time())
    return gone


def usage(
    studio: Studio, user: User, by: Literal["run", "pipeline", "user", "month"], month: str | None
) -> list[Usage]:
    """Device-hours, joules and money; one entry for each currency where there are several."""
    user.check(Role.viewer)
    with studio.database.read() as session:
        rows = store.usage(session, by, month)
    return [
        Usage(key=key, runs=runs, device_hours=seconds / 3600, joules=joules, cost=cost or None, currency=currency)
        for key, currency, runs, seconds, joules, cost in rows
    ]


# --- what goes on in the background ---


def measure(studio: Studio, now: float, rest: float = 0.0) -> None:
    """Count the bytes of what is new or was changed, and forget what is gone.

    Args:
        rest: seconds to wait for each second of work; thousands of runs that are new keep nobody else from working.
    """
    with studio.database.read() as session:
        known = store.measured(session)
    runs, there, limits = list_runs(studio.workspace), set[store.Key](), read_setting(studio, Limits)
    left = _MOST_REST
    for begin in range(0, len(runs), _TOGETHER):
        sizes: dict[store.Key, int] = {}
        took: list[dict[str, Any]] = []
        for run in runs[begin : begin + _TOGETHER]:
            began = time.monotonic()
            with contextlib.suppress(OSError):  # it was deleted meanwhile
                if _measure_run(run, known, there, sizes):
                    took.append(_took(run, limits, now))
            pause = min(rest * (time.monotonic() - began), left)
            left -= pause
            time.sleep(pause)
        with studio.database.write() as session:
            facts = store.run_facts(session, [row["run"] for row in took])
            for row in took:
                row["user"], row["pipeline"], row["joules"] = facts.get(row["run"], ("", "", 0.0))
            store.put_sizes(session, sizes, now)
            store.put_usage(session, took, sizes)
    found = {key: path for key, path in _places(studio.workspace).items() if key[0] not in ("run", _PART_OF_RUN)}
    fixed = ("dataset", "version")  # they never change
    new = {key: _bytes(path) for key, path in found.items() if key[0] not in fixed or key not in known}
    with studio.database.write() as session:
        store.put_sizes(session, new, now)
        store.drop_sizes(session, known.keys() - there - found.keys())


def _places(workspace: Workspace) -> dict[store.Key, Path]:
    places = {("version", str(version)): version.path for version in list_models(workspace.models)}
    for folder in workspace.datasets.iterdir() if workspace.datasets.is_dir() else ():
        if (folder / "manifest.json").is_file():
            places["dataset", folder.name] = folder
        elif folder.is_dir() and not folder.name.startswith(TEMPORARY):
            places["cache", f"datasets/{folder.name}"] = folder
    for item in workspace.root.iterdir():
        if item.name not in ("runs", "datasets", "models", "locks") and not item.name.startswith(TEMPORARY):
            places["cache" if item.name in _CACHES else "other", item.name] = item
    return places


def _bytes(path: Path) -> int:
    with contextlib.suppress(OSError):
        return bytes_of(path) if path.is_dir() else path.stat().st_size
    return 0


def _measure_run(run: Run, known: dict[store.Key, float], there: set[store.Key], sizes: dict[store.Key, int]) -> bool:
    """Put the run's sizes into ``sizes``, unless nothing has changed since it was measured; whether that is so."""
    steps = list(run.checkpoints.glob("step-*"))
    keys: dict[store.Key, Path] = {(_PART_OF_RUN, f"{run.id}/{path.name}"): path for path in steps}
    there |= {("run", run.id), *keys}
    looked = known.get(("run", run.id), 0.0)
    touched = [path.stat().st_mtime for path in (run.path, run.events, run.checkpoints) if path.exists()]
    if looked > max(touched) + 5 and keys.keys() <= known.keys():
        return False
    sizes |= {key: _bytes(path) for key, path in keys.items() if key not in known}
    sizes["run", run.id] = bytes_of(run.path)
    return True


def _took(run: Run, limits: Limits, now: float) -> dict[str, Any]:
    """What the run took of devices and money so far, by the names of the columns."""
    infrastructure = _infrastructure(run)
    seconds = device_seconds(run) * infrastructure.world_size
    amount, _, currency = (infrastructure.cost_per_hour or limits.cost_per_hour or "0").partition(" ")
    cost = float(amount) * seconds / 3600
    return {"run": run.id, "month": _month(run, now), "device_seconds": seconds, "cost": cost, "currency": currency}


def _infrastructure(run: Run) -> Infrastructure:
    try:
        return load_recipe(run.recipe, read_launch(run)["overrides"], run.path).infrastructure
    except (UserError, OSError):
        return Infrastructure()


def _month(run: Run, now: float) -> str:
    if found := re.match(r"(\d{4})(\d{2})\d{2}T", run.id):
        return f"{found[1]}-{found[2]}"
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")


def device_seconds(run: Run) -> float:
    """How long the run was at work, over all attempts; not while it waited in a queue or for a full disk."""
    total, before, attempt, state = 0.0, 0.0, 0, ""
    for event, _ in read_events(run.events):
        if event["attempt"] == attempt and state not in _IDLE:
            total += max(0.0, event["time"] - before)
        before, attempt = event["time"], event["attempt"]
        state = event["state"] if event["kind"] == "state" else state
    return total


def _coming(studio: Studio) -> int:
    """Bytes that live runs will still take with checkpoints: as many as they keep, and one in the making."""
    with studio.database.read() as session:
        runs = [Run(studio.workspace.runs / id) for id in live(session)]
    total = 0
    for run in runs:
        steps = (
            sorted(run.checkpoints.glob("step-*"), key=lambda path: path.stat().st_mtime)
            if run.checkpoints.is_dir()
            else []
        )
        if steps:
            total += _bytes(steps[-1]) * max(0, _kept(run) + 1 - len(steps))
    return total


def _kept(run: Run) -> int:
    with contextlib.suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
        value: Any = orjson.loads((run.path / "resolved.json").read_bytes())["hyperparameters"]["number_of_checkpoints"]
        return max(2, int(value["value"] if isinstance(value, dict) else value))
    return 2
