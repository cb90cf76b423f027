"""The command line: quick to answer, clear about mistakes, never a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import Bench, finished, make_bench, write_jsonl

__all__ = ["finished"]  # the fixture

COMMANDS = [
    [], ["quickstart"], ["check"], ["run"], ["resume"], ["stop"], ["report"], ["compare"], ["runs"], ["runs", "ls"],
    ["runs", "show"], ["runs", "logs"], ["runs", "rm"], ["data"], ["data", "build"], ["data", "show"], ["data", "ls"],
    ["data", "preview"],
    ["models"], ["models", "ls"],
    ["connections"], ["connections", "add"], ["connections", "ls"], ["connections", "test"],
    ["connections", "browse"], ["connections", "preview"], ["connections", "rm"],
    ["models", "show"], ["models", "download"], ["models", "export"], ["models", "generate"],
    ["models", "import"], ["models", "push"], ["models", "gguf"], ["models", "alias"], ["models", "gate"],
    ["models", "lineage"],
]  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("bench"))


def failed(bench: Bench, code: int, *arguments: str) -> str:
    done = bench.rewarm(*arguments)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command(bench: Bench, command: list[str]) -> None:
    done = bench.rewarm(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom rewarm.cli.main import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pyarrow', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version(bench: Bench) -> None:
    assert bench.rewarm("--version").stdout.startswith("rewarm 0.")


def test_a_fresh_workspace_says_what_to_do(bench: Bench) -> None:
    assert "start one with: rewarm run" in bench.rewarm("runs", "ls").stdout
    assert "make one with: rewarm data build" in bench.rewarm("data", "ls").stdout
    assert "a finished run publishes one" in bench.rewarm("models", "ls").stdout
    assert json.loads(bench.rewarm("runs", "ls", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.yaml"], "there is no such recipe"),
        (["run", "recipe.yaml", "hyperparameters.lora_rnk=3"], "did you mean 'lora_rank'?"),
        (["run", "recipe.yaml", "trainer=dpo"], "not available in this version"),
        (["run", "recipe.yaml", "hyperparameters={quantization_bit: int4, finetuning_type: full}"], "quantised bases"),
        (["resume", "nothing"], "no run is called"),
        (["resume", "x", "--from", "bake"], "no run is called"),
        (["stop", "nothing"], "no run is called"),
        (["report", "nothing"], "no run is called"),
        (["data", "show", "nothing"], "there is no dataset and no run"),
        (["runs", "ls", "--colour"], "No such option"),
        (["models", "generate", "recipe.yaml", "x"], "neither a hub id"),
    ],
)  # fmt: skip
def test_usage_and_recipe_mistakes_end_with_2(bench: Bench, arguments: list[str], words: str) -> None:
    code = 3 if words == "neither a hub id" else 2
    assert words in failed(bench, code, *arguments)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("base_model=nameless", "neither a hub id"),
        ("base_model=./nothing", "nothing"),
        ("base_model=tiny@7", "no model 'tiny'"),
        ("data.sources[0].path=nothing/*.jsonl", "nothing/*.jsonl"),
    ],
)
def test_model_and_data_mistakes_end_with_3(bench: Bench, override: str, words: str) -> None:
    assert words in failed(bench, 3, "run", "recipe.yaml", override)
    assert words in failed(bench, 3, "check", "recipe.yaml", override)


def test_an_address_with_a_secret_is_refused_before_anything_is_written(bench: Bench, tmp_path: Path) -> None:
    for name in ("SmolLM2-135M-Instruct/README.md", "law-vi.jsonl", "python-en.jsonl", "packages-en.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()  # so that quickstart has nothing to fetch
    shutil.copy(bench.recipe, tmp_path)
    secret = "data.sources[0].path=https://me:canary@127.0.0.1/a.jsonl"
    for command in (["run", "recipe.yaml"], ["check", "recipe.yaml"], ["quickstart", "--folder", str(tmp_path)]):
        said = failed(bench, 2, *command, secret)
        assert "this address has a password" in said and "canary" not in said
    given = tmp_path / "secret.yaml"
    given.write_text(bench.recipe.read_text().replace("new.jsonl", "s3://key:canary@bucket/new"))
    assert "canary" not in failed(bench, 2, "run", str(given))
    written = (path.read_bytes() for path in bench.workspace.root.rglob("*") if path.is_file())
    assert not any(b"canary" in data for data in written)


def test_bad_records_beyond_the_limit_end_with_3(bench: Bench) -> None:
    write_jsonl(bench.folder / "half.jsonl", ["fine"] * 3 + [""] * 3)
    text = failed(bench, 3, "run", "recipe.yaml", "data.sources[0].path=half.jsonl")
    assert "half.jsonl" in text


def test_check_says_what_a_run_would_do(bench: Bench) -> None:
    done = bench.rewarm("check", "recipe.yaml", "hyperparameters.pref_beta=0.2")
    assert done.returncode == 0, done.stderr
    for words in (
        "training tokens",
        "steps",
        "memory",
        "disk",
        "baseline",
        "evaluate",
        "because the trainer is Pre-training",
    ):
        assert words in done.stdout
    found = json.loads(bench.rewarm("check", "recipe.yaml", "--json").stdout)
    assert found["texts"]["new"]["files"] == 1
    assert found["needs"]["steps"] > 0
    assert not (bench.workspace.root / "runs" / "x").exists()


def test_check_refuses_what_no_disk_holds(bench: Bench) -> None:
    for command in ("check", "run"):
        text = failed(bench, 4, command, "recipe.yaml", "hyperparameters.number_of_checkpoints=1000000000")
        assert "are free in" in text


def test_check_knows_hours_and_money(bench: Bench) -> None:
    rate = "infrastructure.cost_per_hour=3600 EUR"
    found = json.loads(bench.rewarm("check", "recipe.yaml", "--json", rate).stdout)
    assert found["device_hours"] == pytest.approx(found["times"]["total"] / 3600)
    assert found["cost"] == f"{found['times']['total']:.2f} EUR"
    assert "CPU-hours" in bench.rewarm("check", "recipe.yaml", rate).stdout
    text = failed(bench, 2, "check", "recipe.yaml", "infrastructure.cost_per_hour=cheap")
    assert "2.50 EUR" in text


def test_check_is_exact_where_the_dataset_exists(finished: Bench) -> None:
    found = json.loads(finished.rewarm("check", "recipe.yaml", "--json").stdout)
    trained = json.loads(finished.rewarm("report", "last", "--format", "json").stdout)["training"]
    assert (found["needs"]["tokens"], found["needs"]["steps"]) == (trained["tokens"], trained["steps"])
    assert all(text["exact"] for text in found["texts"].values())
    assert found["times"]["prepare"] == 0 and found["scored"]["new"]["documents"] == 32
    parts = [found["times"][stage] for stage in ("baseline", "train", "evaluate")]
    assert found["times"]["total"] == pytest.approx(sum(parts))
    assert found["times"]["train"] > found["needs"]["seconds"]  # with the evaluation in its middle
    lines = [line for line in finished.rewarm("check", "recipe.yaml").stdout.splitlines() if "training tokens" in line]
    assert "~" not in lines[0]


def test_check_is_not_stopped_by_a_dataset_that_a_run_would_make_again(finished: Bench) -> None:
    name = json.loads(finished.rewarm("check", "recipe.yaml", "--json").stdout)["dataset"]
    tokens = next((finished.workspace.datasets / name).rglob("tokens-*.bin"))
    whole = tokens.read_bytes()
    try:
        tokens.unlink()
        tokens.write_bytes(whole[:-2])
        assert json.loads(finished.rewarm("check", "recipe.yaml", "--json").stdout)["dataset"] is None
    finally:
        tokens.write_bytes(whole)


def test_check_counts_whole_documents(bench: Bench) -> None:
    write_jsonl(bench.folder / "unread.jsonl", [f"nhang trem {number} " * 5 for number in range(300)])
    small = ["data.sources[0].path=unread.jsonl", "data.sources[0].weight=1e-4", "hyperparameters.epochs=1"]
    found = json.loads(bench.rewarm("check", "recipe.yaml", *small, "--json").stdout)
    mean = {name: text["tokens"] / text["documents"] for name, text in found["texts"].items()}
    assert found["needs"]["tokens"] >= mean["new"] + mean["old"]  # the first document of each is taken whole


def test_what_a_finished_run_shows(finished: Bench) -> None:
    shown = finished.rewarm("runs", "show", "last")
    assert "succeeded" in shown.stdout and "training loss" in shown.stdout
    assert json.loads(finished.rewarm("runs", "show", "last", "--json").stdout)["state"] == "succeeded"
    assert "bits per byte" in finished.rewarm("report", "last").stdout
    assert json.loads(finished.rewarm("report", "last", "--format", "json").stdout)["schema"]
    assert finished.rewarm("report", "last", "--format", "md").stdout.startswith("#")
    assert Path(finished.rewarm("report", "last", "--format", "html").stdout.strip()).is_file()
    assert failed(finished, 2, "report", "last", "--format", "pdf")
    assert "all are as the report says" in finished.rewarm("report", "last", "--recompute").stdout
    found = json.loads(finished.rewarm("compare", "base", "tiny@1", "--json").stdout)
    told = json.loads(finished.rewarm("report", "last", "--format", "json").stdout)
    assert found["headline"] == told["headline"]
    assert "one and the same result" in failed(finished, 2, "compare", "last", "tiny@1")
    assert "tiny@1" in finished.rewarm("models", "ls").stdout
    model = finished.rewarm("models", "show", "tiny@1").stdout
    assert "every file matches" in model and "Gain: " in model and "forg" in model
    assert json.loads(finished.rewarm("models", "show", "tiny@1", "--json").stdout)["headline"]["gain"]["of"] == ["new"]
    data = finished.rewarm("data", "show", "last", "--samples", "1")
    assert "Held out" in data.stdout and "new #0" in data.stdout
    events = finished.rewarm("runs", "logs", "last", "--json").stdout.splitlines()
    assert all(json.loads(line)["v"] == 1 for line in events)


def test_data_is_named_by_hash_run_recipe_or_last(finished: Bench) -> None:
    run = finished.run()
    unprepared = run.path.with_name("29991231T235959-tiny-0000")
    unprepared.mkdir()
    (unprepared / "recipe.yaml").write_text("name: tiny")
    try:
        shown = [
            json.loads(finished.rewarm("data", "show", name, "--json").stdout)["dataset"]
            for name in ("last", "tiny", run.id)
        ]
        assert len(set(shown)) == 1
        assert json.loads(finished.rewarm("data", "show", shown[0][:8], "--json").stdout)["dataset"] == shown[0]
        assert "has not prepared" in failed(finished, 2, "data", "show", unprepared.name)
        assert "names a dataset" in failed(finished, 2, "data", "show", shown[0], "--rows", "1")
        (unprepared / "resolved.json").write_text('{"dataset": "')
        assert "damaged" in failed(finished, 3, "data", "show", "last")
    finally:
        shutil.rmtree(unprepared)


@pytest.mark.parametrize("text", ['{"files": {', '{"files": {}}', '{"files": {"a": 3}, "sources": 7}'])
def test_what_is_damaged_does_not_hide_the_rest(finished: Bench, text: str) -> None:
    for command, place in (("data", finished.workspace.datasets / "00"), ("models", finished.workspace.models / "x/1")):
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(text)
        try:
            listed = finished.rewarm(command, "ls")
            assert listed.returncode == 0, listed.stderr
            assert "damaged" in listed.stdout and ("tiny@1" in listed.stdout or "new" in listed.stdout)
        finally:
            shutil.rmtree(place)


def test_an_export_says_what_it_wrote(finished: Bench, tmp_path: Path) -> None:
    said = finished.rewarm("models", "export", "last", str(tmp_path / "out")).stdout
    assert f"{tmp_path / 'out'}: checkpoint last of {finished.run().id}" in said


def test_generate(finished: Bench) -> None:
    done = finished.rewarm("models", "generate", "tiny@1", "nhang trem", "--tokens", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nhang trem")


def test_a_published_model_is_the_base_of_the_next_run(finished: Bench) -> None:
    found = json.loads(finished.rewarm("check", "recipe.yaml", "base_model=tiny@1", "--json").stdout)
    assert found["base_model"]["folder"].endswith("tiny/1")


def test_a_damaged_version_is_noticed(finished: Bench, tmp_path: Path) -> None:
    weights = finished.workspace.models / "tiny" / "1" / "model.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert "SHA-256 differs" in failed(finished, 3, "models", "show", "tiny@1")
        assert "SHA-256 differs" in failed(finished, 3, "check", "recipe.yaml", "base_model=tiny@1")
    finally:
        weights.write_bytes(whole)


def test_a_closed_pipe_is_no_mistake(finished: Bench) -> None:
    code = "from rewarm.cli.main import main; main()"
    line = f"{sys.executable} -c '{code}' runs logs last --json | head -1"
    done = subprocess.run(["bash", "-c", line], env=finished.environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_a_running_run_is_shown_with_its_progress(bench: Bench) -> None:
    assert bench.rewarm("run", "recipe.yaml", "--detach").returncode == 0
    until = time.monotonic() + 60
    while bench.run().status().stage != "train" and time.monotonic() < until:
        time.sleep(0.1)
    rows = json.loads(bench.rewarm("runs", "ls", "--json").stdout)
    assert rows[0]["run"] == bench.run().id
    bench.rewarm("stop", "last")
