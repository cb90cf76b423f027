from __future__ import annotations

import time
from pathlib import Path

import orjson

from rewarm.core.machine import JOULES
from rewarm.core.run import Run
from rewarm.pipeline.system import sampling


def lines(run: Run) -> list[dict[str, dict[str, float]]]:
    return [orjson.loads(line) for line in run.system.read_bytes().splitlines()]


def test_a_run_is_sampled_while_it_lives_and_once_at_its_end(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with sampling(run, seconds=0.05):
        time.sleep(0.4)
    found = lines(run)
    assert 3 <= len(found) <= 9
    assert found[0]["values"]["system/run/memory_bytes"] > 1e7 and "system/cpu_percent" in found[0]["values"]
    time.sleep(0.1)
    assert lines(run) == found


def test_an_attempt_goes_on_behind_what_a_killed_one_left(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.system.write_bytes(orjson.dumps({"time": 1, "values": {JOULES: 77.0}}) + b'\n{"time": 2, "val')
    with sampling(run):
        pass
    data = run.system.read_bytes().splitlines()
    assert data[1] == b'{"time": 2, "val' and len(data) == 3
    assert orjson.loads(data[2])["values"].get(JOULES, 77.0) >= 77.0


def test_a_disk_that_takes_nothing_ends_no_run(tmp_path: Path) -> None:
    with sampling(Run(tmp_path / "gone"), seconds=0.02):
        time.sleep(0.1)
    assert not (tmp_path / "gone").exists()
