from __future__ import annotations

import json
import logging
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rewarm.core.errors import DataError, ModelError, UserError
from rewarm.evaluate.harness import TaskResult, run_tasks
from rewarm.report.compare import compare_tasks

CHOICE = """\
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/choice.jsonl"}}
test_split: test
fewshot_split: test
num_fewshot: 2
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
metadata: {version: 3.0}
"""
CLOZE = """\
task: tiny_cloze
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/choice.jsonl"}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: "{{choices[gold]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
"""
ROLLING = """\
task: tiny_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/choice.jsonl"}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}} {{question}} {{question}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""
GENERATE = """\
task: tiny_generate
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/choice.jsonl"}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: !function own.target
generation_kwargs: {until: ["."], max_gen_toks: 4}
metric_list: [{metric: exact_match}]
"""
BROKEN = """\
task: tiny_broken
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/missing.jsonl"}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: "{{question}}"
"""
NAMES = ["tiny_choice", "tiny_cloze", "tiny_rolling", "tiny_generate"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of own tasks of every kind of output, over local text."""
    folder = tmp_path_factory.mktemp("tasks")
    draw = random.Random(0)
    words = ["river", "stone", "lamp", "seven", "grass", "wind"]
    rows = [
        {
            "question": " ".join(draw.choices(words, k=6)),
            "choices": [f" {word}" for word in draw.sample(words, 3)],
            "gold": draw.randrange(3),
        }
        for _ in range(12)
    ]
    (folder / "choice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "own.py").write_text('def target(doc):\n    return "qqqq"\n')
    for text in (CHOICE, CLOZE, ROLLING, GENERATE, BROKEN):
        name = text.split()[1]
        (folder / f"{name}.yaml").write_text(text.replace("FOLDER", str(folder)))
    return folder


@pytest.fixture(scope="module")
def stock(folder: Path, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """The figures of the harness's own command."""
    output = tmp_path_factory.mktemp("stock")
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={folder}"]
    command += ["--tasks", ",".join(NAMES), "--include_path", str(tasks), "--limit", "9", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--output_path", str(output)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, float]] = json.loads(next(output.rglob("results*.json")).read_text())["results"]
    return found


@pytest.fixture(scope="module")
def ours(folder: Path, tasks: Path) -> dict[str, TaskResult]:
    return run_tasks(folder, NAMES, task_path=tasks, limit=9)


def test_figures_equal_those_of_the_stock_command(
    ours: dict[str, TaskResult], stock: dict[str, dict[str, float]]
) -> None:
    compared = 0
    for name in NAMES:
        for metric, figure in ours[name].metrics.items():
            assert figure.value == stock[name][f"{metric},none"], (name, metric)
            compared += 1
        assert len(ours[name].items) == stock[name]["sample_len"] == 9
    assert compared == 8
    assert ours["tiny_choice"].version == "3.0"


def test_items_make_up_the_figures(ours: dict[str, TaskResult]) -> None:
    rows = {(row["task"], row["metric"]): row for row in compare_tasks(ours, ours, seed=1)}
    assert len(rows) == 8
    for (name, metric), row in rows.items():
        assert row["base"] == pytest.approx(ours[name].metrics[metric].value, rel=1e-9), (name, metric)
        assert row["difference"] == 0 and row["kind"] == "task"
    assert rows["tiny_cloze", "perplexity"]["higher_is_better"] is False
    assert rows["tiny_choice", "acc"]["higher_is_better"] is True
    assert all(len(item["hash"]) == 64 for item in ours["tiny_choice"].items)


def test_scores_are_kept_and_an_edited_task_is_another(folder: Path, tasks: Path, tmp_path: Path) -> None:
    settings = {"task_path": tasks, "limit": 3, "evaluations": tmp_path, "model_key": "ab" * 32}
    first = run_tasks(folder, ["tiny_choice"], **settings)  # type: ignore[arg-type]
    again = run_tasks(tmp_path / "no such model", ["tiny_choice"], **settings)  # type: ignore[arg-type]
    assert again == first
    assert len(list(tmp_path.glob("[!.]*"))) == 1
    (tasks / "more.txt").write_text("changed")
    assert run_tasks(folder, ["tiny_choice"], **settings) == first  # type: ignore[arg-type]
    assert len(list(tmp_path.glob("[!.]*"))) == 2
    assert not list((tmp_path / ".unfinished").iterdir())


def test_progress_is_told_and_the_harness_is_quiet(
    folder: Path, tasks: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, float, float, str]] = []
    with caplog.at_level(logging.WARNING):
        run_tasks(folder, ["tiny_choice"], task_path=tasks, progress=lambda *what: seen.append(what))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("lm_eval")]
    assert seen[-1] == ("task tiny_choice", 36, 36, "requests")
    assert [done for _, done, _, _ in seen] == sorted(done for _, done, _, _ in seen)


def test_an_unknown_task_names_the_nearest(folder: Path, tasks: Path) -> None:
    with pytest.raises(UserError, match=r"no task is called 'tiny_choise'; did you mean 'tiny_choice'\?") as error:
        run_tasks(folder, ["tiny_choise"], task_path=tasks)
    assert error.value.exit_code == 2


def test_missing_data_of_a_task_is_an_error_of_data(folder: Path, tasks: Path) -> None:
    with pytest.raises(DataError, match="tiny_broken cannot be loaded") as error:
        run_tasks(folder, ["tiny_broken"], task_path=tasks)
    assert error.value.exit_code == 3 and error.value.remedy


def test_data_that_the_hub_alone_has_says_how_to_bring_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    text = CHOICE.replace("dataset_path: json", "dataset_path: nobody/nothing")
    (tmp_path / "away.yaml").write_text("\n".join(line for line in text.split("\n") if "dataset_kwargs" not in line))
    with pytest.raises(DataError, match="tiny_choice cannot be loaded: ConnectionError") as caught:
        run_tasks(folder, ["tiny_choice"], task_path=tmp_path)
    assert 'datasets.load_dataset("nobody/nothing")' in str(caught.value) and "HF_HOME" in str(caught.value)


def test_a_tokenizer_with_another_rule_for_bos_is_asked_by_its_own(folder: Path, tasks: Path, tmp_path: Path) -> None:
    """One that puts BOS before every text: unset, prompts begin with it; false, they do not."""
    other = tmp_path / "bos"
    shutil.copytree(folder, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    single = [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<|bos|>": {"id": "<|bos|>", "ids": [0], "tokens": ["<|bos|>"]}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": special,
    }
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))

    def scores(model: Path, bos: bool | None) -> list[object]:
        found = run_tasks(model, ["tiny_cloze"], task_path=tasks, limit=5, add_bos=bos)
        return [item["perplexity"] for item in found["tiny_cloze"].items]

    assert scores(other, None) == scores(other, True) == scores(folder, True)
    assert scores(other, False) == scores(folder, False) != scores(other, True)


