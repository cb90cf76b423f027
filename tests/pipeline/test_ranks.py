"""Processes that train together, started, watched and started again by the run's own; which does the same to itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import pytest

from rewarm.core.errors import Stopped
from rewarm.core.events import metrics, read_events
from rewarm.core.manifest import verify
from rewarm.core.run import Run, create_run
from rewarm.core.workspace import Workspace
from rewarm.pipeline import __main__ as pipeline
from rewarm.pipeline.execution import Execution, StopSignal
from tests.pipeline.conftest import RECIPE, Bench, make_bench
from tests.pipeline.test_whole_run import detached, loss_curve, wait_for

LONG = "hyperparameters.epochs=12"


@pytest.fixture
def pair(tmp_path: Path) -> Bench:
    zero3 = "gradient_accumulation_steps: 1\n  distributed_backend: deepspeed\n  zero_stage: 3"
    return make_bench(tmp_path, **{"devices: cpu": "devices: 2", "gradient_accumulation_steps: 2": zero3})


def ranks(run: Run) -> list[psutil.Process]:
    """The processes that train for ``run``, by rank."""
    found = {}
    for process in psutil.Process((run.process() or {})["pid"]).children():
        with contextlib.suppress(psutil.Error, KeyError):  # it ended meanwhile, or is none of them
            found[int(process.environ()["RANK"])] = process
    return [found[rank] for rank in sorted(found)]


def until(condition: Callable[[], bool], seconds: float) -> float:
    """The seconds until a condition holds."""
    began = time.monotonic()
    while not condition() and time.monotonic() < began + seconds:
        time.sleep(0.05)
    assert condition()
    return time.monotonic() - began


def events(run: Run, kind: str) -> list[dict[str, object]]:
    return [event for event, _ in read_events(run.events) if event["kind"] == kind]


def test_a_killed_rank_ends_the_other_and_training_goes_on_from_the_checkpoint(finished: Bench, pair: Bench) -> None:
    run = detached(pair)
    wait_for(run, r'"step":9,[^\n]*"train/loss"')
    first = ranks(run)
    first[1].kill()
    assert until(lambda: not any(p.is_running() and p.status() != "zombie" for p in first), 15) < 15
    until(lambda: run.status().state == "succeeded", 60)
    (warning,) = events(run, "warning")
    assert (
        warning["ranks"] == [1] and warning["codes"] == [-9] and "rank 1 was killed by signal 9" in warning["message"]
    )
    steps = [event["value"] for event in events(run, "result") if event["name"] == "training from step"]
    assert steps[0] == 0 and 4 <= steps[1] <= 9 and len(steps) == 2
    whole = [step for step, _ in loss_curve(run)]
    assert whole == list(range(1, len(whole) + 1))
    numbers = [event["seq"] for event, _ in read_events(run.events)]
    assert numbers == list(range(1, len(numbers) + 1))  # two processes wrote it, one after the other
    # The same updates as on one device: the losses of the first, and the evaluation in the middle, which both share.
    one, two = (metrics(event for event, _ in read_events(r.events)) for r in (finished.run(), run))
    assert [v for _, _, v in two["train/loss"][:5]] == pytest.approx([v for _, _, v in one["train/loss"][:5]], rel=1e-4)
    for name in ("eval/new/bits_per_byte", "eval/other/bits_per_byte"):
        assert [v for _, _, v in two[name]] == pytest.approx([v for _, _, v in one[name]], rel=0.02)
    done = pair.rewarm("models", "export", "last", "exported", "--checkpoint", "last")  # written by two, read by one
    assert done.returncode == 0, done.stderr
    assert (pair.folder / "exported" / "model.safetensors").read_bytes() == (
        run.path / "model" / "model.safetensors"
    ).read_bytes()


def test_sigterm_writes_the_checkpoint_of_the_step_that_both_have_made(pair: Bench) -> None:
    run = detached(pair, LONG)
    wait_for(run, r'"step":5,[^\n]*"train/loss"')
    both = ranks(run)
    os.kill((run.process() or {})["pid"], signal.SIGTERM)
    until(lambda: run.status().state == "preempted", 30)
    assert not any(p.is_running() and p.status() != "zombie" for p in both)
    newest = max(run.checkpoints.glob("step-*"), key=lambda path: int(path.name[5:]))
    state = orjson.loads((newest / "state.json").read_bytes())
    assert verify(newest) and state["world_size"] == 2 and state["identity"]["rows of an update"] == 4
    last = max(step for step, _ in loss_curve(run))
    assert last == state["step"]


@pytest.mark.nightly
def test_ranks_that_die_again_and_again_end_the_run_with_the_reason(pair: Bench) -> None:
    run, killed = detached(pair), set()
    wait_for(run, '"stage":"train"')

    def dead() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in ranks(run)[1:]:
                if process.pid not in killed:
                    killed.add(process.pid)
                    process.kill()
        return run.status().state == "failed"

    until(dead, 100)
    assert len(killed) == 4 and len(events(run, "warning")) == 3  # the first, and three restarts
    assert "rank 1 was killed by signal 9" in str(run.status().reason)


def torchrun(run: Run, node: int, port: int) -> subprocess.Popen[bytes]:
    """One of two computers with a process each, as far as torchrun and the ranks can tell."""
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    command = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3", *meet, "-m", "rewarm.pipeline"]
    with (run.path / f"node-{node}.txt").open("wb") as log:
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "HF_HUB_OFFLINE": "1"}
        start = [sys.executable, "-m", "torch.distributed.run", *command, str(run.path)]
        return subprocess.Popen(start, env=environment, stdout=log, stderr=log)


@pytest.mark.nightly
def test_two_computers_train_a_run_by_torchrun(finished: Bench, tmp_path: Path) -> None:
    """Prepared by ``rewarm run``, which names the command; a rank that is killed is begun again by torchrun."""
    zero3 = "gradient_accumulation_steps: 1\n  distributed_backend: deepspeed\n  zero_stage: 3"
    two = make_bench(tmp_path, **{"devices: cpu": "devices: cpu, nodes: 2", "gradient_accumulation_steps: 2": zero3})
    done = two.rewarm("run", "recipe.yaml")
    run = two.run()
    assert done.returncode == 130 and "go on with: torchrun --nnodes 2 --nproc-per-node 1" in done.stdout
    assert run.stage("baseline") and not run.stage("train")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    computers = [torchrun(run, node, port) for node in range(2)]
    wait_for(run, r'"step":6,[^\n]*"train/loss"')
    (other,) = [p for p in ranks_of(computers) if p.pid != (run.process() or {})["pid"]]
    other.kill()
    assert [process.wait(120) for process in computers] == [0, 0]
    assert run.status().state == "succeeded"
    assert loss_curve(run) and [step for step, _ in loss_curve(run)] == list(range(1, len(loss_curve(run)) + 1))
    one, both = (metrics(event for event, _ in read_events(r.events)) for r in (finished.run(), run))
    assert [v for _, _, v in both["train/loss"]] == pytest.approx([v for _, _, v in one["train/loss"]], rel=1e-3)
    (said, *_) = [event["value"] for event in events(run, "result") if event["name"] == "parallelism"]
    assert said == "FSDP2 over 2 ranks, within each of 2 nodes, parameters gathered layer by layer (ZeRO-3)"


def test_torchrun_does_not_begin_again_what_somebody_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that still wait to be called are let go, and a step that --from named is not gone back to twice."""
    run = create_run(Workspace(tmp_path), "a", RECIPE, [], tmp_path)
    said, begun = [], []

    def stopped(x: Execution, first: str | None) -> None:
        begun.append(first)
        raise Stopped

    monkeypatch.setattr(pipeline, "_stages", stopped)
    monkeypatch.setattr(StopSignal, "listen", lambda stop: None)
    monkeypatch.setattr("rewarm.pipeline.ranks.call", said.append)
    assert pipeline.main([str(run.path), "--from", "train"]) == 130 and said == []
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert pipeline.main([str(run.path), "--from", "train"]) == 0 and said == ["nothing"]
    assert run.status().state == "stopped"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert pipeline.main([str(run.path), "--from", "train"]) == 0
    assert begun == ["train", "train", None]


