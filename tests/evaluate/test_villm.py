"""ViLLM-Eval's tasks, on rows in the format of the real sets: prompts to the character, scores of the stock command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewarm.core.errors import DataError
from rewarm.evaluate.harness import SHIPPED, run_tasks, task_texts

SUBJECTS = ["MÔN ĐỊA", "MÔN HOÁ", "MÔN SỬ", "MÔN SINH", "MÔN TOÁN", " MÔN VĂN ", "MÔN LÍ"]
EXAMS = ["dialy", "hoahoc", "lichsu", "sinhhoc", "toan", "van", "vatly"]
Row = dict[str, Any]


def choice(i: int, **more: Any) -> Row:
    options = {"text": [f"một {i}", f"hai {i}", "ba", "bốn"], "label": ["A", "B", "C", "D"]}
    return {"id": f"r{i}", "question": f"Câu hỏi {i}?", "choices": options, "answerKey": "ABCD"[i % 4], **more}


def exams() -> list[Row]:
    return [choice(i, metadata={"grade": "12", "subject": SUBJECTS[i % 7]}) for i in range(56)]


def write(folder: Path, name: str, rows: list[Row]) -> Path:
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("villm")
    write(folder, "comprehension", [choice(i, question=f"Đoạn văn {i}. Câu {i}?") for i in range(9)])
    write(folder, "wikipediaqa_vi", [choice(i, metadata={}) for i in range(9)])
    write(folder, "exams_vi", exams())
    words = [{"text": f"a b {i} sông", "context": f"a b {i}", "target_word": "sông", "metadata": {}} for i in range(9)]
    return write(folder, "lambada_vi", words)


@pytest.fixture(autouse=True)
def few_rows() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*figures cannot be held against published ones")
        yield


def test_prompts_are_the_originals_to_the_character(data: Path) -> None:
    texts = {(one["task"], one["id"]): one["text"] for one in task_texts(["villm_eval"], None, data)}
    assert texts["comprehension_vi", "0"] == "Đoạn văn 0. Câu 0?\nAnswer:"
    assert texts["wikipediaqa_vi", "3"] == "Question: Câu hỏi 3?\nAnswer:"
    assert texts["lambada_vi", "1"] == "a b 1 sông"
    assert {task for task, _ in texts} == {f"exams_{name}_vi" for name in EXAMS} | {
        "comprehension_vi",
        "lambada_vi",
        "wikipediaqa_vi",
    }
    assert sum(task == "exams_van_vi" for task, _ in texts) == 8


def test_scores_are_those_of_the_stock_command(folder: Path, data: Path, tmp_path: Path) -> None:
    names = ["comprehension_vi", "exams_vi", "lambada_vi"]
    found = run_tasks(folder, names, data_path=data, limit=5)
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={folder}"]
    command += ["--tasks", ",".join(names), "--include_path", str(SHIPPED), "--limit", "5", "--device", "cpu"]
    command += ["--metadata", json.dumps({"data_path": str(data)}), "--output_path", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    stock = json.loads(next(tmp_path.rglob("results*.json")).read_text())["results"]
    assert set(found) == set(stock)
    for task, result in found.items():
        for metric, figure in result.metrics.items():
            assert figure.value == pytest.approx(stock[task][f"{metric},none"], abs=1e-12), (task, metric)
    assert len(found["exams_vi"].items) == 35


def test_bos_is_said_and_changes_the_scores(folder: Path, data: Path) -> None:
    def nats(add_bos: bool) -> list[Any]:
        result = run_tasks(folder, ["lambada_vi"], data_path=data, add_bos=add_bos)["lambada_vi"]
        return [item["perplexity"] for item in result.items]

    assert nats(True) != nats(False)


def _no_options(rows: list[Row]) -> None:
    rows[3]["choices"] = {"text": [], "label": []}


def _no_such_answer(rows: list[Row]) -> None:
    rows[3]["answerKey"] = "E"


def _same_id(rows: list[Row]) -> None:
    rows[4]["id"] = "r3"


def _no_subject(rows: list[Row]) -> None:
    for row in rows:
        row["metadata"]["subject"] = "MÔN LÍ"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_no_options, "exams_vi, row r3: there is no option"),
        (_no_such_answer, "exams_vi, row r3: the answer 'E' is none of its 4 options"),
        (_same_id, "the id 'r3' stands there twice"),
        (_no_subject, "there is no row of the subject MÔN SINH"),
    ],
)
def test_rows_that_cannot_be_asked_are_named(tmp_path: Path, harm: Callable[[list[Row]], None], said: str) -> None:
    rows = exams()
    harm(rows)
    with pytest.raises(DataError, match=said):
        list(task_texts(["exams_sinhhoc_vi"], None, write(tmp_path, "exams_vi", rows)))


def test_other_rows_than_the_known_ones_warn(folder: Path, data: Path) -> None:
    said: list[str] = []
    run_tasks(folder, ["exams_van_vi"], data_path=data, limit=1, warn=said.append)
    assert said == [
        "exams_vi: 56 rows, where 19,000 to 19,400 are known: figures cannot be held against published ones"
    ]


def test_data_that_cannot_be_reached_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(task_texts(["lambada_vi"], None, None))
    assert "datasets/vlsp-2023-vllm/lambada_vi" in (caught.value.remedy or "")
    with pytest.raises(DataError, match=r"there is no lambada_vi\.jsonl"):
        list(task_texts(["lambada_vi"], None, tmp_path))
