"""The scheduler: who waits goes to work when there is room, and who was cut off goes on by itself.

It keeps nothing in memory. Who waits, who works and what each wants is read from the run directories in every tick, so
that a server which takes over, or comes back, goes on where the last one was.
"""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
from pydantic import Field

from rewarm.core.amounts import size
from rewarm.core.config import Frozen
from rewarm.core.control import enqueue, give_up, launch
from rewarm.core.errors import Conflict, UserError
from rewarm.core.manifest import to_json
from rewarm.core.run import STAGES, Run, read_launch
from rewarm.core.slots import taken, visible
from rewarm.core.states import LIVE, RESUMED
from rewarm.core.storage import write_file
from rewarm.core.workspace import Workspace
from rewarm.recipe.facts import Machine
from rewarm.recipe.load import load_recipe
from rewarm.recipe.memory import memory_bytes
from rewarm.studio.context import Studio
from rewarm.studio.service.recipes import facts_of, resolved_without_texts
from rewarm.studio.service.settings import read_setting, setting
from rewarm.studio.store import runs as store

log = logging.getLogger("rewarm.studio")


@setting("scheduler")
class Limits(Frozen):
    """How much goes on at once, and what goes on by itself."""

    runs: int = Field(2, ge=1, le=1000, description="runs that work at the same time")
    resume_preempted: bool = Field(True, description="whether a run that was terminated goes on by itself")
    resume_lost: int = Field(3, ge=0, le=100, description="times that a lost run goes on by itself without progress")


@dataclass(frozen=True)
class Wants:
    """What a run takes of this computer."""

    gpus: int = 0
    memory: int = 0
    """Bytes of main memory; 0 where that is not known, or it trains on a GPU."""


@dataclass(frozen=True)
class Room:
    """What is free."""

    runs: int
    gpus: int
    memory: int
    idle: bool
    """Whether no run works: then one may try its luck, and says itself what it lacks."""

    def lacks(self, wants: Wants) -> str | None:
        """Why a run has to wait."""
        if self.runs < 1:
            return "waits: as many runs are at work as the setting allows"
        if wants.gpus and wants.gpus > self.gpus:
            return f"waits for GPUs: wants {wants.gpus}, free are {max(0, self.gpus)}"
        if wants.memory and wants.memory > self.memory and not self.idle:
            return f"waits for {size(wants.memory)} of memory; {size(max(0, self.memory))} are free"
        return None

    def without(self, wants: Wants, runs: int) -> Room:
        """What is left. A run that has to wait keeps its place too: a small one behind it cannot starve it."""
        return Room(self.runs - runs, self.gpus - wants.gpus, self.memory - wants.memory, self.idle and not runs)


def tick(studio: Studio) -> None:
    """Resume what was cut off, and launch what there is room for, the most urgent first."""
    with studio.database.read() as session:
        live, cut_off = store.live(session), store.ours(session, RESUMED)
    limits = read_setting(studio, Limits)
    runs = [Run(studio.workspace.runs / id) for id in (*live, *cut_off)]
    waiting, working = [], []
    for run in runs:
        try:
            if (state := run.status().state) in RESUMED and run.id in cut_off:
                state = _resume(studio, run, state, limits)
            queued = run.queued() if state == "queued" else None
        except Conflict:
            continue  # somebody else was faster
        except (UserError, OSError) as error:
            log.warning("%s cannot be scheduled: %s", run.id, error)
            continue
        if queued is not None:
            waiting.append((-queued["priority"], queued["time"], run.id, queued["arguments"]))
        elif state in LIVE:
            working.append(run)
    if waiting:
        room = _room(studio.workspace, working, limits)
        _launch(studio, room, [(Run(studio.workspace.runs / id), rest) for *_, id, rest in sorted(waiting)])


