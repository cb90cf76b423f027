"""A full disk, by a real one: a small tmpfs in a mount namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewarm.train.loop import train

from .tiny import DISK_CHANGES, curve, make_job, weights

SCRIPT = Path(__file__).with_name("full_disk.py")


def namespace() -> list[str]:
    """How this machine lets us mount: as root, or as root of a user namespace."""
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        if subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0:
            return command
    raise AssertionError("these tests need a mount namespace (unshare --mount, as root or with user namespaces)")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, base: Path, corpus: Path) -> dict[str, Any]:
    """What happened in each case of ``full_disk.py``."""
    disk = tmp_path_factory.mktemp("disk")
    script = [sys.executable, str(SCRIPT), str(disk), str(base), str(corpus)]
    mounted = f'mount -t tmpfs -o size=8m none {disk} && exec "$@"'
    done = subprocess.run([*namespace(), "sh", "-c", mounted, "sh", *script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("case", ["nearly", "wholly"])
def test_training_pauses_while_the_disk_is_full_and_goes_on_by_itself(
    tmp_path: Path, base: Path, corpus: Path, seen: dict[str, Any], case: str
) -> None:
    """Nearly: no room for a checkpoint, some for events. Wholly: not for one more event either."""
    seen = seen[case]
    assert seen["finished"] and seen["seconds"] > 0.8 and not seen["gaps"]
    held = seen["held"]
    assert held["verified"] == ["step-2", "step-4"] and held["temporary"] == 0
    assert held["steps"] <= 6  # nothing was computed while it waited
    states = [state for state, _ in seen["states"]]
    assert states == ["paused", "running"] * (len(states) // 2) and states
    assert all("the disk is full" in reason for state, reason in seen["states"] if state == "paused")
    if case == "nearly":
        assert held["states"] == ["paused"]  # said while it waits, not only afterwards

    plain = make_job(tmp_path / "plain", base, corpus, **DISK_CHANGES)
    outcome = train(plain)
    assert seen["curve"] == {str(step): value for step, value in curve(plain.folder).items()}
    assert seen["weights"] == weights(outcome.checkpoint)


@pytest.mark.parametrize(("case", "checkpoint"), [("stop", "step-4"), ("stop at the end", "step-20")])
def test_a_stop_ends_the_waiting_with_the_last_checkpoint(seen: dict[str, Any], case: str, checkpoint: str) -> None:
    assert (seen[case]["finished"], seen[case]["checkpoint"]) == (False, checkpoint)


def test_too_little_room_is_refused_before_the_first_step(seen: dict[str, Any]) -> None:
    seen = seen["preflight"]
    assert seen["code"] == 4 and "number_of_checkpoints" in seen["error"] and "GB more" in seen["error"]
