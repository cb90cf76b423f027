"""Ends a training that stands still, so that whoever supervises it can start it again.

A thread looks whether anything was computed of late. If not, it leaves the stacks of all threads on stderr
(log.txt), says so in the record, and ends the process. Should no Python thread get to run any more, because
something in C keeps the interpreter to itself, ``faulthandler`` does the same a minute later.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType

from rewarm.core.errors import EXIT_BUG

STEPS = 5
"""A standstill is longer than this many usual steps, too; and what is usual is known behind so many."""
SOON = 60.0
"""Seconds that are a standstill once it is known how long steps take."""
GRACE = 60.0
STDERR = 2


class Watchdog:
    """``with Watchdog(seconds, tell) as watchdog``: ``beat`` at least that often, or the process ends.

    Args:
        seconds: without a beat that are a standstill, before it is known how long steps take (compiling can take
            minutes); then a minute at most, where five usual steps do not take longer.
        tell: is given the message, by another thread, before the end.
        waits: whether the process waits for what is no fault of its own; asked before it is ended.
    """

    def __init__(self, seconds: float, tell: Callable[[str], None], waits: Callable[[], bool] = lambda: False) -> None:
        self.seconds, self._tell, self._waits = seconds, tell, waits
        self._durations: deque[float] = deque(maxlen=64)
        self._step = self._beat = time.monotonic()
        self._asleep = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rewarm-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    @property
    def limit(self) -> float:
        """Seconds without a beat that are a standstill."""
        usual = statistics.median(self._durations) if self._durations else 0.0
        known = len(self._durations) >= STEPS
        return max(min(self.seconds, SOON) if known else self.seconds, STEPS * usual)

    def beat(self, *_: object) -> None:
        """Something was computed."""
        self._beat = time.monotonic()

    def step_done(self) -> None:
        """A step was finished."""
        self.beat()
        self._durations.append(self._beat - self._step)
        self._step = self._beat

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Not watched: writing may take any time."""
        self._asleep = True
        faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self.beat()
            self._asleep = False

    def _watch(self) -> None:
        pause = min(5.0, self.seconds / 10)
        while True:
            began = time.monotonic()
            if self._closed.wait(pause):
                return
            now = time.monotonic()
            if now - began > 10 * pause:  # this very thread stood still: the process was stopped, and goes on
                self.beat()
            if self._asleep:
                faulthandler.cancel_dump_traceback_later()
                continue
            if now - self._beat > self.limit:
                if not self._waits():
                    self._end(now - self._beat)
                self.beat()
            faulthandler.dump_traceback_later(self.limit + GRACE, exit=True, file=STDERR)

    def _end(self, seconds: float) -> None:
        faulthandler.dump_traceback(STDERR, all_threads=True)
        with contextlib.suppress(Exception):  # whatever the record does, this process has to end
            self._tell(f"nothing was computed for {seconds:.0f} seconds; what every thread was doing stands in log.txt")
        os._exit(EXIT_BUG)
