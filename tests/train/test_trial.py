"""The trial step of ``batch_size: auto``, in a process whose memory is limited for real."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import pytest
import torch

from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.trial import fitting


@pytest.mark.skipif(
    not hasattr(psutil.Process(), "rlimit"),
    reason="only Linux holds a process to RLIMIT_AS",
)
def test_the_batch_is_halved_until_a_step_fits(base: Path) -> None:
    values = Hyperparameters(
        batch_size=32_768,
        gradient_accumulation_steps=2,
        finetuning_type="full",
        max_sequence_length=16,
        mixed_precision="none",
    )
    fitting(base, values.model_copy(update={"batch_size": 1}), torch.device("cpu"))  # what is loaded only once
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 24 * 2**20, before[1]))
    try:
        found = fitting(base, values, torch.device("cpu"))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert 1 < found.batch_size < 32768
    assert found.batch_size * found.gradient_accumulation_steps == 65536
    assert fitting(base, found, torch.device("cpu")) is found
