"""Several ranks compute what one does; whatever number of them wrote a checkpoint, another can go on from it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewarm.core.errors import UserError
from rewarm.core.manifest import verify
from rewarm.models.pieces import Pieces
from rewarm.train.checkpoint import latest, list_checkpoints, read_state
from rewarm.train.job import with_rows

from .tiny import curve, events, make_base

SCRIPT = Path(__file__).with_name("on_ranks.py")
DDP: dict[str, Any] = {"distributed_backend": "ddp"}
ZERO2: dict[str, Any] = {"distributed_backend": "deepspeed", "zero_stage": 2}
ZERO3: dict[str, Any] = {"distributed_backend": "deepspeed", "zero_stage": 3}
SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.5,
    "lr_scheduler_type": "constant",
    "lr_warmup_steps": 0,
    "epochs": 1,
}
"""Weights move by the gradients themselves, far enough to tell them from rounding."""
Train = Callable[..., list[int]]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def on_ranks(server: subprocess.Popen[str], tmp_path: Path, base: Path, corpus: Path) -> Train:
    """``on_ranks(2, "name", changes...)`` trains in the folder "name"; the wait status of each rank."""

    def train(ranks: int, name: str, *, attempt: int = 1, check: bool = True, **fields: Any) -> list[int]:
        keys = ("base", "rows", "stop_after", "kill", "poison", "ranks_of_a_node", "evaluate_at", "slow")
        given = {key: fields.pop(key) for key in keys if key in fields}
        job = {"base": str(base), "corpus": str(corpus), "folder": str(tmp_path / name), "attempt": attempt}
        job |= {"ranks": ranks, "changes": fields, **given}
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        codes: list[int] = json.loads(server.stdout.readline())
        assert codes == [0] * ranks or not check
        return codes

    return train


def close(one: Path, two: Path, within: float = 1e-5) -> None:
    """Equal losses, norms and weights but for rounding."""
    for name in ("train/loss", "train/grad_norm"):
        a, b = ({k: float.fromhex(v) for k, v in curve(folder, name).items()} for folder in (one, two))
        assert a and b == pytest.approx(a, rel=within)
    first, second = (Pieces(latest(folder / "checkpoints").path.glob("model-*")) for folder in (one, two))
    assert first.names == second.names
    for name in first.names:
        torch.testing.assert_close(first.read(name), second.read(name), rtol=within, atol=within)


@pytest.fixture(scope="session")
def odd_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied head, and a vocabulary that two ranks cannot halve."""
    return make_base(tmp_path_factory.mktemp("odd"), vocabulary=387, tied=False)


@pytest.fixture(scope="session")
def odd_tied_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("tied"), vocabulary=387)


LORA = {"finetuning_type": "lora", "lora_dropout": 0.0, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("kind", "model", "changes"),
    [
        (DDP, "odd_base", {}),
        (DDP, "odd_tied_base", {"disable_gradient_checkpointing": False}),
        (DDP, "base", LORA),
        (ZERO2, "odd_base", {}),
        (ZERO2, "odd_tied_base", {"max_grad_norm": 0.1}),
        (ZERO3, "odd_base", LORA),
        (ZERO3, "odd_tied_base", {"disable_gradient_checkpointing": False}),
        (ZERO3, "base", {"optimizer": "adamw", "learning_rate": 1e-3}),
    ],
    ids=str,
)
def test_two_ranks_compute_what_one_does(
    on_ranks: Train,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kind: dict[str, Any],
    model: str,
    changes: dict[str, Any],
) -> None:
    """Uneven documents, several micro-batches, and in the last update a rank that has no row left."""
    changes = {**SGD, **changes, "base": str(request.getfixturevalue(model))}
    on_ranks(1, "one", gradient_accumulation_steps=4, **changes)
    on_ranks(2, "two", gradient_accumulation_steps=2, **kind, **changes)
    close(tmp_path / "one", tmp_path / "two")


def test_two_nodes_of_two_ranks_compute_what_one_does(on_ranks: Train, tmp_path: Path) -> None:
    """Sharded within a node, repeated over the nodes."""
    on_ranks(1, "one", gradient_accumulation_steps=4, **SGD)
    on_ranks(4, "four", gradient_accumulation_steps=1, ranks_of_a_node=2, **ZERO3, **SGD)
    close(tmp_path / "one", tmp_path / "four")
    files = {path.name for path in latest(tmp_path / "four" / "checkpoints").path.glob("model-*")}
    held = [load_file(latest(tmp_path / "four" / "checkpoints").path / name) for name in sorted(files)]
    assert len(held) == 4 and held[0] and held[1] and not held[2] and not held[3]  # no row is written twice


@pytest.mark.parametrize("kind", [DDP, ZERO3], ids=["ddp", "zero3"])
def test_stopped_and_resumed_on_two_ranks_equals_the_uninterrupted_to_the_bit(
    on_ranks: Train, tmp_path: Path, kind: dict[str, Any]
) -> None:
    changes = {**kind, "finetuning_type": "lora", "lora_dropout": 0.3, "learning_rate": 1e-2, "epochs": 1}
    changes |= {"gradient_accumulation_steps": 1}
    on_ranks(2, "whole", **changes)
    on_ranks(2, "parts", stop_after=3, **changes)  # only rank 0 is asked: both end with the same step
    on_ranks(2, "parts", attempt=2, **changes)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    for file in latest(tmp_path / "whole" / "checkpoints").path.glob("*.safetensors"):
        assert file.read_bytes() == (latest(tmp_path / "parts" / "checkpoints").path / file.name).read_bytes()


