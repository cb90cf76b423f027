"""What is done to a run from outside: started, queued, stopped, deleted, by one at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from rewarm.core import process, states
from rewarm.core.errors import Conflict, DataError, NotFound, UserError
from rewarm.core.events import EventLog
from rewarm.core.manifest import to_json
from rewarm.core.run import Run, read_launch
from rewarm.core.storage import create_file, locked, remove_folder, write_file


def enqueue(run: Run, arguments: list[str], priority: int, by: str) -> None:
    """Let the run wait for the scheduler, which launches it with ``arguments``.

    A run that has said how it ended may wait already while its process takes its last seconds.

    Raises:
        Conflict: if it runs, or waits already.
    """
    if (state := run.status().state) in states.LIVE and not run.queue_file.exists():
        remedy = f"rewarm stop {run.id}"
        raise Conflict(f"this run is running already: {state}", where=run.id, remedy=remedy)
    if run.elsewhere():
        remedy = f"rewarm resume {run.id} --take-over"
        raise Conflict("this run may still run on another computer", where=run.id, remedy=remedy)
    record = {"priority": priority, "arguments": arguments, "by": by, "time": time.time()}
    try:
        run.queue_file.parent.mkdir(exist_ok=True)
        create_file(run.queue_file, to_json(record))
    except FileNotFoundError:
        raise NotFound("there is no such run", where=run.id) from None
    except FileExistsError:
        raise Conflict("this run is queued already", where=run.id) from None


def set_priority(run: Run, priority: int) -> None:
    """Raises ``Conflict`` unless the run waits for the scheduler."""
    refusal = Conflict("this run does not wait in the queue", where=run.id)
    with _alone(run, refusal):
        if (record := run.queued()) is None:
            raise refusal
        write_file(run.queue_file, to_json({**record, "priority": priority}))


def launch(run: Run, arguments: list[str], take_over: bool = False, *, queued: bool = False) -> subprocess.Popen[bytes]:
    """Start ``python -m rewarm.pipeline DIR`` in a session of its own; its output goes to log.txt.

    Args:
        take_over: also where another computer, gone by now, said last that it works on the run.
        queued: only if it still waits in the queue.

    Raises:
        UserError: if the run runs already.
    """
    folder = Path(read_launch(run)["folder"])
    if not take_over and run.elsewhere():
        host = (run.process() or {})["host"]
        raise Conflict(
            f"this run may still run on another computer, {host}",
            where=run.id,
            remedy=f"stop it there; or, if that computer is gone: rewarm resume {run.id} --take-over",
        )
    follow = f"look at it with: rewarm runs logs -f {run.id}"
    with _alone(run, Conflict("this run is running already", where=run.id, remedy=follow)):
        if queued and not run.queue_file.exists():
            raise Conflict("this run does not wait in the queue any more", where=run.id)
        run.stop_file.unlink(missing_ok=True)  # an old wish; one that comes from here on is honoured
        mark: dict[str, Any] = {"attempt": run.attempts() + 1}
        write_file(run.launch_mark, to_json(mark))
    started = _start(run, folder if folder.is_dir() else run.path, arguments)
    with contextlib.suppress(psutil.Error, OSError):  # it may have ended already
        write_file(run.launch_mark, to_json(mark | process.identity(started.pid)))
    run.queue_file.unlink(missing_ok=True)  # last: a run whose launcher is killed before is launched again
    return started


def _start(run: Run, folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "rewarm.pipeline", str(run.path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,  # a task's data files are seen from the recipe's
            start_new_session=True,
            # Threads that spin for long while they wait make a step ten times slower as soon as anything else wants a
            # core; those that never spin cost a quarter. This is some tens of microseconds.
            # Texts, paths and records are UTF-8, whatever the locale of who starts the run.
            env={"GOMP_SPINCOUNT": "20000", **os.environ, "PYTHONUTF8": "1"},
        )


def stop_run(run: Run, reason: str = "") -> None:
    """Ask the run to end. One that no process works on (it waits in the queue, or to be resumed) is stopped at once.

    The wish reaches another computer that shares the workspace, too.

    Raises:
        Conflict: if it has ended.
    """

    def busy() -> None:  # what waits in the queue is not, though its last process may take some seconds to go
        if (run.alive() or run.just_started() or run.elsewhere()) and not run.queue_file.exists():
            raise _Busy("a process works on this run")

    try:
        # Whoever has the lock for a moment only is waited for: a wish from before a launch would be forgotten.
        with sole_process(run, wait=busy):
            busy()
            _stop_idle(run, reason)
    except _Busy:
        run.request_stop(reason)


class _Busy(Conflict):
    pass


def give_up(run: Run, reason: str) -> None:
    """Let a lost run be failed, so that it is not resumed by itself. Raises ``Conflict`` where it runs again."""
    with _alone(run, Conflict("this run is running", where=run.id)):
        if not run.queue_file.exists():
            _stop_idle(run, reason, "failed")


def _stop_idle(run: Run, reason: str, into: str = "stopped") -> None:
    """Under the run's lock, and while it has no process, the one that writes its record is this one."""
    state = run.status().state
    if state not in states.LIVE | states.RESUMED or run.elsewhere():
        raise Conflict(f"is not running: {state}", where=run.id, remedy="rewarm runs ls")
    with contextlib.closing(EventLog(run.events, run.attempts())) as log:
        if log.last_state in states.LIVE:
            log.state("lost", reason="its process ended without a word")
        if log.last_state is None or log.last_state in states.RESUMED:
            log.state(into, reason=reason or into)
    run.queue_file.unlink(missing_ok=True)


def terminate(run: Run) -> None:
    """Send SIGTERM to the run's process, if it is truly the run's."""
    if (record := run.process()) and process.lives(record):
        os.kill(record["pid"], signal.SIGTERM)


def remove_run(run: Run) -> None:
    """Delete the run. Raises ``UserError`` while a process works on it, here or maybe on another computer."""
    with sole_process(run):  # held as long as the process lives, whatever process.json has become
        with contextlib.suppress(DataError):
            if run.alive() or run.just_started() or run.elsewhere():
                raise Conflict("this run is running", where=run.id, remedy=f"rewarm stop {run.id}")
        remove_folder(run.path)


@contextlib.contextmanager
def sole_process(run: Run, wait: Callable[[], object] | None = None) -> Iterator[None]:
    """A context in which no second process can work on the run; ``wait`` as for ``locked``.

    Raises:
        NotFound: if somebody has deleted the run.
        Conflict: if another process works on it.
    """
    gone, lock = NotFound("there is no such run", where=run.id), run.path / "control" / "lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, f"run {run.id}", wait))
        except (FileExistsError, FileNotFoundError):  # deleted at this very moment
            raise gone from None
        if not run.recipe.is_file():
            with contextlib.suppress(OSError):  # the lock has made the folder again; one that holds more is no run
                lock.unlink()
                lock.parent.rmdir()
                run.path.rmdir()
            raise gone
        yield


@contextlib.contextmanager
def _alone(run: Run, refusal: UserError) -> Iterator[None]:
    """Hold the run's lock while no process works on it; raises ``refusal`` where one does or is about to."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole_process(run))
        except Conflict:
            raise refusal from None
        if run.alive() or run.just_started():
            raise refusal
        yield