def test_an_item_without_options_is_named(folder: Path, tmp_path: Path) -> None:
    rows = [{"question": "stone", "choices": [" a", " b"] if i != 3 else [], "gold": 0} for i in range(6)]
    (tmp_path / "choice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tiny_choice.yaml").write_text(CHOICE.replace("FOLDER", str(tmp_path)).replace("num_fewshot: 2", ""))
    with pytest.raises(DataError, match="item 3 has no options"):
        run_tasks(folder, ["tiny_choice"], task_path=tmp_path)
    run_tasks(folder, ["tiny_choice"], task_path=tmp_path, limit=3)


def test_results_survive_json(ours: dict[str, TaskResult]) -> None:
    for result in ours.values():
        assert TaskResult.from_json(json.loads(json.dumps(result.to_json()))) == result
        for figure in result.metrics.values():
            assert math.isfinite(figure.value)


def test_a_model_that_answers_no_number_gets_no_score(folder: Path, tasks: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    model.save_pretrained(broken)
    with pytest.raises(ModelError, match="a likelihood that is not a number") as raised:
        run_tasks(broken, ["tiny_choice"], task_path=tasks)
    assert raised.value.where == str(broken)


def test_several_requests_at_once_give_the_same_answers(folder: Path, tasks: Path, ours: dict[str, TaskResult]) -> None:
    found = run_tasks(folder, NAMES[:3], task_path=tasks, limit=9, batch_size=4)
    for name, result in found.items():
        for metric, figure in result.metrics.items():
            assert figure.value == pytest.approx(ours[name].metrics[metric].value, rel=1e-4), (name, metric)


def test_items_about_one_text_carry_its_mark(folder: Path, tmp_path: Path) -> None:
    rows = [{"article": f"river {i // 2}", "question": "stone", "choices": [" a", " b"], "gold": 0} for i in range(6)]
    (tmp_path / "choice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tiny_choice.yaml").write_text(CHOICE.replace("FOLDER", str(tmp_path)).replace("num_fewshot: 2", ""))
    items = run_tasks(folder, ["tiny_choice"], task_path=tmp_path)["tiny_choice"].items
    assert len({item["passage"] for item in items}) == 3 and items[0]["passage"] == items[1]["passage"]


def test_a_passage_that_stands_within_the_question_is_found(folder: Path, tmp_path: Path) -> None:
    places = ("river", "stone bridge", "old mill")
    rows = [
        {"question": f"{place} {'lies in the valley. ' * 12} Question {i}?", "choices": [" a", " b"], "gold": 0}
        for place in places
        for i in range(3)
    ] + [
        {"question": f"What is the capital of France number {i}?", "choices": [" a", " b"], "gold": 0} for i in range(3)
    ]
    (tmp_path / "choice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tiny_choice.yaml").write_text(CHOICE.replace("FOLDER", str(tmp_path)).replace("num_fewshot: 2", ""))
    items = run_tasks(folder, ["tiny_choice"], task_path=tmp_path)["tiny_choice"].items
    marks = [item.get("passage") for item in items]
    assert len(set(marks[:9])) == 3 and all(marks[i] == marks[i + 1] for i in (0, 1, 3, 4, 6, 7))
    assert marks[9:] == [None] * 3


KILLED = """\
import os, signal, sys
from pathlib import Path
from rewarm.evaluate.harness import run_tasks
folder, tasks, home, last = sys.argv[1:5]
def progress(what, done, total, unit):
    if done > int(last):
        os.kill(os.getpid(), signal.SIGKILL)
run_tasks(Path(folder), ["tiny_choice", "tiny_generate"], task_path=Path(tasks), evaluations=Path(home), model_key="m",
          progress=progress)
"""


@pytest.mark.parametrize("last", [20, 7])
def test_a_killed_evaluation_asks_only_for_the_rest(
    folder: Path, tasks: Path, ours: dict[str, TaskResult], tmp_path: Path, last: int
) -> None:
    command = [sys.executable, "-c", KILLED, str(folder), str(tasks), str(tmp_path), str(last)]
    assert subprocess.run(command, check=False, env={**os.environ, "HF_DATASETS_OFFLINE": "1"}).returncode == -9
    (unfinished,) = (tmp_path / ".unfinished").glob("*.jsonl")
    assert len(unfinished.read_bytes().splitlines()) >= last - 1
    told: list[tuple[str, float]] = []
    names = ["tiny_choice", "tiny_generate"]
    found = run_tasks(
        folder,
        names,
        task_path=tasks,
        evaluations=tmp_path,
        model_key="m",
        progress=lambda what, done, total, unit: told.append((what, done)),
    )
    asked = [done for what, done in told if what == "task tiny_choice" and done]
    assert min(asked) >= last - 1
    assert not list((tmp_path / ".unfinished").iterdir())
    whole = run_tasks(folder, names, task_path=tasks)
    for name in names:
        assert found[name].items == whole[name].items and found[name].metrics == whole[name].metrics
