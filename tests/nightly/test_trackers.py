"""MLflow and W&B themselves, installed into a folder of the test: each metric once, over two attempts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rewarm.core.events import TRAINING_FROM, EventLog
from rewarm.core.run import Run

_READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
runs = client.search_runs([client.get_experiment_by_name("rewarm").experiment_id])
points = [client.get_metric_history(run.info.run_id, "train/loss") for run in runs]
print(json.dumps([[(point.step, point.value) for point in of_run] for of_run in points]))
"""
_READ_WANDB = """
import json, pathlib, struct, sys
from wandb.proto import wandb_internal_pb2
data, place, found = pathlib.Path(sys.argv[1]).read_bytes(), 7, []
while place < len(data):  # LevelDB's log format; a run this short is one block of whole records
    length, kind = struct.unpack_from("<HB", data, place + 4)
    assert kind == 1 and len(data) < 32768
    record = wandb_internal_pb2.Record()
    record.ParseFromString(data[place + 7 : place + 7 + length])
    place += 7 + length
    if record.WhichOneof("record_type") == "history":
        values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        if "train/loss" in values:
            found.append((values["_step"], values["train/loss"]))
print(json.dumps(found))
"""


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "packages"), [("mlflow", ("mlflow-skinny", "alembic", "sqlalchemy")), ("wandb", ("wandb",))]
)
def test_the_tracker_itself(tmp_path: Path, kind: str, packages: tuple[str, ...]) -> None:
    there = tmp_path / "packages"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(there), *packages], check=True)
    run = Run(tmp_path / "runs" / "20260101T000000-a-beef")
    run.path.mkdir(parents=True)
    env = os.environ | {"PYTHONPATH": f"{Path.cwd() / 'src'}:{there}", "WANDB_MODE": "offline", "DO_NOT_TRACK": "1"}
    env.pop("MLFLOW_TRACKING_URI", None)
    for attempt, first, last in ((1, 0, 5), (2, 3, 7)):
        log = EventLog(run.events, attempt)
        log.result(TRAINING_FROM, first)
        for step in range(first + 1, last + 1):
            log.metric(step, 10 * step, {"train/loss": step - attempt / 2, "train/lr": 1e-5})
        log.close()
        command = [sys.executable, "-m", "rewarm.pipeline.trackers", kind, str(run.path)]
        subprocess.run(command, stdin=subprocess.DEVNULL, env=env, check=True, timeout=120)
    whole = [[1, 0.5], [2, 1.5], [3, 2.5], [4, 3.0], [5, 4.0], [6, 5.0], [7, 6.0]]
    if kind == "mlflow":
        script, of, wanted = _READ_MLFLOW, f"sqlite:///{tmp_path}/mlflow.db", [whole]  # one run: the first was deleted
    else:
        newest = max(run.path.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)
        script, of, wanted = _READ_WANDB, str(newest), whole
    read = subprocess.run([sys.executable, "-c", script, of], env=env, check=True, capture_output=True, text=True)
    assert json.loads(read.stdout) == wanted
