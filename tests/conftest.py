"""What holds for all tests: a machine without a GPU leaves the GPU tests out, and says so."""

from __future__ import annotations

import os

import pytest
import torch

from tests.servers import store

__all__ = ["store"]  # the fixture

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on what a hub serves today
left_out: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    left_out.extend(item.nodeid for item in gpu)
    config.hook.pytest_deselected(items=gpu)
    items[:] = [item for item in items if item not in gpu]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if left_out:
        terminalreporter.write_line(f"left out for want of a CUDA device: {', '.join(left_out)}")
