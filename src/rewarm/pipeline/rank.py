"""``python -m rewarm.pipeline.rank RUN``: one of the processes that train a run together (see ``pipeline.ranks``).

Which one of how many stands in the environment, as torchrun sets it. It rebuilds what it needs from the run
directory. Rank 0 writes the record meanwhile; each leaves its last words in ``control/rank-K.json``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from rewarm.core.errors import EXIT_BUG, EXIT_DONE, EXIT_RESOURCE, UserError
from rewarm.core.events import EventLog
from rewarm.core.manifest import to_json
from rewarm.core.process import end_with_parent
from rewarm.core.run import Run
from rewarm.core.storage import is_disk_full, write_file
from rewarm.pipeline.execution import Execution, StopSignal, echo, logger, open_run
from rewarm.pipeline.pilot import pilot_job
from rewarm.pipeline.ranks import FRESH, TRAINING
from rewarm.pipeline.train import build_job
from rewarm.recipe.pilot import Arm
from rewarm.train.job import is_out_of_memory
from rewarm.train.loop import train
from rewarm.train.parallel import answer, joined, meeting


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m rewarm.pipeline.rank", description=__doc__)
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--store", type=Path, help="a new file to meet at")
    parser.add_argument(
        "--fresh", action="store_true", help="begin where the recipe says, not at the newest checkpoint"
    )
    parser.add_argument("--pilot", type=float, nargs=3, help=argparse.SUPPRESS)  # a short run: see train_on_ranks
    options = parser.parse_args(arguments)
    end_with_parent()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    run, number = Run(options.run.absolute()), int(os.environ["RANK"])
    stop = StopSignal(run)
    stop.listen()
    said: dict[str, Any]
    try:
        word, store = (TRAINING, meeting(options.store)) if options.store else answer()
        if word not in (TRAINING, FRESH):
            return EXIT_DONE
        x = _open(run, number, stop, options.fresh or word == FRESH, "baseline" if options.pilot else "train")
        with joined(x.facts["prepare"]["device"], store) as device:
            rate, share, which = options.pilot or (0.0, 0.0, 0.0)
            job = pilot_job(x, device, Arm(rate, share), int(which)) if options.pilot else build_job(x, device)
            said, code = {"outcome": train(job).to_json()}, EXIT_DONE
    except UserError as error:
        code = error.exit_code
        said = {"error": {"what": error.what, "where": error.where, "remedy": error.remedy, "code": code}}
    except Exception as error:
        logger.error("rank %d: %s", number, traceback.format_exc())
        code = EXIT_RESOURCE if is_disk_full(error) or is_out_of_memory(error) else EXIT_BUG
        said = {"bug": str(error)}
    write_file(run.path / "control" / f"rank-{number:05d}.json", to_json(said))
    return code


def _open(run: Run, number: int, stop: StopSignal, fresh: bool, stage: str) -> Execution:
    log = EventLog(run.events, (run.process() or {"attempt": 1})["attempt"], echo, silent=number > 0)
    log.stage = stage
    x = open_run(run, log, stop)
    done = ("prepare", "baseline") if stage == "train" else ("prepare",)
    x.facts = {name: record["facts"] for name in done if (record := run.stage(name))}
    if fresh:
        x.performed.add("prepare")
    return x


def end(arguments: list[str]) -> NoReturn:
    """Be a rank, and end at once: what is left of a broken process group could wait for the others."""
    code = main(arguments)
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    end(sys.argv[1:])
