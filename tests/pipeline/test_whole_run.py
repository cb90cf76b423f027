"""The main job, end to end, through the command line: text and a model in; a better model and the proof out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.cli.check import examine
from rewarm.cli.data import build
from rewarm.core.events import metrics, read_events
from rewarm.core.run import STAGES, Run, list_runs
from rewarm.core.storage import sha256_file
from rewarm.recipe.load import load_recipe
from tests.pipeline.conftest import Bench, make_bench


def loss_curve(run: Run) -> list[tuple[int, str]]:
    points = metrics(event for event, _ in read_events(run.events))
    return [(step, value.hex()) for step, _, value in points["train/loss"]]


def weights(run: Run) -> str:
    return sha256_file(run.path / "model" / "model.safetensors")


def test_the_whole_way(finished: Bench) -> None:
    run = finished.run()
    assert run.status().state == "succeeded"
    report = orjson.loads((run.report / "report.json").read_bytes())
    rows = {row["task"]: row for row in report["rows"]}
    assert rows["new"]["role"] == "gain"
    assert rows["new"]["result"] < rows["new"]["base"]
    assert rows["new"]["high"] < 0
    seen = {text["name"]: text["tokens_seen"] for text in report["data"]["texts"]}
    assert seen["other"] is None
    assert seen["new"] + seen["old"] == report["training"]["tokens"]
    assert [row["tokens"] > 0 for row in report["data"]["first_rows"]] == [True] * 3
    assert rows["old"]["role"] == rows["other"]["role"] == "forgetting"
    for name in ("report.md", "report.html"):
        assert "tiny" in (run.report / name).read_text()
    points = metrics(event for event, _ in read_events(run.events))
    assert len(points["eval/new/bits_per_byte"]) >= 3  # base, the middle, the end


def test_the_model_loads_by_plain_transformers(finished: Bench) -> None:
    folder = finished.workspace.models / "tiny" / "1"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("nhang trem", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.isfinite(model(ids).logits).all()
    lineage = orjson.loads((folder / "lineage.json").read_bytes())
    assert lineage["run"] == finished.run().id
    assert {"base", "dataset", "recipe", "code"} <= set(lineage)
    assert "base_model" in (folder / "README.md").read_text()


def test_a_finished_run_resumes_to_nothing(finished: Bench) -> None:
    before = weights(finished.run())
    done = finished.rewarm("resume", "last")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as before") == len(STAGES)
    assert weights(finished.run()) == before
    assert len(list((finished.workspace.models / "tiny").iterdir())) == 1


def test_the_same_recipe_again_uses_what_is_there(finished: Bench) -> None:
    datasets = sorted(p.name for p in finished.workspace.datasets.iterdir() if len(p.name) > 20)
    done = finished.rewarm("run", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in finished.workspace.datasets.iterdir() if len(p.name) > 20) == datasets
    first, second = sorted((finished.workspace.runs).iterdir())[:2]
    assert loss_curve(Run(first)) == loss_curve(Run(second))
    assert weights(Run(first)) == weights(Run(second))
    assert (finished.workspace.models / "tiny" / "2").is_dir()


def wait_for(run: Run, condition: str, timeout: float = 120) -> None:
    """Wait until a regular expression matches the events."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if run.events.exists() and re.search(condition, run.events.read_text()):
            return
        time.sleep(0.02)
    pytest.fail(f"{condition} never came: {run.log.read_text() if run.log.exists() else ''}")


LONG = "hyperparameters.epochs=16"
"""A training that is still going on when a signal comes."""


def detached(bench: Bench, *overrides: str) -> Run:
    done = bench.rewarm("run", "recipe.yaml", "--detach", *overrides)
    assert done.returncode == 0, done.stderr
    return bench.run()


def test_killed_twice_and_resumed_the_curve_is_equal_to_the_bit(finished: Bench, tmp_path: Path) -> None:
    expected = finished.run()
    bench = make_bench(tmp_path)
    run = detached(bench)
    wait_for(run, r'"step":5,[^\n]*"train/loss"')
    os.kill(int((run.process() or {})["pid"]), signal.SIGKILL)
    until = time.monotonic() + 10
    while run.alive() and time.monotonic() < until:
        time.sleep(0.02)
    assert run.status().state == "lost"
    assert "lost" in bench.rewarm("runs", "ls").stdout
    resumed = bench.rewarm("resume", "last", "--detach")
    assert resumed.returncode == 0, resumed.stderr
    wait_for(run, r'"attempt":2[^\n]*"step":9,[^\n]*"train/loss"')
    os.kill(int((run.process() or {})["pid"]), signal.SIGKILL)
    time.sleep(0.5)
    done = bench.rewarm("resume", "last")
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss_curve(run) == loss_curve(expected)
    assert weights(run) == weights(expected)


