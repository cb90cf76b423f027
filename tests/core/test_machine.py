from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rewarm.core.machine import JOULES, Meter

BUSY = "import time; data = bytearray(200 << 20); end = time.time() + 60\nwhile time.time() < end: pass"


def test_rates_are_since_the_reading_before(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    assert set(meter.read()) >= {"system/memory_bytes", "system/disk_bytes"}
    time.sleep(0.05)
    values = meter.read()
    assert all(name.startswith("system/") and value >= 0 for name, value in values.items())
    assert 0 <= values["system/cpu_percent"] <= 100
    assert 1e7 < values["system/memory_bytes"] < psutil.virtual_memory().total


def test_what_a_process_uses_counts_with_its_children(tmp_path: Path) -> None:
    meter = Meter(tmp_path, os.getpid())
    before = meter.read()["system/run/memory_bytes"]
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        time.sleep(1.0)
        values = meter.read()
    finally:
        child.kill()
        child.wait()
    assert values["system/run/memory_bytes"] > before + (150 << 20)
    assert values["system/run/cpu_percent"] > 10 / (psutil.cpu_count() or 1)


@pytest.mark.gpu
def test_the_gpus_that_a_process_sees_and_what_they_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Meter(tmp_path).read()
    assert whole["system/gpu-0/memory_bytes"] > 0 and whole["system/gpu-0/watts"] > 1
    meter = Meter(tmp_path, os.getpid(), joules=1000.0)
    meter.read()
    time.sleep(1)
    assert 1001 < meter.read()[JOULES] < 3000
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not any("gpu" in name for name in Meter(tmp_path, os.getpid()).read())
