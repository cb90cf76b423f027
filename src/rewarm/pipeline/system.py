"""``system.jsonl`` of a run: how busy the computer and the run's own processes were, every ten seconds of its life."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from rewarm.core.machine import JOULES, SAMPLE_SECONDS, Meter
from rewarm.core.run import Run

log = logging.getLogger("rewarm")


@contextlib.contextmanager
def sampling(run: Run, seconds: float = SAMPLE_SECONDS) -> Iterator[None]:
    """Append ``{time, values}`` every ``seconds`` and at the end, from a thread. Nothing that fails here ends a run."""
    ended = threading.Event()

    def sample() -> None:
        try:
            meter = Meter(run.path, os.getpid(), joules=_joules(run.system))
            meter.read()
            going = True
            while going:
                going = not ended.wait(seconds)
                with contextlib.suppress(OSError):  # a full disk
                    _append(run.system, meter.read())
        except Exception:
            log.exception("the computer is not sampled any more")

    thread = threading.Thread(target=sample, name="rewarm-system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _append(path: Path, values: dict[str, float]) -> None:
    with path.open("a+b") as file:  # opened each time: a run that was removed is not held
        line = orjson.dumps({"time": time.time(), "values": values}) + b"\n"
        if size := file.tell():
            file.seek(size - 1)
            line = (b"" if file.read() == b"\n" else b"\n") + line  # what a killed process wrote half ends here
        file.write(line)


def _joules(path: Path) -> float:
    """What was used in the attempts before."""
    with contextlib.suppress(OSError, orjson.JSONDecodeError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        for line in reversed(file.read().splitlines()):
            with contextlib.suppress(orjson.JSONDecodeError, TypeError, KeyError):
                return float(orjson.loads(line)["values"][JOULES])
    return 0.0
