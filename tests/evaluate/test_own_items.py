"""A jsonl file of one's own as a task: the stock command's scores of the same prompts, and a line for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewarm.core.errors import DataError, UserError
from rewarm.evaluate.harness import check_tasks, run_tasks, task_texts
from rewarm.evaluate.own_items import read_items
from rewarm.report.compare import compare_tasks

CHOICES = [
    {
        "id": f"q{i}",
        "question": f"{i} + 1?",
        "choices": [str(i), str(i + 1), "none"],
        "answer": ["B", str(i + 1), 1][i % 3],
    }
    for i in range(12)
]
WORDS = [{"prompt": f"river {i} is", "completion": " wide"} for i in range(6)]
TEXTS = [{"text": f"stone and grass {i}"} for i in range(6)]
STOCK = """\
task: same_quiz
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/rows.jsonl"}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_choice: "{{c}}"
doc_to_target: 1
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


def write(path: Path, items: list[Any]) -> Path:
    path.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in items))
    return path


def test_every_kind_is_scored_and_called_as_its_file(folder: Path, tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{name}.jsonl", rows)
        for name, rows in (("quiz", CHOICES), ("cloze", WORDS), ("plain", TEXTS))
    ]
    found = run_tasks(folder, list(map(str, files)))
    assert {task: set(result.metrics) for task, result in found.items()} == {
        "quiz": {"acc", "acc_norm"},
        "cloze": {"acc", "perplexity"},
        "plain": {"bits_per_byte"},
    }
    assert {result.asked for result in found.values()} == set(map(str, files))
    assert found["plain"].items[0]["bits_per_byte"][1] == len(TEXTS[0]["text"])


def test_scores_are_those_of_the_stock_command_on_the_same_prompts(folder: Path, tmp_path: Path) -> None:
    quiz = write(tmp_path / "quiz.jsonl", CHOICES)
    write(tmp_path / "rows.jsonl", [{"q": item["question"], "c": item["choices"]} for item in CHOICES])
    (tmp_path / "same_quiz.yaml").write_text(STOCK.replace("FOLDER", str(tmp_path)))
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={folder}"]
    command += ["--tasks", "same_quiz", "--include_path", str(tmp_path), "--device", "cpu"]
    done = subprocess.run(
        [*command, "--output_path", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    stock = json.loads(next(tmp_path.rglob("results*.json")).read_text())["results"]["same_quiz"]
    ours = run_tasks(folder, [str(quiz)])["quiz"]
    assert {name: figure.value for name, figure in ours.metrics.items()} == {
        name: stock[f"{name},none"] for name in ("acc", "acc_norm")
    }


def test_items_of_one_passage_count_together(folder: Path, tmp_path: Path) -> None:
    rows = [{**item, "passage": f"p{i // 2}"} for i, item in enumerate(CHOICES)]
    found = run_tasks(folder, [str(write(tmp_path / "quiz.jsonl", rows))])
    row = compare_tasks(found, found, [str(tmp_path / "quiz.jsonl")], seed=1)[0]
    assert (row["n"], row["role"], row["p"]) == (12, "forgetting", 1.0)
    assert row["method"].startswith("paired bootstrap over 6 passages")


def test_what_is_looked_for_in_training_texts(tmp_path: Path) -> None:
    file = write(tmp_path / "cloze.jsonl", WORDS)
    assert [one["text"] for one in task_texts([str(file)], None, None)][:2] == ["river 0 is wide", "river 1 is wide"]


QUESTION = CHOICES[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not a line of JSON"),
        ("[1]", "not a JSON object"),
        ({"a": 1}, "not an item: it has a"),
        ({}, "not an item: it has nothing"),
        ({"text": " "}, "text is missing or empty"),
        ({"text": 3}, "text is not a text"),
        ({"prompt": "a", "completion": None}, "completion is missing or empty"),
        ({**QUESTION, "choices": []}, "choices has 0 options: at least 2 are needed"),
        ({**QUESTION, "choices": ["1"]}, "choices has 1 option: at least 2 are needed"),
        ({**QUESTION, "choices": ["1", "1"]}, "two of the choices are equal"),
        ({**QUESTION, "choices": "AB"}, "choices is not a list of texts"),
        ({**QUESTION, "answer": "D"}, "answer 'D' is none of the 3 choices"),
        ({**QUESTION, "answer": 3}, "answer 3 is none of the 3 choices"),
        ({**QUESTION, "answer": True}, "answer True is none"),
        ({key: value for key, value in QUESTION.items() if key != "answer"}, "answer None is none"),
        ({**QUESTION, "id": "q1"}, "the id 'q1' stands in line 1 too"),
        ({"text": "another"}, "an item of another kind than the first"),
    ],
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: Any, said: str) -> None:
    path = write(tmp_path / "quiz.jsonl", [CHOICES[1], "", line])
    with pytest.raises(DataError, match=said) as raised:
        read_items(path)
    assert raised.value.where == f"{path}:3"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        check_tasks([str(tmp_path / "quiz.jsonl")], None)
    with pytest.raises(DataError, match="there is no item in it"):
        check_tasks([str(write(tmp_path / "quiz.jsonl", []))], None)


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [str(write(folder / "quiz.jsonl", CHOICES)) for folder in (tmp_path, tmp_path / "other")]
    with pytest.raises(UserError, match="two tasks would be called 'quiz'"):
        check_tasks(files, None)
