"""``python -m rewarm.pipeline RUN [--from STAGE or CHECKPOINT]``: goes through the stages of one run.

This is the process that a run is. The terminal and the Studio start it and read what it appends to
``events.jsonl``; neither has to live while it does. Where torchrun starts several, the first is the run and the
others train with it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

from rewarm.core import states
from rewarm.core.control import sole_process
from rewarm.core.errors import EXIT_BUG, EXIT_DONE, EXIT_INTERRUPTED, EXIT_RESOURCE, EXIT_TERMINATED, Stopped, UserError
from rewarm.core.events import EventLog
from rewarm.core.run import STAGES, Run, claim
from rewarm.core.storage import allow_many_files, as_user_error, is_disk_full, remove_folder, sweep
from rewarm.pipeline import rank
from rewarm.pipeline.baseline import BASELINE
from rewarm.pipeline.devices import own_devices
from rewarm.pipeline.evaluate import EVALUATE
from rewarm.pipeline.execution import Execution, StopSignal, echo, finished, logger, open_run, perform
from rewarm.pipeline.prepare import PREPARE
from rewarm.pipeline.publish import PUBLISH
from rewarm.pipeline.ranks import dismiss
from rewarm.pipeline.trackers import telling
from rewarm.pipeline.train import TRAIN
from rewarm.train.checkpoint import list_checkpoints, step_of
from rewarm.train.job import is_out_of_memory
from rewarm.train.parallel import begun_again, launched

ORDER = (PREPARE, BASELINE, TRAIN, EVALUATE, PUBLISH)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m rewarm.pipeline", description=__doc__)
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument(
        "--from", dest="first", help="run this stage, or training from this checkpoint on, and what follows"
    )
    parser.add_argument("--hangs", type=int, nargs=2, default=(0, -1), help=argparse.SUPPRESS)  # see begin_again
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    allow_many_files()
    if launched() and int(os.environ["RANK"]):
        rank.end([str(options.run)])
    run = Run(options.run.absolute())  # the workspace is where its name stands, not where a link leads
    try:
        first = None if begun_again() else options.first
        if first:
            run.check_beginning(first)
        with sole_process(run):
            return attempt(run, first, tuple(options.hangs))
    except UserError as error:
        logger.error("%s", error)
        return error.exit_code
    except OSError as error:  # the folder cannot be written to
        logger.error("%s", known := as_user_error(error))
        return known.exit_code if known else EXIT_BUG


def attempt(run: Run, first: str | None, hangs: tuple[int, int]) -> int:
    """One attempt at ``run``; its end is in the record before this returns the exit code."""
    stop = StopSignal(run)
    stop.listen()
    log: EventLog | None = None
    x: Execution | None = None
    try:
        record = claim(run)
        log = EventLog(run.events, record["attempt"], echo)
        if not hangs[0]:
            if log.last_state in states.LIVE:
                log.state("lost", reason="its process ended without a word")
            log.state("starting", pid=record["pid"], host=record["host"])
        log.state("running")
        if log.was_damaged:
            log.warning(f"{run.events} was damaged: what stood behind the last whole event is in events.damaged now")
        x = open_run(run, log, stop, hangs)
        _stages(x, first)
        dismiss(x)
        x.with_space("the record", lambda: x.log.state("succeeded"))
        return EXIT_DONE
    except Stopped as stopped:
        reason, wish = stopped.reason or stop.reason, run.stop_wish()
        terminated = reason == "terminated" and wish is None  # a run that somebody stops is not resumed by itself
        state, code = ("preempted", EXIT_TERMINATED) if terminated else ("stopped", EXIT_INTERRUPTED)
        reason = wish or reason
        with contextlib.suppress(OSError):  # on a full disk the exit code is all that is left to say it with
            if log:
                log.state("stopping", reason=reason)
                log.state(state, reason=reason, **({"remedy": stopped.remedy} if stopped.remedy else {}))
        run.stop_file.unlink(missing_ok=True)
        logger.info("%s; go on with: %s", state, stopped.remedy or f"rewarm resume {run.id}")
        if x and launched() and code == EXIT_INTERRUPTED:
            dismiss(x)
            return EXIT_DONE  # of anything else torchrun would begin all ranks again
        return code
    except UserError as error:
        logger.error("%s", error)
        _fail(log, str(error), error.exit_code)
        return error.exit_code
    except Exception as error:
        logger.error("%s", traceback.format_exc())
        if isinstance(error, OSError) and (known := as_user_error(error)):
            _fail(log, str(known), known.exit_code)
            return known.exit_code
        code = EXIT_RESOURCE if is_disk_full(error) or is_out_of_memory(error) else EXIT_BUG
        _fail(log, f"{type(error).__name__}: {error}", code)
        return code
    finally:
        if log:
            log.close()


def _stages(x: Execution, first: str | None) -> None:
    run, log = x.run, x.log
    sweep(run.path)
    if first:
        _begin_at(run, first)
    with own_devices(x), telling(x) as notice:
        for stage in ORDER:
            log.stage = stage.name
            facts = finished(x, stage)
            if facts is None:
                logger.info("%s", stage.name)
                started = time.time()
                x.show_progress(stage.name, 0, 0, "")
                facts = perform(x, stage)
                x.performed.add(stage.name)
                _tell(x, {"name": stage.name, "seconds": time.time() - started, "skipped": False})
                if stage is TRAIN:
                    _forget_given_up(run)
            else:
                _tell(x, {"name": stage.name, "seconds": 0, "skipped": True})
            x.facts[stage.name] = facts
            notice()


def _begin_at(run: Run, first: str) -> None:
    """Forget what is to be done again: the stages from this one on, or what was trained behind this checkpoint."""
    stage = STAGES.index(first if first in STAGES else "train")
    for name in STAGES[stage:]:
        run.stage_record(name).unlink(missing_ok=True)  # at once: an attempt that is killed is remembered so
    if stage <= STAGES.index("baseline"):
        shutil.rmtree(run.path / "pilot", ignore_errors=True)
    if stage <= STAGES.index("train"):
        _set_aside(run.checkpoints, after=step_of(Path(first)))


def _tell(x: Execution, stage: dict[str, object]) -> None:
    x.with_space("the record", lambda: x.log.result("stage", stage))


def _set_aside(checkpoints: Path, after: int) -> None:
    """Give up the checkpoints behind this step: else training would go on from its own end."""
    numbers = [int(path.name.rpartition("-")[2]) for path in _given_up(checkpoints)]
    aside = checkpoints.with_name(f"{checkpoints.name}.before-{max(numbers, default=0) + 1}")
    for path in list_checkpoints(checkpoints):
        if step_of(path) > after:
            aside.mkdir(exist_ok=True)
            path.rename(aside / path.name)


def _given_up(checkpoints: Path) -> list[Path]:
    return list(checkpoints.parent.glob(f"{checkpoints.name}.before-*"))


def _forget_given_up(run: Run) -> None:
    """Delete the checkpoints of trainings that this one took the place of, and damaged ones."""
    for path in (*_given_up(run.checkpoints), *run.checkpoints.glob("damaged-*")):
        remove_folder(path)


def _fail(log: EventLog | None, reason: str, code: int) -> None:
    with contextlib.suppress(OSError):  # on a full disk the exit code is all that is left to say it with
        if log:
            log.state("failed", reason=reason, exit_code=code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