def test_a_checkpoint_behind_an_evaluation_holds_the_state_of_every_rank(on_ranks: Train, tmp_path: Path) -> None:
    """Gathered once an update, the parameters are still whole when an evaluation has ended."""
    changes = {**ZERO2, "epochs": 1, "evaluate_at": [4], "gradient_accumulation_steps": 1}
    changes |= {"checkpoint_strategy": "steps", "checkpoint_steps": 4}
    on_ranks(2, "whole", **changes)
    on_ranks(2, "parts", stop_after=5, **changes)
    on_ranks(2, "parts", attempt=2, resume_from_checkpoint="checkpoints/step-4", **changes)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_another_world_size_goes_on_with_the_same_documents(on_ranks: Train, tmp_path: Path) -> None:
    """Two ranks, then one, then two: an update keeps its rows; losses differ by rounding alone."""
    changes = {**SGD, "epochs": 2, "rows": 8}
    on_ranks(1, "whole", **changes)
    on_ranks(2, "parts", stop_after=3, **ZERO3, **changes)
    on_ranks(1, "parts", attempt=2, stop_after=4, **changes)
    on_ranks(2, "parts", attempt=3, **ZERO2, **changes)
    close(tmp_path / "whole", tmp_path / "parts")
    steps = [event["value"] for event in events(tmp_path / "parts", "result") if event["name"] == "training from step"]
    assert steps == [0, 3, 7]
    said = [event["value"] for event in events(tmp_path / "parts", "result") if event["name"] == "parallelism"]
    assert ["ZeRO-3" in said[0], said[1], "ZeRO-2" in said[2]] == [True, "one device", True]


@pytest.mark.parametrize("kind", [DDP, ZERO3], ids=["ddp", "zero3"])
def test_a_slow_rank_is_named(on_ranks: Train, tmp_path: Path, kind: dict[str, Any]) -> None:
    on_ranks(3, "slow", slow=1, epochs=4, batch_size=1, **kind)
    warned = [event for event in events(tmp_path / "slow", "warning") if "times as slowly" in event["message"]]
    (most, _), *_ = Counter(event["rank"] for event in warned).most_common()  # on a busy machine others are slow, too
    assert most == 1 and warned[0]["times"] > 2


@pytest.mark.nightly
def test_world_sizes_1_2_4_3_1_read_the_same_documents(on_ranks: Train, tmp_path: Path) -> None:
    """200 updates and more; losses and weights differ by rounding alone."""
    changes = {**SGD, "learning_rate": 0.05, "epochs": 60, "batch_size": 1, "rows": 12}
    on_ranks(1, "whole", **changes)
    for attempt, (ranks, kind) in enumerate([(1, DDP), (2, ZERO3), (4, DDP), (3, ZERO2), (1, DDP)], 1):
        last = {} if attempt == 5 else {"stop_after": 45}
        on_ranks(ranks, "parts", attempt=attempt, **last, **kind, **changes)
    assert len(curve(tmp_path / "whole")) > 200
    close(tmp_path / "whole", tmp_path / "parts", 1e-3)  # over 200 updates rounding grows


def test_rows_that_cannot_be_shared_out_are_refused(job: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"8 rows, which 3 devices cannot share out in micro-batches of 2"):
        with_rows(job().hyperparameters, 8, 3)
    assert with_rows(job().hyperparameters, 12, 3).gradient_accumulation_steps == 2


def test_a_killed_rank_leaves_the_checkpoints_before_it(on_ranks: Train, tmp_path: Path) -> None:
    """Also in the middle of a checkpoint, which is written while training goes on."""
    changes = {**DDP, **SGD, "checkpoint_strategy": "steps", "checkpoint_steps": 1, "epochs": 2}
    on_ranks(2, "whole", **changes)
    codes = on_ranks(2, "killed", check=False, kill=[1, 5], **changes)
    assert codes[1] == signal.SIGKILL and codes[0] != 0
    there = list_checkpoints(tmp_path / "killed" / "checkpoints")
    assert len(there) >= 2 and all(verify(path) for path in there)
    on_ranks(2, "killed", attempt=2, **changes)
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")


@pytest.mark.parametrize("kind", [DDP, ZERO3], ids=["ddp", "zero3"])
def test_all_ranks_skip_and_rewind_together_where_one_has_no_finite_loss(
    on_ranks: Train, tmp_path: Path, kind: dict[str, Any]
) -> None:
    changes = {"gradient_accumulation_steps": 1, "checkpoint_strategy": "steps", "checkpoint_steps": 4}
    on_ranks(2, "run", poison=[1, 3, *range(12, 17)], running_average=True, **changes, **kind)
    end = latest(tmp_path / "run" / "checkpoints").path
    assert (end.name, read_state(end)["skipped"]) == ("step-22", [[4, 16]])
    assert sorted(curve(tmp_path / "run")) == [1, 2, *range(4, 12), *range(17, 23)]
    pieces = Pieces(end.glob("optimizer-*"))
    for name in (names := Pieces(end.glob("model-*"))).names:
        assert torch.isfinite(pieces.read(f"{name}|average")).all() and torch.isfinite(names.read(name)).all()
