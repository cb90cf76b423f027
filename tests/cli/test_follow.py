"""A run as a terminal follows it: one line a step, each with its own loss, and none too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rewarm.cli import follow
from rewarm.cli.follow import View, _Screen
from rewarm.core.errors import EXIT_INTERRUPTED
from rewarm.core.events import EventLog
from rewarm.core.run import Run, Status


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "seq": 1, "attempt": 1, "time": 1.0, "stage": "train", "kind": kind, **fields}


def progress(step: int, done: int) -> dict[str, Any]:
    return event("progress", done=done, total=4000, unit="tokens", step=step, steps=40, speed=12_345.0)


def metric(step: int) -> dict[str, Any]:
    values = {"train/loss": 10.0 - step, "train/lr": 4e-5, "perf/tokens_per_second": 1234.5}
    return event("metric", step=step, tokens=100 * step, values=values)


def test_a_slow_step_has_one_line_with_its_own_loss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(follow.time, "monotonic", lambda: now)
    view = View()
    with _Screen("run") as screen:
        for step in range(1, 5):  # of 12 s each, with progress every 2 s
            for part in range(6):
                now += 2
                view.take(progress(step - 1, 100 * step - 100 + 16 * part))
                screen.show(view)
            view.take(metric(step))
            screen.show(view)
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    assert lines
    for line in lines:
        step = int(line.split("step ")[1].split()[0])
        assert f"loss {10.0 - step:.3f}" in line
    assert len({line.split(" of ")[0] for line in lines}) == len(lines)
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_live_picture_never_wraps(width: int) -> None:
    view = View()
    for each in (progress(1, 100), metric(1)):
        view.take(each)
    console = Console(width=width, file=None, force_terminal=True)
    for long in (None, event("progress", done=5, total=10, unit="documents", what="bits per byte of " + "x" * 90)):
        if long:  # an evaluation on the way
            view.take(long)
        with console.capture() as shown:
            console.print(view.render("r" * 120, width))
        assert len(shown.get().splitlines()) == 7  # an empty line, the name, five stages
        assert ("step 1 of" in shown.get()) == (long is None)


def test_an_end_while_it_looks_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process starts and ends between one question of the follower and the next."""
    run = Run(tmp_path)
    real = Status.read.__func__  # type: ignore[attr-defined]

    def read(cls: type[Status], run: Run) -> Status:
        if not run.events.exists():
            log = EventLog(run.events, 1)
            for state in ("starting", "running", "stopping", "stopped"):
                log.state(state)
            log.close()
        return real(cls, run)

    monkeypatch.setattr(Status, "read", classmethod(read))
    code, view = follow.follow(run, 0, None)
    assert code == EXIT_INTERRUPTED
    assert view.state is not None and view.state["state"] == "stopped"
