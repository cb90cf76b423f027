"""The loops of the server: each does one thing again and again, and an error in one neither ends it nor the others."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rewarm.core.errors import UserError
from rewarm.core.storage import locked
from rewarm.studio.context import Studio

log = logging.getLogger("rewarm.studio")


@dataclass(frozen=True)
class Loop:
    """``tick(studio)`` every ``seconds``."""

    name: str
    seconds: float
    tick: Callable[[Studio], None]


Beats = dict[str, tuple[float, float]]
"""Of each loop that goes: when it last began (monotonic), and its seconds."""


def late(beats: Beats) -> list[str]:
    """The loops that have not begun anew for five minutes more than they wait."""
    now = time.monotonic()
    return [name for name, (began, seconds) in beats.items() if now - began > seconds + 300]


@contextlib.contextmanager
def run_loops(studio: Studio, loops: list[Loop]) -> Iterator[Beats]:
    """Let the loops go, each in a thread, while this context lasts and no other server leads this workspace."""
    beats: Beats = {}
    ended = threading.Event()
    threads = [threading.Thread(target=_lead, args=(studio, loops, ended, beats), name="rewarm-leader", daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield beats
    finally:
        ended.set()
        for thread in threads:
            thread.join(timeout=10)


def _lead(studio: Studio, loops: list[Loop], ended: threading.Event, beats: Beats) -> None:
    """Of several servers on one workspace, only one schedules; another takes over once it is gone."""
    path = studio.workspace.root / "locks" / "studio.lock"
    while not ended.is_set():
        try:
            with locked(path, "a Studio"):
                threads = [
                    threading.Thread(
                        target=_go, args=(studio, loop, ended, beats), name=f"rewarm-{loop.name}", daemon=True
                    )
                    for loop in loops
                ]
                for thread in threads:
                    thread.start()
                ended.wait()
                for thread in threads:
                    thread.join(timeout=10)
        except UserError:
            ended.wait(2)


def _go(studio: Studio, loop: Loop, ended: threading.Event, beats: Beats) -> None:
    while not ended.is_set():
        beats[loop.name] = (time.monotonic(), loop.seconds)
        try:
            loop.tick(studio)
        except Exception:
            log.exception("%s: an error; it goes on", loop.name)
        ended.wait(loop.seconds)
