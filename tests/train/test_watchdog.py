"""A process that stands still is ended, with its stacks on stderr; one that works or may wait is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from rewarm.train.watchdog import SOON, STEPS, Watchdog


def run(script: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Python with a watchdog of one second that counts what it is told in the file that it prints to."""
    head = "import ctypes, time\nimport rewarm.train.watchdog as w\nw.GRACE = 1.0\ndef tell(m): print(m, flush=True)\n"
    command = [sys.executable, "-c", head + textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def test_a_standstill_leaves_the_stacks_of_all_threads_a_word_and_exit_code_1() -> None:
    done = run(
        """
        def stuck(): time.sleep(60)
        with w.Watchdog(1.0, tell) as watchdog:
            for _ in range(15):
                time.sleep(0.1)
                watchdog.step_done()
            print("worked", flush=True)
            stuck()
        """
    )
    assert done.returncode == 1
    assert done.stdout.startswith("worked\nnothing was computed for 1 seconds")
    assert "in stuck" in done.stderr and "_watch" in done.stderr


def test_who_keeps_the_interpreter_to_itself_is_ended_too() -> None:
    done = run(
        """
        with w.Watchdog(0.5, tell) as watchdog:
            time.sleep(0.2)
            ctypes.PyDLL(None).sleep(60)  # PyDLL does not let go of the interpreter
        """
    )
    assert done.returncode == 1 and not done.stdout
    assert "Timeout" in done.stderr and "<module>" in done.stderr


def test_writing_and_waiting_for_space_may_take_any_time() -> None:
    done = run(
        """
        with w.Watchdog(0.3, tell, waits=lambda: time.monotonic() < end) as watchdog:
            with watchdog.asleep():
                time.sleep(2.0)
            end = time.monotonic() + 1.0
            time.sleep(1.0)
        print("whole")
        """
    )
    assert (done.returncode, done.stdout) == (0, "whole\n")


def test_long_steps_make_it_patient_and_known_ones_strict() -> None:
    watchdog, strict = Watchdog(0.2, lambda message: None), Watchdog(600.0, lambda message: None)
    assert (watchdog.limit, strict.limit) == (0.2, 600.0)
    for _ in range(STEPS):
        time.sleep(0.1)
        watchdog.step_done()
        strict.step_done()
    assert watchdog.limit == pytest.approx(STEPS * 0.1, rel=0.5)
    assert strict.limit == SOON
