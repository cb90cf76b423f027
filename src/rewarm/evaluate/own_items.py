"""Items of one's own as a task of lm-evaluation-harness: a jsonl file, one item a line, of one of three kinds.

    {"question": "2 + 2?", "choices": ["3", "4"], "answer": "4"}      several options; answer: option, letter or index
    {"prompt": "Hà Nội là thủ đô của", "completion": " Việt Nam"}     what follows is judged, exactly as it is written
    {"text": "..."}                                                   bits per byte of a text

``prompt`` may stand in place of ``question``: it is taken as it is written. An item may carry an ``id``, and items that
belong together, such as the questions on one passage, a common ``passage``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from rewarm.core.errors import DataError

Item = dict[str, Any]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FORMS = 'a line is {"question", "choices", "answer"}, {"prompt", "completion"} or {"text"}'


def task_of(path: Path) -> dict[str, Any]:
    """The file as the configuration of a task, called as the file is.

    Raises:
        DataError: the file cannot be read, holds no item, or a line is none (with its number).
    """
    items = read_items(path)
    own: dict[str, Any]
    if "choices" in items[0]:
        own = {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
    elif "target" in items[0]:
        own = {
            "output_type": "loglikelihood",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}],
        }
    else:
        own = {"output_type": "loglikelihood_rolling", "metric_list": [{"metric": "bits_per_byte"}]}
    return {
        "task": path.stem,
        "custom_dataset": lambda **_: _dataset(items),
        "test_split": "test",
        "fewshot_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "prompt",
        "doc_to_target": "text" if "text" in items[0] else "target" if "target" in items[0] else "answer",
        "should_decontaminate": True,
        "doc_to_decontamination_query": "query",
        "metadata": {"version": 1.0},
        **own,
    }


def _dataset(items: list[Item]) -> Any:
    import datasets

    return datasets.DatasetDict({"test": datasets.Dataset.from_list(items)})


def read_items(path: Path) -> list[Item]:
    """The checked items: ``id``, ``query`` (what is looked for in training texts), and the fields of their kind.

    Raises:
        DataError: as ``task_of``.
    """
    items: list[Item] = []
    seen: dict[str, int] = {}
    for number, value in _lines(path):
        try:
            item = _item(value)
        except ValueError as error:
            raise DataError(str(error), where=f"{path}:{number}", remedy=_FORMS) from None
        if items and (item.keys() ^ items[0].keys()) - {"id", "passage"}:
            raise DataError("an item of another kind than the first", where=f"{path}:{number}", remedy=_FORMS)
        own = item["id"] = str(value.get("id", number))
        if own in seen:
            raise DataError(f"the id {own!r} stands in line {seen[own]} too", where=f"{path}:{number}")
        seen[own] = number
        items.append(item)
    if not items:
        raise DataError("there is no item in it", where=path, remedy=_FORMS)
    return items


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"the items cannot be read: {error.strerror}", where=path) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise DataError(f"not a line of JSON: {error.msg}", where=f"{path}:{number}", remedy=_FORMS) from None
        if not isinstance(value, dict):
            raise DataError("not a JSON object", where=f"{path}:{number}", remedy=_FORMS)
        yield number, value


def _item(value: Mapping[str, Any]) -> Item:
    """One line's item, without its id.

    Raises:
        ValueError: what is wrong with it.
    """
    passage = {"passage": str(value["passage"])} if "passage" in value else {}
    if "choices" in value:
        prompt = _text(value, "prompt") if "prompt" in value else f"Question: {_text(value, 'question')}\nAnswer:"
        choices = value["choices"]
        if not isinstance(choices, list) or not all(isinstance(one, str) and one for one in choices):
            raise ValueError("choices is not a list of texts")
        if len(choices) < 2:
            raise ValueError(f"choices has {len(choices)} option{'s' * (len(choices) != 1)}: at least 2 are needed")
        if len(set(choices)) < len(choices):
            raise ValueError("two of the choices are equal")
        answer = _index(value.get("answer"), choices)
        return {"query": prompt, "prompt": prompt, "choices": choices, "answer": answer, **passage}
    if "completion" in value:
        prompt, completion = _text(value, "prompt"), _text(value, "completion")
        return {"query": prompt + completion, "prompt": prompt, "target": completion, **passage}
    if "text" in value:
        text = _text(value, "text")
        return {"query": text, "prompt": "", "text": text, **passage}
    raise ValueError(f"not an item: it has {', '.join(value) or 'nothing'}")


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(
            f"{key} is missing or empty" if not found or isinstance(found, str) else f"{key} is not a text"
        )
    return found


def _index(answer: Any, choices: list[str]) -> int:
    """Where the answer stands among the choices: it is one of them, or its letter, or its index from 0."""
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    index = LETTERS.find(answer) if isinstance(answer, str) and len(answer) == 1 else answer
    if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(choices):
        return index
    raise ValueError(
        f"answer {answer!r} is none of the {len(choices)} choices, nor the letter or index (from 0) of one"
    )
