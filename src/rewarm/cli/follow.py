"""A run seen from the terminal: which stage, how far, how fast, how long still.

Everything comes from the run's events, so a terminal that is closed or opened in the middle shows
the same as one that was there from the start.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rewarm.cli.show import plain, say
from rewarm.core.amounts import duration
from rewarm.core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_TERMINATED
from rewarm.core.events import Event, read_events
from rewarm.core.lines import progress_line, training_line
from rewarm.core.run import STAGES, Run

if TYPE_CHECKING:
    from subprocess import Popen

    from rich.console import RenderableType
    from rich.live import Live

PLAIN_SECONDS = 10.0
QUIET_SECONDS = 60.0
"""Without a new figure of the training, a line says after so long how far it is."""
ENDED = ("succeeded", "failed", "stopped", "preempted", "lost")


@dataclass
class View:
    """What the events of an attempt have told so far."""

    attempt: int = 0
    stage: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    begun: float = 0.0
    progress: Event | None = None
    trained: Event | None = None
    state: Event | None = None

    def take(self, event: Event) -> list[str]:
        """Learn from an event; returns lines that are worth keeping on the screen."""
        kind = event["kind"]
        if event["attempt"] != self.attempt:
            self.attempt, self.stage, self.seconds, self.skipped = event["attempt"], "", {}, set()
        if event["stage"] and event["stage"] != self.stage:
            self.stage, self.begun, self.progress, self.trained = event["stage"], event["time"], None, None
        if kind == "progress":
            self.progress = event if event["total"] else None
        elif kind == "metric" and "train/lr" in event["values"]:
            self.trained = event
        elif kind == "state":
            self.state = event
            if event["state"] in ("queued", "paused"):
                return [f"{event['state']}: {event.get('reason')}"]
        elif kind == "warning":
            return [f"note: {event['message']}"]
        elif kind == "result" and event["name"] == "stage":
            value = event["value"]
            self.seconds[value["name"]] = value["seconds"]
            if value["skipped"]:
                self.skipped.add(value["name"])
        return []

    def line(self, measured: bool = True) -> str:
        """The stage in work as one line of text: what was ``measured`` last in training, or how far it is."""
        if self.state and self.state["state"] in ("queued", "paused", "stopping"):
            return f"{self.stage}: {self.state['state']}"
        if self.trained and measured:
            return f"{self.stage}: {training_line(self.trained, self.progress)}"
        return f"{self.stage or 'start'}: {progress_line(self.progress) if self.progress else 'working'}"

    def render(self, name: str, width: int) -> RenderableType:
        """The five stages, with a bar under way for the one in work; no line is longer than ``width``."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        table.add_column(width=2)
        table.add_column(width=9)
        table.add_column()
        for stage in STAGES:
            if stage in self.seconds:
                done = "as before" if stage in self.skipped else duration(self.seconds[stage])
                table.add_row(Text("✓", "green"), Text(stage), Text(done, "dim"))
            elif stage == self.stage:
                body: RenderableType = Text(f"{time.time() - self.begun:.0f} s", "dim")
                if (p := self.progress) is not None:
                    measured = self.trained if "steps" in p else None  # else it is another work within the training
                    said = plain(training_line(measured, p) if measured else progress_line(p))
                    body = Table.grid(padding=(0, 1))
                    room = min(30, width - 15 - len(said))
                    bar = [ProgressBar(total=p["total"] or None, completed=p["done"], width=room)] if room >= 5 else []
                    body.add_row(*bar, Text(said, no_wrap=True, overflow="ellipsis"))
                table.add_row(Spinner("dots", style="cyan"), Text(stage, "bold"), body)
            else:
                table.add_row("", Text(stage, "dim"), "")
        return Group(Text(f"\n{name}", "bold", no_wrap=True, overflow="ellipsis"), table)


def follow(
    run: Run, offset: int, on_interrupt: Callable[[], None] | None, process: Popen[bytes] | None = None
) -> tuple[int, View]:
    """Show the run until its process ends; returns the exit code that tells how, and the view."""

    def news() -> tuple[list[Event], bool]:
        nonlocal offset
        # Asked before the events are read: whoever has ended by now has written its last state.
        ended = process.poll() is not None if process else not run.alive() and run.status().state in ENDED
        found = list(read_events(run.events, offset))
        offset = found[-1][1] if found else offset
        return [event for event, _ in found], ended

    view, left = watch(run.id, news, on_interrupt, 0.2)
    if left:
        return EXIT_INTERRUPTED, view
    if process is not None:
        return code if (code := process.wait()) >= 0 else EXIT_BUG, view  # a signal that ended it counts as our bug
    status = run.status()
    return exit_code(status.state, status.last), view


def watch(
    name: str, news: Callable[[], tuple[list[Event], bool]], on_interrupt: Callable[[], object] | None, seconds: float
) -> tuple[View, bool]:
    """Show what ``news`` tells every ``seconds``, new events and whether it has ended; the view, and whether we left.

    Ctrl-C calls ``on_interrupt`` the first time; the second time the terminal leaves the run alone.
    """
    view, interrupted = View(), False
    with (screen := _Screen(name)):
        while True:
            try:
                events, ended = news()
                for event in events:
                    for line in view.take(event):
                        screen.keep(line)
                screen.show(view)
                if ended:
                    return view, False
                time.sleep(seconds)
            except KeyboardInterrupt:
                if interrupted or on_interrupt is None:
                    screen.keep(f"the run goes on without this terminal: rewarm runs logs -f {name}")
                    return view, True
                interrupted = True
                screen.keep("stopping: a checkpoint is written first (Ctrl-C again leaves the run to it)")
                on_interrupt()


def exit_code(state: str, last: Event | None) -> int:
    """What a run's last state and event mean as the exit code of a command."""
    if state == "failed" and last:
        return int(last.get("exit_code", EXIT_BUG))
    return {"succeeded": 0, "stopped": EXIT_INTERRUPTED, "preempted": EXIT_TERMINATED}.get(state, EXIT_BUG)


class _Screen:
    """A live picture on a terminal; a line now and then elsewhere."""

    def __init__(self, name: str) -> None:
        self.name, self._shown, self._stage, self._text = name, 0.0, "", ""
        self._measured: Event | None = None
        self._live: Live | None = None
        self._last_seconds: dict[str, float] = {}

    def __enter__(self) -> _Screen:
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(highlight=False, markup=False), refresh_per_second=8)
            self._live.__enter__()
        else:
            self._say(f"run {self.name}")
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def keep(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(plain(line))
        else:
            self._say(line)

    def show(self, view: View) -> None:
        if self._live is not None:
            self._live.update(view.render(self.name, self._live.console.width))
            return
        for stage, seconds in view.seconds.items():
            if stage not in self._last_seconds:
                self._last_seconds[stage] = seconds
                self._say(f"{stage}: {'as before' if stage in view.skipped else 'done in ' + duration(seconds)}")
        if view.stage not in view.seconds:
            self._show_work(view)

    def _show_work(self, view: View) -> None:
        """A line for what is newly measured; between those, how far it is where that takes long."""
        now = time.monotonic()
        measured = view.trained is not self._measured
        wait = PLAIN_SECONDS if measured or view.trained is None else QUIET_SECONDS
        text = view.line(measured)
        if text != self._text and (view.stage != self._stage or now - self._shown >= wait):
            self._shown, self._stage, self._text, self._measured = now, view.stage, text, view.trained
            self._say(text)

    @staticmethod
    def _say(line: str) -> None:
        say(line)
        sys.stdout.flush()
