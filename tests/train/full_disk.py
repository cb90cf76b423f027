"""Trains on a disk that fills up: DISK BASE CORPUS; prints what happened in each case as JSON.

Run inside a mount namespace of its own, where DISK is a small tmpfs.
"""

import json
import shutil
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from rewarm.core import space
from rewarm.core.errors import ResourceError
from rewarm.core.events import read_events
from rewarm.core.manifest import verify
from rewarm.core.storage import free_bytes
from rewarm.train.checkpoint import list_checkpoints
from rewarm.train.loop import train
from tests.train.tiny import DISK_CHANGES, curve, events, make_job, weights

space.POLL_SECONDS = 0.1


def fill(path: Path, spare: int) -> None:
    """Write a file until only ``spare`` bytes are free."""
    with path.open("wb", buffering=0) as file:
        try:
            while free_bytes(path) > spare:
                file.write(bytes(min(65536, max(1, free_bytes(path) - spare))))
        except OSError as error:
            assert error.errno == 28


def play(folder: Path, base: Path, corpus: Path, case: str) -> dict[str, object]:
    """Train in the folder ``case``; what an outsider saw while the disk was full, and what came of it."""
    ballast, held = folder / "ballast", {}
    asked = threading.Event()

    def fill_up(model: object, step: int, tokens: int) -> None:
        fill(ballast, 200_000 if case == "nearly" else 0)
        if case.startswith("stop"):
            threading.Timer(0.5, asked.set).start()
        else:
            threading.Timer(0.8, free).start()

    def free() -> None:
        held["verified"] = [path.name for path in list_checkpoints(run / "checkpoints") if verify(path)]
        held["temporary"] = len(list((run / "checkpoints").glob(".tmp-*")))
        held["states"] = [event["state"] for event in events(run, "state")]
        held["steps"] = len(curve(run))
        ballast.unlink()

    run = folder / case
    job = make_job(
        run,
        base,
        corpus,
        evaluate=fill_up,
        evaluate_at=[21 if case == "stop at the end" else 5],
        stop=asked.is_set,
        **DISK_CHANGES,
    )
    if case == "preflight":
        fill(ballast, 3_000_000)
        try:
            train(job)
        except ResourceError as error:
            return {"error": str(error), "code": error.exit_code}
        return {}
    began = time.monotonic()
    outcome = train(job)
    return {
        "finished": outcome.finished,
        "step": outcome.step,
        "checkpoint": outcome.checkpoint.name,
        "held": held,
        "states": [(event["state"], event.get("reason")) for event in events(run, "state")],
        "seconds": time.monotonic() - began,
        "gaps": any(event["seq"] != number for number, (event, _) in enumerate(read_events(run / "events.jsonl"), 1)),
        "curve": curve(run),
        "weights": weights(outcome.checkpoint),
    }


if __name__ == "__main__":
    disk_folder, base_folder, corpus_folder = map(Path, sys.argv[1:4])
    seen = {}
    for name in ("nearly", "wholly", "stop", "stop at the end", "preflight"):
        seen[name] = play(disk_folder, base_folder, corpus_folder, name)
        shutil.rmtree(disk_folder / name)
        (disk_folder / "ballast").unlink(missing_ok=True)
    sys.stdout.write(json.dumps(seen))