def _launch(studio: Studio, room: Room, waiting: list[tuple[Run, list[str]]]) -> None:
    reasons: dict[str, str] = {}
    for run, arguments in waiting:
        wants = _wants(studio.workspace, run.path)
        reason = room.lacks(wants)
        room = room.without(wants, 0 if reason else 1)
        if reason is None:
            try:
                process = launch(run, arguments, queued=True)
                threading.Thread(target=process.wait, daemon=True).start()  # or it would stay as a zombie
                with studio.database.write() as session:
                    store.upsert(session, run)
            except Conflict:
                continue  # it was stopped or started by somebody a moment ago
            except (UserError, OSError) as error:
                reason = str(error)
        if reason is not None:
            reasons[run.id] = reason
    with studio.database.read() as session:
        said = store.waits(session)
    if new := {id: reason for id, reason in reasons.items() if said.get(id) != reason}:
        with studio.database.write() as session:
            for id, reason in new.items():
                store.explain(session, id, reason)


def _room(workspace: Workspace, working: list[Run], limits: Limits) -> Room:
    machine = Machine.here()
    slots = [f"cuda-{gpu}" for gpu in visible(len(machine.gpus))]
    names = {run.id for run in working}
    elsewhere = [slot for slot, holder in taken(workspace.root / "locks", slots).items() if holder not in names]
    # What a run that has only begun will take is not taken yet: both what is free now and what will be counts.
    memory = machine.memory
    gpus = len(slots) - len(elsewhere)
    for run in working:
        wants = _wants(workspace, run.path)
        gpus, memory = gpus - wants.gpus, memory - wants.memory
    available = min(memory, psutil.virtual_memory().available)
    return Room(limits.runs - len(working), gpus, available, idle=not working)


@functools.lru_cache(maxsize=1000)
def _wants(workspace: Workspace, path: Path) -> Wants:
    """What a run wants, from its recipe, which never changes; nothing where only the run itself can find that out."""
    run, machine = Run(path), Machine.here()
    try:
        given = read_launch(run)
        recipe = load_recipe(run.recipe, given["overrides"], Path(given["folder"]))
        count = recipe.infrastructure.world_size // recipe.infrastructure.nodes  # of this computer
        if machine.device(recipe.infrastructure.devices) == "cuda":
            return Wants(gpus=count) if count <= len(machine.gpus) else Wants()
        facts, resolved = facts_of(workspace, recipe.base_model), resolved_without_texts(workspace, recipe)
    except (UserError, OSError):
        return Wants()
    if facts is None or resolved is None:
        return Wants()
    return Wants(memory=count * memory_bytes(facts, resolved.hyperparameters, resolved.place))


def _resume(studio: Studio, run: Run, state: str, limits: Limits) -> str:
    """Put a run that was cut off back into the queue, if it may; returns its state then.

    A lost one may try so many times without coming further, which is a checkpoint or a stage more; then it has failed.
    """
    if not (limits.resume_preempted if state == "preempted" else limits.resume_lost):
        return state
    path, progress = run.path / "control" / "resumed", _progress(run)
    before: dict[str, Any] = orjson.loads(path.read_bytes()) if path.exists() else {"times": 0, "progress": [-1, -1]}
    times = 1 if progress > before["progress"] else before["times"] + 1
    if state == "lost" and times > limits.resume_lost:
        give_up(run, f"it was lost {times} times without coming further, and is not resumed by itself any more")
        state = "failed"
    else:
        write_file(path, to_json({"times": times, "progress": progress}))
        enqueue(run, [], 0, read_launch(run).get("by") or "")
        state = "queued"
    with studio.database.write() as session:
        store.upsert(session, run)
    return state


def _progress(run: Run) -> list[int]:
    """Finished stages, and the step of the newest checkpoint."""
    steps = [int(path.name[5:]) for path in run.checkpoints.glob("step-*") if path.name[5:].isdigit()]
    return [sum(run.stage_record(stage).is_file() for stage in STAGES), max(steps, default=-1)]
