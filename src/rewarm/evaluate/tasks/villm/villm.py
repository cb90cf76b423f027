"""The data of ViLLM-Eval (VLSP 2023, arXiv 2404.11086) as lm-evaluation-harness 0.4 takes it.

The sets come from the hub, where their rows are counted, or from a folder (``data_path``) that holds them under
their names, such as ``exams_vi.jsonl``. A row of several choices gets ``query``, ``options`` and ``gold``.
"""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from typing import Any

import datasets

from rewarm.core.errors import DataError

OWNER = "vlsp-2023-vllm"
ROWS = {
    "comprehension": (900, 900),
    "exams_vi": (19_000, 19_400),
    "lambada_vi": (10_000, 10_000),
    "wikipediaqa_vi": (2_000, 2_000),
}
"""Fewest and most rows of the test split; of exams_vi only 'about 19.2k' is published."""
SUBJECTS = {"MÔN ĐỊA", "MÔN HOÁ", "MÔN SỬ", "MÔN SINH", "MÔN TOÁN", "MÔN VĂN", "MÔN LÍ"}
LETTERS = "ABCDEFGHIJ"


def choices(name: str, question: str, data_path: str | None = None, subject: str | None = None, **_: Any) -> Any:
    """Rows with several options, of one ``subject`` where it is given.

    Args:
        question: what stands before ``\\nAnswer:``, with ``{}`` for the row's question.

    Raises:
        DataError: the data are not there, or not as they should be.
    """
    rows = _read(name, data_path)
    if subject:
        rows = rows.filter(lambda row: _subject(row) == subject)
        if not len(rows):
            raise DataError(f"there is no row of the subject {subject}", where=name)
    return datasets.DatasetDict({"test": rows.map(lambda row, i: _choice(name, question, row, i), with_indices=True)})


def words(name: str, data_path: str | None = None, **_: Any) -> Any:
    """Rows whose last word is asked for; the word comes with the space before it."""
    rows = _read(name, data_path)
    return datasets.DatasetDict({"test": rows.map(lambda row: {"target": f" {row['target_word']}"})})


def _read(name: str, data_path: str | None) -> Any:
    rows = _from_folder(name, Path(data_path)) if data_path else _from_hub(name)
    problems = []
    fewest, most = ROWS[name]
    if not fewest <= len(rows) <= most:
        problems.append(f"{len(rows):,} rows, where {fewest:,} to {most:,} are known")
    if name == "exams_vi" and (found := {_subject(row) for row in rows}) != SUBJECTS:
        problems.append(f"subjects {', '.join(sorted(found))}, where {', '.join(sorted(SUBJECTS))} are known")
    if problems and not data_path:
        raise DataError(f"not the data that the task was made for: {'; '.join(problems)}", where=f"{OWNER}/{name}")
    for problem in problems:
        warnings.warn(f"{name}: {problem}: figures cannot be held against published ones", stacklevel=1)
    if "id" in rows.column_names and len(set(rows["id"])) < len(rows):
        twice = next(id for i, id in enumerate(rows["id"]) if id in rows["id"][:i])
        raise DataError(f"the id {twice!r} stands there twice", where=name)
    return rows


def _from_folder(name: str, folder: Path) -> Any:
    for path in (folder / f"{name}.jsonl", folder / f"{name}.parquet"):
        if path.is_file():
            kind = "parquet" if path.suffix == ".parquet" else "json"
            return datasets.load_dataset(kind, data_files={"test": str(path)}, split="test")
    raise DataError(f"there is no {name}.jsonl or {name}.parquet", where=folder, remedy=_where_to_get(name))


def _from_hub(name: str) -> Any:
    try:
        return datasets.load_dataset(f"{OWNER}/{name}", split="test")
    except Exception as error:  # the hub's client raises many kinds
        first = str(error).strip().split("\n")[0]
        what, where = f"cannot be read from the hub: {first}", f"{OWNER}/{name}"
        raise DataError(what, where=where, remedy=_where_to_get(name)) from None


def _where_to_get(name: str) -> str:
    return (
        f"download the test split of https://huggingface.co/datasets/{OWNER}/{name} as {name}.jsonl or "
        f"{name}.parquet into a folder, and name that folder as evaluation.data_path"
    )


def _subject(row: dict[str, Any]) -> str:
    return unicodedata.normalize("NFC", row["metadata"]["subject"]).strip()


def _choice(name: str, question: str, row: dict[str, Any], index: int) -> dict[str, Any]:
    where = f"{name}, row {row.get('id', index)}"
    options = list(row["choices"]["text"])
    if not options:
        raise DataError("there is no option to choose from", where=where)
    gold = LETTERS.find(row["answerKey"].strip() or " ")
    if not 0 <= gold < len(options):
        raise DataError(f"the answer {row['answerKey']!r} is none of its {len(options)} options", where=where)
    return {"query": f"{question.format(row['question'])}\nAnswer:", "options": options, "gold": gold}
