"""A probe of what an instruct model was taught: does it still follow instructions, and do its turns still end?

Each instruction can be checked by a pattern, as in IFEval (arXiv 2311.07911). It is put into the chat template of the
model's own tokenizer; the answer is greedy. A base model has no template, and nothing to lose here.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import datasets

from rewarm.core.errors import DataError
from rewarm.evaluate.chat_template import render

MOST = 96
"""Tokens of an answer; one that is longer did not end."""
COLOURS, FRUITS = "red, green, blue", "apple, pear, plum"
CHECKS: list[tuple[str, str]] = [
    ("What colour is a clear sky by day? Answer with one word.", r"\W*blue\W*"),
    ("What is the opposite of hot? Answer with one word.", r"\W*cold\W*"),
    ("What is the capital of France? Answer with one word.", r"\W*paris\W*"),
    ("How many days has a week? Answer with one number only.", r"\W*(7|seven)\W*"),
    ("What is 2 + 3? Answer with one number only.", r"\W*(5|five)\W*"),
    ("What is 10 - 4? Answer with one number only.", r"\W*(6|six)\W*"),
    ("Is fire hot? Answer with yes or no only.", r"\W*yes\W*"),
    ("Is ice hot? Answer with yes or no only.", r"\W*no\W*"),
    ("Can a fish drive a car? Answer with yes or no only.", r"\W*no\W*"),
    ("Which is larger, an ant or an elephant? Answer with one word.", r"\W*(an )?elephant\W*"),
    ("Which animal says 'meow'? Answer with one word.", r"\W*(a )?cat\W*"),
    ("Which month comes after March? Answer with one word.", r"\W*april\W*"),
    ("Repeat this sentence and write nothing else: The train leaves at noon.", r"\W*the train leaves at noon\W*"),
    ("Repeat these words exactly and write nothing else: stone river lamp", r"\W*stone river lamp\W*"),
    ("Write the word 'banana' in capital letters and nothing else.", r"(?-i:\W*BANANA\W*)"),
    ("Write the word 'PAPER' in small letters and nothing else.", r"(?-i:\W*paper\W*)"),
    (f"Write these colours one per line: {COLOURS}.", r"\W*red\W*\n+\W*green\W*\n+\W*blue\W*"),
    (f"Write these fruits one per line: {FRUITS}.", r"\W*apple\W*\n+\W*pear\W*\n+\W*plum\W*"),
    ("List three animals, each on a line of its own that begins with a hyphen.", r"(-[^\n]+\n+){2}-[^\n]+\s*"),
    ("Name two fruits, with the word 'and' between them. Write nothing else.", r"[\w ]{2,30} and [\w ]{2,30}\W*"),
    ("Count from 1 to 5, with commas between the numbers.", r".*1, ?2, ?3, ?4, ?5\W*"),
    ("Write the alphabet's first four letters with spaces between them.", r"\W*a b c d\W*"),
    ("Write one sentence about the sea that ends with an exclamation mark.", r"[^.!?]+!\s*"),
    ("Write one question about the weather.", r"[^?]+\?\s*"),
    ("Write one short sentence about a dog that has the word 'garden' in it.", r"[^.!?\n]*\bgarden\b[^.!?\n]*[.!]\s*"),
    ("Write one short sentence that begins with the word 'Today'.", r"\W*today\b[^.!?\n]*[.!?]\s*"),
    ("Begin your answer with the word 'Certainly' and name a country.", r"\W*certainly\b.+"),
    ("Name a planet. End your answer with the word DONE.", r".*\bDONE\b\W*"),
    ("Put the word 'moon' into double quotes and write nothing else.", r'\s*["\u201c]moon["\u201d]\.?\s*'),
    ('Write a JSON object with the single key "name" and the value "Ada".', r'.*\{\s*"name"\s*:\s*"Ada"\s*\}.*'),
]  # fmt: skip


def items(pretrained: str = ".", **_: Any) -> Any:
    """The instructions in the chat template of the model in the folder ``pretrained``; as they are where there is none.

    Raises:
        DataError: if the model has a tokenizer without a chat template.
    """
    asked = [said for said, _ in CHECKS]
    if (Path(pretrained) / "tokenizer_config.json").is_file():
        asked = _in_template(pretrained, asked)
    rows = [
        {"prompt": prompt, "pattern": pattern, "model": pretrained}
        for prompt, (_, pattern) in zip(asked, CHECKS, strict=True)
    ]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


def _in_template(folder: str, instructions: list[str]) -> list[str]:
    tokenizer = _tokenizer(folder)
    if not isinstance(tokenizer.chat_template, str):
        raise DataError(
            "this model has no chat template, so it was never taught to chat",
            where=folder,
            remedy="leave chat out of the evaluation: it probes instruct models",
        )
    chats = [[{"role": "user", "content": said}] for said in instructions]
    names = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return render(tokenizer.chat_template, chats, names)


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def judged(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """``followed``: the answer is as was asked. ``ended``: the model ended its turn itself."""
    answer = answers[0]
    length = len(_tokenizer(row["model"]).encode(answer, add_special_tokens=False))
    followed = re.fullmatch(row["pattern"], answer.strip(), re.IGNORECASE | re.DOTALL) is not None
    return {"followed": float(followed), "ended": float(length < MOST - 1)}
