"""A tiny base model, a dataset of random words, and jobs over them: real parts, small enough for a second a run."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rewarm.core.events import EventLog
from rewarm.train.job import Job

from .tiny import make_base, make_dataset, make_job

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The folder of a built dataset."""
    return make_dataset(tmp_path_factory.mktemp("corpus"), base)


@pytest.fixture
def job(tmp_path: Path, base: Path, corpus: Path) -> Iterator[Callable[..., Job]]:
    """``job(name, hyperparameter=value, ...)`` is a job in the run folder ``name``."""
    logs: list[EventLog] = []

    def build(name: str = "run", **changes: object) -> Job:
        made = make_job(tmp_path / name, base, corpus, **changes)
        logs.append(made.log)
        return made

    yield build
    for log in logs:
        log.close()


@pytest.fixture(autouse=True)
def _quiet_process() -> Iterator[None]:
    """Each test begins with one thread and a seed of its own, and leaves the process as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(random.randrange(2**31))
    yield
    torch.set_num_threads(threads)
