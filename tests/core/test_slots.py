"""Device slots between real processes: the second waits and says for whom; the kernel frees what a dead one held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rewarm.core import slots
from rewarm.core.errors import Stopped
from rewarm.core.slots import hold

_HOLD = """
import sys
from pathlib import Path
from rewarm.core.slots import hold
with hold(Path(sys.argv[1]), ["cuda-0", "cuda-1"], int(sys.argv[2]), "the-first-run", lambda reason: None) as held:
    print(*held, flush=True)
    sys.stdin.read()
"""


class GaveUpError(Exception):
    pass


@pytest.fixture
def holder(tmp_path: Path, request: pytest.FixtureRequest) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(tmp_path), str(request.param)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    request.addfinalizer(lambda: (process.kill(), process.communicate()))
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["cuda-0", "cuda-1"][: request.param]
    return process


def gives_up(reason: str) -> None:
    raise GaveUpError(reason)


@pytest.mark.parametrize("holder", [1], indirect=True)
def test_a_free_one_is_taken_beside_a_busy_one(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with hold(tmp_path, ["cuda-0", "cuda-1"], 1, "mine", gives_up) as held:
        assert held == ["cuda-1"]
    with (
        pytest.raises(GaveUpError, match="waiting for 2 of 2 GPUs, in use by the-first-run"),
        hold(tmp_path, ["cuda-0", "cuda-1"], 2, "mine", gives_up),
    ):
        pass
    with hold(tmp_path, ["cuda-1"], 1, "other", gives_up):
        pass  # what was not enough is not kept


@pytest.mark.parametrize("holder", [2], indirect=True)
def test_a_killed_holder_lets_go(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "POLL_SECONDS", 0.05)
    reasons: list[str] = []

    def waits(reason: str) -> None:
        reasons.append(reason)
        holder.kill()

    with hold(tmp_path, ["cuda-0", "cuda-1"], 1, "mine", waits) as held:
        assert held == ["cuda-0"]
    assert "the-first-run" in reasons[0]


def test_those_that_share_leave_no_room_for_one_that_does_not(tmp_path: Path) -> None:
    def give_up(reason: str) -> None:
        raise Stopped(reason)

    with hold(tmp_path, ["cuda-0"], 1, "completions of a", give_up, shared=True):
        with hold(tmp_path, ["cuda-0"], 1, "completions of b", give_up, shared=True) as held:
            assert held == ["cuda-0"]
        with pytest.raises(Stopped, match="completions of"), hold(tmp_path, ["cuda-0"], 1, "a run", give_up):
            pass
    with (
        hold(tmp_path, ["cuda-0"], 1, "a run", give_up),
        pytest.raises(Stopped, match="a run"),
        hold(tmp_path, ["cuda-0"], 1, "completions of a", give_up, shared=True),
    ):
        pass