def ranks_of(computers: list[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    return [child for agent in computers for child in psutil.Process(agent.pid).children()]


FAULTS = {
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "crash": "ctypes.string_at(0)",
    "exception": "raise RuntimeError('planted')",
    "stop": "os.kill(os.getpid(), signal.SIGSTOP)",
    "interpreter": "ctypes.PyDLL(None).sleep(600)",  # which PyDLL does not let go of
}
FAULT = """
import ctypes, os, signal, sys, threading, time
def plant():
    while not hasattr(sys.modules.get("rewarm.train.loop"), "train_step"):
        time.sleep(0.01)
    loop = sys.modules["rewarm.train.loop"]
    step = loop.train_step
    def train_step(training, *rest):
        mark = os.path.join(os.path.dirname(__file__), "planted")
        if training.step == 6 and not os.path.exists(mark):
            open(mark, "w").close()
            FAULT
        step(training, *rest)
    loop.train_step = train_step
if os.environ.get("RANK") == "2":
    threading.Thread(target=plant, daemon=True).start()
"""


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_befalls_one_of_four_ranks_training_goes_on(
    finished: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Found within 15 seconds, or where it only stands still, within the limit and a minute; stacks are kept."""
    (tmp_path / "sitecustomize.py").write_text(FAULT.replace("FAULT", FAULTS[fault]))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spread = {
        "devices: cpu": "devices: 4",
        "batch_size: 2": "batch_size: 1",
        "accumulation_steps: 2": "accumulation_steps: 1",
    }
    run = detached(make_bench(tmp_path, **spread), "guard.hang_minutes=0.1")
    until(lambda: (tmp_path / "planted").exists(), 120)
    hangs = fault in ("stop", "interpreter")
    assert until(lambda: bool(events(run, "warning")), 90) < (75 if hangs else 15)
    until(lambda: run.status().state == "succeeded", 120)
    (warning,) = [event for event in events(run, "warning") if "restart" in event]  # a standstill is one before it
    assert warning["restart"] == 1 and (hangs or warning["ranks"] == [2])
    assert [step for step, _ in loss_curve(run)] == [step for step, _ in loss_curve(finished.run())]
    if hangs:
        assert "in train_step" in run.log.read_text()


@pytest.mark.nightly
def test_a_rank_that_is_five_times_slower_is_named_within_a_minute(pair: Bench) -> None:
    often = ("data.sources[0].max_epochs=200", "data.replay.max_epochs=200")
    run = detached(pair, "hyperparameters.epochs=200", *often)
    wait_for(run, r'"step":5,[^\n]*"train/loss"')
    slow, named = ranks(run)[1], time.monotonic() + 60
    while not events(run, "warning") and time.monotonic() < named:
        slow.suspend()  # so often that every few passes of a millisecond meet it
        time.sleep(0.02)
        slow.resume()
        time.sleep(0.005)
    assert events(run, "warning")[0]["rank"] == 1
    assert pair.rewarm("stop", "last").returncode == 0


HOLD = """
import contextlib, os, sys, threading, time
held = threading.Lock()
def hold():
    held.acquire()  # and never let go of it
    while not hasattr(sys.modules.get("rewarm.train.loop"), "train_step"):
        time.sleep(0.01)
    loop = sys.modules["rewarm.train.loop"]
    step = loop.train_step
    def train_step(training, *rest):
        mark = os.path.join(os.path.dirname(__file__), str(training.step))
        if os.path.exists(mark):
            with contextlib.suppress(OSError):  # a folder stays
                os.unlink(mark)
            held.acquire()
        step(training, *rest)
    loop.train_step = train_step
    threading.Event().wait()
if "rewarm.pipeline" in sys.orig_argv:
    threading.Thread(target=hold, daemon=True).start()
"""


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file N in this folder: a thread of the run's process holds up training after step N; a folder N: each time."""
    folder = tmp_path / "held"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOLD)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def test_a_training_that_hangs_begins_again_at_its_checkpoint(finished: Bench, tmp_path: Path, held: Path) -> None:
    bench = make_bench(tmp_path)
    (held / "5").touch()
    done = bench.rewarm("run", "recipe.yaml", "guard.hang_minutes=0.05")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training goes on from the newest checkpoint" in done.stdout
    run = bench.run()
    states = [event["state"] for event in events(run, "state")]
    assert states == ["starting", "running", "running", "succeeded"]  # whoever watches saw one process all along
    assert "in hold" in (log := run.log.read_text()) and "in train_step" in log  # the stacks of both threads
    assert loss_curve(run) == loss_curve(finished.run())
    steps = [event["value"] for event in events(run, "result") if event["name"] == "training from step"]
    assert steps == [0, 4]


@pytest.mark.nightly
def test_a_training_that_hangs_at_the_same_step_again_and_again_fails(tmp_path: Path, held: Path) -> None:
    bench = make_bench(tmp_path)
    (held / "6").mkdir()
    done = bench.rewarm("run", "recipe.yaml", "guard.hang_minutes=0.05")
    assert done.returncode == 1 and "nothing was computed for" in done.stdout + done.stderr
    run = bench.run()
    assert [event["restart"] for event in events(run, "warning")] == [1, 2, 3] and run.status().state == "failed"
    (held / "6").rmdir()
    assert bench.rewarm("resume", "last").returncode == 0
