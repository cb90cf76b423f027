"""What every stage of a run is given: the run, its recipe, its record, and the wish to stop.

A stage leaves files and a record (``stages/STAGE.json``, written last). A record whose inputs are
the same and whose outputs are still there means that the stage need not run again.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from rewarm.core.errors import DataError, Stopped, UserError
from rewarm.core.events import Event, EventLog
from rewarm.core.lines import log_line
from rewarm.core.manifest import MANIFEST, canonical, to_json, verify
from rewarm.core.run import Run
from rewarm.core.space import with_space
from rewarm.core.storage import sha256_bytes, sha256_file, write_file
from rewarm.core.workspace import Workspace
from rewarm.models.ranks import any_rank
from rewarm.recipe.load import recipe_of
from rewarm.recipe.recipe import Recipe

logger = logging.getLogger("rewarm")
T = TypeVar("T")
PROGRESS_SECONDS = 0.5


@dataclass
class StopSignal:
    """Whether the run should end. SIGTERM, SIGHUP and SIGINT are remembered; the stop file is looked for."""

    run: Run
    terminated: bool = False
    _looked: float = 0.0
    _asked: bool = False

    def listen(self) -> None:
        """Turn SIGTERM, SIGHUP (unless nohup has it ignored) and SIGINT of this process into a wish to stop."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.terminated |= number != signal.SIGINT
        self._asked = True

    @property
    def reason(self) -> str:
        return "terminated" if self.terminated else "stopped"

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._asked and now - self._looked > 0.2:
            self._looked, self._asked = now, self.run.stop_file.exists()
        return self._asked


@dataclass(frozen=True)
class _Shown:
    """The progress that was reported last, and when and where that piece of work began."""

    what: str
    started: float
    first: float
    done: float
    at: float


@dataclass
class Execution:
    """One attempt at a run."""

    run: Run
    workspace: Workspace
    recipe: Recipe
    log: EventLog
    stop: StopSignal
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each finished stage told the later ones."""
    performed: set[str] = field(default_factory=set)
    """The stages that this attempt has done itself."""
    hangs: tuple[int, int] = (0, -1)
    """How often this process has begun again since the newest checkpoint, and the step of that."""
    _shown: _Shown | None = None

    def progress(self, what: str, done: float, total: float, unit: str) -> None:
        """Report progress (at most twice a second), and end the stage if a stop was asked for.

        Raises:
            Stopped: if so.
        """
        if any_rank(self.stop()):  # all ranks of a training go on, or none
            raise Stopped
        self.show_progress(what, done, total, unit)

    def show_progress(self, what: str, done: float, total: float, unit: str) -> None:
        """Report progress without looking at the wish to stop."""
        if done and self.log.last_state == "paused":  # what the run waited for is there again
            self.log.state("running")
        now = time.monotonic()
        begun = self._shown
        if begun is None or begun.what != what or done < begun.done:
            begun = _Shown(what, now, done, done, 0.0)
        elif done < total and now - begun.at < PROGRESS_SECONDS:
            return
        speed = (done - begun.first) / (now - begun.started) if done > begun.first else None
        self._shown = replace(begun, done=done, at=now)
        self.log.progress(done, total, unit, what=what, speed=speed)

    def warn(self, message: str, **fields: Any) -> None:
        self.log.warning(message, **fields)

    def save(self, name: str, value: Any) -> Path:
        """Write ``value`` as JSON to ``name`` inside the run directory."""
        path = self.run.path / name
        write_file(path, to_json(value))
        return path

    def with_space(self, purpose: str, work: Callable[[], T]) -> T:
        """Do ``work``, and while the disk is too full for it or a server is away, wait.

        Raises:
            Stopped: if a stop is asked for meanwhile.
        """
        done = with_space(lambda: (work(),), purpose=purpose, folder=self.run.path, log=self.log, stop=self.stop)
        if done is None:
            raise Stopped
        return done[0]


def open_run(run: Run, log: EventLog, stop: StopSignal, hangs: tuple[int, int] = (0, -1)) -> Execution:
    """An attempt at ``run``, as its recipe and the command that started it say."""
    return Execution(run, Workspace(run.path.parent.parent), recipe_of(run), log, stop, hangs=hangs)


def echo(event: Event) -> None:
    """Say in log.txt what the record says."""
    if (line := log_line(event)) is not None:
        logger.log(logging.WARNING if event["kind"] == "warning" else logging.INFO, "%s", line)


@dataclass(frozen=True)
class Stage:
    """A step of the run: what its result depends on, and how it is made."""

    name: str
    inputs: Callable[[Execution], Any]
    work: Callable[[Execution], tuple[dict[str, Any], list[Path]]]
    """Returns facts for later stages, and the files (inside the run) that hold the result."""
    check: Callable[[Execution, dict[str, Any]], None] = lambda x, facts: None
    """Raises UserError where what the facts speak of, outside the run, is no longer as it was."""


def finished(x: Execution, stage: Stage) -> dict[str, Any] | None:
    """The facts of ``stage`` if its record matches its inputs and its outputs are unharmed."""
    try:
        record = x.run.stage(stage.name)
    except DataError as error:
        x.warn(f"{error.where}: {error.what}: stage {stage.name} runs again")
        return None
    if record is None or record["inputs"] != _hash(stage.inputs(x)):
        return None
    for name, digest in record["outputs"].items():
        file = x.run.path / name
        if not file.is_file() or sha256_file(file) != digest:
            x.warn(f"{name} is missing or was changed: stage {stage.name} runs again")
            return None
        if file.name == MANIFEST and (problem := _damage(file.parent)):
            x.warn(f"{problem}: stage {stage.name} runs again")
            return None
    facts: dict[str, Any] = record["facts"]
    try:
        stage.check(x, facts)
    except UserError as error:
        x.warn(f"{error}: stage {stage.name} runs again")
        return None
    return facts


def _damage(folder: Path) -> str | None:
    try:
        verify(folder)
    except UserError as error:
        return str(error)
    return None


def perform(x: Execution, stage: Stage) -> dict[str, Any]:
    """Run ``stage`` and write its record; on a full disk, or where a server is away, pause and go on."""
    started = time.time()
    inputs = _hash(stage.inputs(x))  # before the work: what changes meanwhile is not what was worked on

    def work() -> dict[str, Any]:
        facts, outputs = stage.work(x)
        record = {
            "inputs": inputs,
            "outputs": {str(path.relative_to(x.run.path)): sha256_file(path) for path in outputs},
            "facts": facts,
            "seconds": round(time.time() - started, 3),
        }
        write_file(x.run.stage_record(stage.name), to_json(record))
        return facts

    return x.with_space(f"stage {stage.name}", work)


def _hash(inputs: Any) -> str:
    return sha256_bytes(canonical(inputs))
