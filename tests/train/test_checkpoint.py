"""Checkpoints: whole or not there, verified before use, and never fewer than two of them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import torch
from safetensors import safe_open

from rewarm.core.errors import DataError, UserError
from rewarm.core.manifest import verify
from rewarm.train.begin import begin
from rewarm.train.calendar import build_calendar
from rewarm.train.checkpoint import (
    Training,
    expected_bytes,
    keep_rng,
    latest,
    list_checkpoints,
    load,
    load_parameters,
    read_state,
    retire,
)
from rewarm.train.job import Job
from rewarm.train.loop import train
from rewarm.train.saving import finish, make_room, stage, write_files

from .tiny import curve, events, weights

Make = Callable[..., Job]
FILES = ("model-rank00000.safetensors", "optimizer-rank00000.safetensors", "state.json", "manifest.json")
EVERY_OTHER = {"checkpoint_strategy": "steps", "checkpoint_steps": 2, "number_of_checkpoints": 3}


def started(job: Job) -> Training:
    return begin(job, build_calendar(job.hyperparameters, total=9, rows_per_step=4, epoch_ends=[36]))


def steps(checkpoints: Path) -> list[int]:
    return [int(path.name[5:]) for path in list_checkpoints(checkpoints)]


def test_what_a_checkpoint_holds(job: Make) -> None:
    made = job()
    outcome = train(made)
    assert sorted(path.name for path in outcome.checkpoint.iterdir()) == sorted(FILES)
    state = read_state(outcome.checkpoint)
    assert (state["step"], state["tokens"], state["loader"]) == (22, made.plan.total_tokens, {"step": 22})
    assert (state["torch_version"], state["threads"], state["world_size"]) == (torch.__version__, 1, 1)
    with safe_open(outcome.checkpoint / FILES[0], "pt") as tensors:
        names = set(tensors.keys())
        assert "hf.model.embed_tokens.weight" in names and "hf.lm_head.weight" not in names  # tied: once
        assert all(tensors.get_tensor(name).dtype == torch.float32 for name in names)
    with safe_open(outcome.checkpoint / FILES[1], "pt") as tensors:
        slots = ("exp_avg", "exp_avg_sq", "step")
        assert set(tensors.keys()) == {"rng|torch_cpu"} | {f"{name}|{slot}" for name in names for slot in slots}
    size = sum(path.stat().st_size for path in outcome.checkpoint.iterdir())
    assert 0 < expected_bytes(started(job("other"))) - size < 2**20


def save(checkpoints: Path, training: Training, identity: dict[str, object]) -> Path:
    staged = stage(checkpoints, training, identity, copy=False)
    make_room(staged)
    write_files(staged)
    return finish(staged)


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if how == "flip":
        content[middle] ^= 1
    elif how == "cut":
        del content[middle:]
    elif how == "zero":
        content[middle : middle + 64] = bytes(64)
    path.unlink()
    if how != "missing":
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["flip", "cut", "zero", "missing"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_found_before_use_and_the_one_before_taken(job: Make, file: str, how: str) -> None:
    made = job()
    training = started(made)
    for step in (2, 4):
        training.step = step
        save(made.checkpoints, training, made.identity)
    damage(made.checkpoints / "step-4" / file, how)
    found = latest(made.checkpoints)
    assert found.path == made.checkpoints / "step-2"
    ((path, error),) = found.damaged
    assert path == made.checkpoints / "step-4" and str(made.checkpoints / "step-4") in str(error)


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one_and_warns(job: Make) -> None:
    whole = train(job("whole", **EVERY_OTHER))
    made = job("run", **EVERY_OTHER, stop=lambda: (job_folder / "checkpoints" / "step-8").exists())
    job_folder = made.folder
    train(made)
    newest = latest(made.checkpoints).path
    damage(newest / FILES[0], "flip")
    outcome = train(job("run", attempt=2, **EVERY_OTHER))
    (warning,) = events(made.folder, "warning")
    assert str(newest / FILES[0]) in warning["message"] and warning["path"] == str(newest / FILES[0])
    assert (made.checkpoints / f"damaged-{newest.name}").is_dir()
    assert curve(made.folder) == curve(whole.checkpoint.parents[1])
    assert weights(outcome.checkpoint) == weights(whole.checkpoint)


def test_training_starts_again_where_every_checkpoint_is_damaged(job: Make) -> None:
    made = job()
    first = train(made)
    damage(first.checkpoint / FILES[1], "zero")
    again = train(job(attempt=2))
    assert again.finished and weights(again.checkpoint) == weights(first.checkpoint)
    assert "the base model" in events(made.folder, "warning")[0]["message"]


def test_a_named_checkpoint_that_is_damaged_is_refused(job: Make) -> None:
    first = train(job())
    damage(first.checkpoint / FILES[0], "flip")
    with pytest.raises(DataError, match="SHA-256") as caught:
        train(job(attempt=2, resume_from_checkpoint="checkpoints/step-22"))
    assert FILES[0] in str(caught.value) and caught.value.exit_code == 3
    with pytest.raises(DataError, match="step-99"):
        train(job(attempt=3, resume_from_checkpoint="checkpoints/step-99"))


def test_what_is_loaded_is_what_was_saved_with_the_generators(job: Make) -> None:
    made = job(finetuning_type="lora")
    training = started(made)
    training.step, training.tokens, training.best = 5, 77, (4, 1.25)
    path = save(made.checkpoints, training, made.identity)
    drawn = torch.rand(3)
    other = started(job("other", finetuning_type="lora", seed=5))
    torch.manual_seed(99)
    load(path, other)
    assert (other.step, other.tokens, other.best) == (5, 77, (4, 1.25))
    assert torch.equal(torch.rand(3), drawn)
    saved = training.trained()
    assert saved and all(torch.equal(saved[name], value) for name, value in other.trained().items())


def test_a_checkpoint_of_another_model_is_refused(job: Make) -> None:
    made = job(finetuning_type="lora")
    path = save(made.checkpoints, started(made), made.identity)
    with pytest.raises(DataError, match="unlike this model"):
        load_parameters(path, started(job("full")).model)
    with pytest.raises(DataError, match="unlike this model"):
        load(path, started(job("rank", finetuning_type="lora", lora_rank=8)))


@pytest.mark.parametrize(
    ("there", "step", "keep", "best", "left"),
    [
        ([1, 2, 3, 4], 4, 2, None, [3, 4]),
        ([1, 2, 3, 4], 4, 2, 1, [1, 3, 4]),
        ([1, 2, 3, 4], 4, 2, 4, [3, 4]),
        ([3], 3, 2, None, [3]),
        ([2, 8, 10], 2, 2, None, [2, 8]),  # 8 and 10 are of an attempt that began anew
        ([2, 4, 8, 10], 4, 2, None, [2, 4]),
        ([9, 10, 11], 11, 1, None, [11]),
    ],
)
def test_retention(tmp_path: Path, there: list[int], step: int, keep: int, best: int | None, left: list[int]) -> None:
    for number in there:
        (tmp_path / f"step-{number}").mkdir()
    (tmp_path / "step-by-step.txt").touch()
    gone = retire(tmp_path, step, keep, best)
    assert steps(tmp_path) == left
    assert {path.name for path in gone} == {f"step-{number}" for number in set(there) - set(left)}


def test_a_checkpoint_of_a_stop_takes_the_place_of_no_other(tmp_path: Path) -> None:
    for number in (4, 8, 9):
        (tmp_path / f"step-{number}").mkdir()
    due = range(4, 100, 4)
    assert retire(tmp_path, 9, 2, None, due) == []
    (tmp_path / "step-12").mkdir()
    assert {path.name for path in retire(tmp_path, 12, 2, None, due)} == {"step-4", "step-9"}
    for number in (8, 12, 13, 14, 15):
        (tmp_path / f"step-{number}").mkdir(exist_ok=True)
    assert {path.name for path in retire(tmp_path, 15, 2, None, range(0, 13, 12))} == {"step-8", "step-13"}


def test_a_kill_at_any_file_operation_of_save_and_retire_leaves_two_verified(job: Make) -> None:
    """A child process is killed at its first, second, ... file operation; the folder must be sound each time."""
    made = job()
    training = started(made)
    identity = made.identity
    for step in (1, 2):
        training.step = step
        save(made.checkpoints, training, identity)
    pristine = made.folder / "pristine"
    shutil.copytree(made.checkpoints, pristine)
    training.step = 3
    for operation in range(1, 500):
        pid = os.fork()
        if pid == 0:
            kill_at(operation, made.checkpoints)
            save(made.checkpoints, training, identity)
            retire(made.checkpoints, 3, 2, None)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        there = list_checkpoints(made.checkpoints)
        assert len(there) >= 2 and all(verify(path) for path in there)
        if status == 0:
            break
        assert status == signal.SIGKILL
        shutil.rmtree(made.checkpoints)
        shutil.copytree(pristine, made.checkpoints)
    assert status == 0 and operation > 20
    assert steps(made.checkpoints) == [2, 3] and not list(made.checkpoints.glob(".tmp-*"))


def kill_at(operation: int, folder: Path) -> None:
    """Kill this process when it is about to do its ``operation``-th file operation under ``folder``."""
    left = operation

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event.startswith(("open", "os.", "shutil.")) and str(folder) in str(arguments[:1]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def test_what_a_killed_save_left_behind_is_swept_at_the_next_start(job: Make) -> None:
    made = job()
    (made.checkpoints / ".tmp-step-3-abc").mkdir(parents=True)
    (made.checkpoints / ".tmp-step-3-abc" / FILES[0]).write_bytes(b"half")
    train(made)
    assert not list(made.checkpoints.glob(".tmp-*"))


def test_files_follow_the_umask(job: Make) -> None:
    old = os.umask(0o027)
    try:
        outcome = train(job())
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in outcome.checkpoint.iterdir()} == {0o640}


def test_the_copy_is_what_training_was_at_that_step(job: Make) -> None:
    """Training goes on while the checkpoint is written; and where memory has no room for a copy, it waits."""
    made = job()
    training = started(made)
    staged = stage(made.checkpoints, training, made.identity)
    before = {name: tensor.clone() for name, tensor in training.trained().items()}
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.add_(1)
    make_room(staged)
    write_files(staged)
    assert not list_checkpoints(made.checkpoints)  # not before every rank has written
    load_parameters(finish(staged), training.model)
    assert all(torch.equal(before[name], tensor) for name, tensor in training.trained().items())


def test_there_is_no_pickle(job: Make) -> None:
    outcome = train(job())
    for path in outcome.checkpoint.iterdir():
        head = path.read_bytes()[:16]
        assert path.suffix in (".json", ".safetensors") and not head.startswith((b"\x80", b"PK"))


def test_keep_rng_restores_the_generator_also_after_an_error() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    keep_rng(torch.device("cpu"), lambda: torch.rand(100))
    assert torch.equal(torch.rand(2), wanted)
    torch.manual_seed(5)
    with pytest.raises(ZeroDivisionError):
        keep_rng(torch.device("cpu"), lambda: torch.rand(100) / (1 // 0))
    assert torch.equal(torch.rand(2), wanted)


def test_numbers_of_another_base_model_are_refused(job: Make, base: Path, tmp_path: Path) -> None:
    made = job()
    train(made)
    other = tmp_path / "other-base"
    shutil.copytree(base, other)
    config = orjson.loads((other / "config.json").read_bytes())
    (other / "config.json").write_bytes(orjson.dumps({**config, "rms_norm_eps": 1e-5}))
    with pytest.raises(UserError, match="base model was"):
        train(replace(job(attempt=2), base=other))