def test_stop_writes_a_checkpoint_and_resume_goes_on(finished: Bench, bench: Bench) -> None:
    run = detached(bench)
    wait_for(run, r'"step":2,[^\n]*"train/loss"')
    done = bench.rewarm("stop", "last")
    assert done.returncode == 0, done.stderr
    assert "stopped" in done.stdout
    assert run.status().state == "stopped"
    assert list(run.checkpoints.glob("step-*"))
    assert bench.rewarm("stop", "last").returncode == 2  # it is not running
    done = bench.rewarm("resume", "last")
    assert done.returncode == 0, done.stderr
    assert loss_curve(run) == loss_curve(finished.run())


def test_sigterm_is_143_with_a_checkpoint(bench: Bench) -> None:
    run = detached(bench, LONG)
    wait_for(run, r'"step":2,[^\n]*"train/loss"')
    os.kill(int((run.process() or {})["pid"]), signal.SIGTERM)
    until = time.monotonic() + 30
    while run.alive() and time.monotonic() < until:
        time.sleep(0.05)
    assert run.status().state == "preempted"
    assert list(run.checkpoints.glob("step-*/manifest.json"))


def test_ctrl_c_in_the_terminal_stops_the_run(bench: Bench) -> None:
    command = [sys.executable, "-c", "from rewarm.cli.main import main; main()", "run", "recipe.yaml"]
    terminal = subprocess.Popen(
        command, env=bench.environment, cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 60
    while not list_runs(bench.workspace) and time.monotonic() < until:
        time.sleep(0.05)
    wait_for(bench.run(), r'"step":2,[^\n]*"train/loss"')
    terminal.send_signal(signal.SIGINT)
    output, _ = terminal.communicate(timeout=60)
    assert terminal.returncode == 130, output
    assert "rewarm resume" in output
    assert bench.run().status().state == "stopped"


def test_a_closed_terminal_does_not_hurt_the_run(bench: Bench) -> None:
    command = [sys.executable, "-c", "from rewarm.cli.main import main; main()", "run", "recipe.yaml"]
    terminal = subprocess.Popen(command, env=bench.environment, cwd=bench.folder, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list_runs(bench.workspace) and time.monotonic() < until:
        time.sleep(0.05)
    wait_for(bench.run(), r'"stage":"(baseline|train)"')
    terminal.kill()
    terminal.wait()
    followed = bench.rewarm("runs", "logs", "-f", "last")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert bench.run().status().state == "succeeded"


def test_any_checkpoint_becomes_a_folder(finished: Bench, tmp_path: Path) -> None:
    first = sorted((finished.workspace.runs).iterdir())[0].name
    done = finished.rewarm("models", "export", first, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert finished.rewarm("models", "export", first, str(tmp_path / "out")).returncode == 2  # it exists
    assert finished.rewarm("models", "export", first, str(tmp_path / "b"), "--checkpoint", "step-999").returncode == 2


def test_a_changed_result_is_made_again(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml").returncode == 0
    run = bench.run()
    (run.results / "rows.json").write_text("[]")
    done = bench.rewarm("resume", "last")
    assert done.returncode == 0, done.stderr
    assert "was changed: stage evaluate runs again" in done.stdout
    assert orjson.loads((run.results / "rows.json").read_bytes())


def test_lora_with_a_task_of_ones_own_and_a_published_average(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    items = [{"q": f"nhang {i}", "choices": ["trem", "block"], "gold": i % 2} for i in range(12)]
    (tasks / "items.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in items))
    (tasks / "pick.yaml").write_text(
        "task: pick\ndataset_path: json\ndataset_kwargs: {data_files: {test: " + str(tasks / "items.jsonl") + "}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: choices\n"
        "doc_to_target: gold\nmetric_list: [{metric: acc}]\n"
    )
    done = bench.rewarm(
        "run",
        "recipe.yaml",
        "hyperparameters.finetuning_type=lora",
        "hyperparameters.lora_rank=4",
        "evaluation.tasks=[pick]",
        "evaluation.task_path=tasks",
        "evaluation.candidates=[average]",
        "evaluation.publish=running_average",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = orjson.loads((bench.run().report / "report.json").read_bytes())
    assert any(row["task"] == "pick" and row["metric"] == "acc" for row in report["rows"])
    found = {other["weights"]: {row["task"]: row["result"] for row in other["rows"]} for other in report["candidates"]}
    found["running_average"] = {row["task"]: row["result"] for row in report["rows"] if row["task"] != "pick"}
    assert [*found] == ["trained", "average", "running_average"] and report["result"]["weights"] == "running_average"
    assert len({texts["new"] for texts in found.values()}) == 3 and len({*map(tuple, found.values())}) == 1
    assert report["curves"]["eval/new/bits_per_byte"][-1][2] == found["trained"]["new"]
    assert "Candidates of this training" in (bench.run().report / "report.html").read_text()
    assert not (bench.run().path / "candidate").exists()
    AutoModelForCausalLM.from_pretrained(bench.workspace.models / "tiny" / "1")


def states_of(run: Run) -> list[str]:
    return [event["state"] for event, _ in read_events(run.events) if event["kind"] == "state"]


def test_a_training_that_was_given_up_is_in_no_figure(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml").returncode == 0
    run = bench.run()
    run.recipe.write_text(run.recipe.read_text().replace("epochs: 2", "epochs: 1"))
    done = bench.rewarm("resume", "last", "--from", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    report = orjson.loads((run.report / "report.json").read_bytes())
    steps = report["training"]["steps"]
    for name, points in report["curves"].items():
        assert max(step for step, _, _ in points) <= steps, name
    assert len(report["curves"]["train/loss"]) == steps
    assert "lost" not in states_of(run)  # it had ended well
    assert not list(run.path.glob("checkpoints.before-*"))  # what the new training took the place of


def test_training_goes_on_from_a_chosen_checkpoint_to_the_same_weights(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml").returncode == 0
    run = bench.run()
    before, first, *later = weights(run), *sorted(run.checkpoints.iterdir(), key=lambda path: int(path.name[5:]))
    assert later
    refused = bench.rewarm("resume", "last", "--from", "step-1")
    assert refused.returncode == 2 and first.name in refused.stderr
    done = bench.rewarm("resume", "last", "--from", first.name)
    assert done.returncode == 0, done.stdout + done.stderr
    begun = [event["value"] for event, _ in read_events(run.events) if event.get("name") == "training from step"]
    assert begun == [0, int(first.name[5:])]
    assert weights(run) == before and not list(run.path.glob("checkpoints.before-*"))


def test_where_a_run_begins_again_is_remembered_when_it_is_killed(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml").returncode == 0
    run = bench.run()
    assert bench.rewarm("resume", "last", "--from", "baseline", "--detach").returncode == 0
    wait_for(run, r'"attempt":2[^\n]*"stage":"(baseline|train)"')
    os.kill(int((run.process() or {})["pid"]), signal.SIGKILL)
    time.sleep(0.3)
    done = bench.rewarm("resume", "last")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as before") < len(STAGES) - 1
    assert states_of(run).count("lost") == 1


def test_a_version_that_is_gone_is_published_again(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml").returncode == 0
    for path in sorted(bench.workspace.models.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done = bench.rewarm("resume", "last")
    assert done.returncode == 0, done.stderr
    assert (bench.workspace.models / "tiny" / "1" / "manifest.json").is_file()
    lineage = orjson.loads((bench.workspace.models / "tiny" / "1" / "lineage.json").read_bytes())
    assert lineage["overrides"] == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hyperparameters.resume_from_checkpoint=checkpoints/step-4", "no such checkpoint"),
        ("hyperparameters.max_sequence_length=4096", "more than the 256"),
        ("evaluation.task_path=nowhere", "no such folder"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_read(bench: Bench, override: str, said: str) -> None:
    done = bench.rewarm("run", "recipe.yaml", override)
    assert done.returncode == 2
    assert said in done.stderr
    assert not bench.workspace.datasets.exists()


def test_two_resumes_at_once_are_one(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml").returncode == 0
    run = bench.run()
    command = [sys.executable, "-c", "from rewarm.cli.main import main; main()", "resume", "last", "--from", "baseline"]
    both = [
        subprocess.Popen(command, env=bench.environment, cwd=bench.folder, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=240) for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    refused = next(err for process, (_, err) in zip(both, ends, strict=True) if process.returncode == 2)
    assert "running already" in refused and "rewarm runs logs -f" in refused
    assert run.status().state == "succeeded" and run.status().attempt == 2


def test_benchmark_items_in_the_text_are_removed_and_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = make_bench(tmp_path)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    leaked = (tmp_path / "new.jsonl").read_bytes().split(b"\n")
    long = [orjson.loads(line)["text"] for line in leaked if len(line.split()) > 30][:4]
    items = [{"q": text, "choices": [" trem", " block"], "gold": 0} for text in [*long, "quite another thing " * 9]]
    (tasks / "items.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in items))
    (tasks / "pick.yaml").write_text(
        "task: pick\ndataset_path: json\ndataset_kwargs: {data_files: {test: " + str(tasks / "items.jsonl") + "}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: choices\n"
        "doc_to_target: gold\nmetric_list: [{metric: acc}]\n"
    )
    changes = ["evaluation.tasks=[pick]", "evaluation.task_path=tasks", "hyperparameters.epochs=1"]
    changes.append("data.steps=[{kind: decontaminate}]")
    done = bench.rewarm("run", "recipe.yaml", *changes)
    assert done.returncode == 0, done.stdout + done.stderr
    used = orjson.loads((bench.run().path / "resolved.json").read_bytes())["dataset"]
    monkeypatch.setenv("REWARM_HOME", str(bench.workspace.root))
    build(bench.recipe, changes, as_json=True)  # in this process: torch is loaded
    assert orjson.loads(capsys.readouterr().out)["dataset"] == used
    checked = examine(load_recipe(bench.recipe, changes), bench.workspace)
    assert checked["dataset"] == used and all(text["exact"] for text in checked["texts"].values())
    shown = orjson.loads(bench.rewarm("data", "show", "last", "--json").stdout)
    entry = next(source for source in shown["sources"] if source["name"] == "new")
    assert entry["filtered"]["decontaminate: 13-gram of pick"] >= 4
    assert entry["flagged"]["decontaminate: 13-gram of pick"] == ["0", "1", "2", "3"]
    told = (bench.run().report / "report.md").read_text().replace("\\", "")
    assert "not trained on (4 items found)" in told
    assert (
        "80 % of its items (4 of 5) share a run of words with the training text" in told and "On the other 1: " in told
    )
    row = next(row for row in orjson.loads((bench.run().report / "report.json").read_bytes())["rows"] if row["p"])
    assert (row["n"], row["flagged"], row["clean"]["n"]) == (5, 4, 1)


def test_sighup_is_a_stop_with_a_checkpoint(bench: Bench) -> None:
    run = detached(bench, LONG)
    wait_for(run, r'"step":2,[^\n]*"train/loss"')
    os.kill(int((run.process() or {})["pid"]), signal.SIGHUP)
    until = time.monotonic() + 30
    while run.alive() and time.monotonic() < until:
        time.sleep(0.05)
    assert run.status().state == "preempted"
    assert list(run.checkpoints.glob("step-*/manifest.json"))
    log = run.log.read_text()
    assert re.search(r"INFO step 1, loss \d\.\d+, learning rate \S+, \S+ k? ?tokens/s\n", log)
    assert "INFO prepare: done in" in log and "held-out new" in log and "INFO checkpoint checkpoints/step-" in log


def test_damaged_records_and_manifests_are_made_again(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml").returncode == 0
    run = bench.run()
    before = weights(run)
    stage = run.stage_record("baseline")
    stage.write_bytes(stage.read_bytes()[:30])
    with run.events.open("ab") as file:
        file.write(b"null\n")
    manifests = [
        *run.checkpoints.glob("step-*/manifest.json"),
        *bench.workspace.evaluations.glob("*/manifest.json"),
        *bench.workspace.datasets.glob("*/manifest.json"),
        *bench.workspace.models.glob("*/*/manifest.json"),
    ]
    for path in manifests:
        path.write_bytes(path.read_bytes().replace(b'"sha256"', b'"changed"'))
    done = bench.rewarm("resume", "last")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "baseline.json: this file is damaged: stage baseline runs again" in done.stdout.replace("\n", "")
    assert "what stood behind the last whole event is in events.damaged now" in done.stdout
    assert weights(run) == before


def test_a_panel_of_another_size_than_it_must_have_is_an_error(bench: Bench) -> None:
    done = bench.rewarm("run", "recipe.yaml", "evaluation.panels[0].records=61")
    assert done.returncode == 3 and "60 records were read, and 61 must be there" in done.stdout + done.stderr
