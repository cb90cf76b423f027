"""Cloze items from documents, by rule: what stood there, a number or a name, is to be said from what comes before it.

Made from new documents, they ask for what a model can only know from these; made from others, for what it knew before.
The answer stands behind at least six words of its sentence, in which it does not occur.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256

FEWEST, MOST = 6, 80
"""Words before the answer."""
ALIKE = 2
"""Items of one answer, at most."""
_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n")
_NUMBER = re.compile(r"\d[\d.,/:-]*\d|\d")
_NAME = re.compile(r"[^\W\d_][\w-]+")
_AROUND = "\"'()[]\u201c\u201d\u00ab\u00bb,;:.!?\u3002\uff01\uff1f"


def cloze_items(texts: Iterable[str], count: int) -> list[dict[str, str]]:
    """At most ``count`` items, one a document: ``{"id", "prompt", "completion"}``, in the order of their hashes."""
    found = {}
    for text in texts:
        if item := min(_items(text), key=lambda item: item["id"], default=None):
            found[item["id"]] = item
    chosen: list[dict[str, str]] = []
    asked: Counter[str] = Counter()
    for item in (found[id] for id in sorted(found)):
        asked[item["completion"]] += 1
        if asked[item["completion"]] <= ALIKE and len(chosen) < count:
            chosen.append(item)
    return chosen


def _items(text: str) -> Iterator[dict[str, str]]:
    for sentence in _END.split(text):
        words = sentence.split()[: MOST + 1]
        for i in range(FEWEST, len(words)):
            answer, before = words[i].strip(_AROUND), " ".join(words[:i])
            tail = words[i - 1][:1].isupper()  # of a name that began before
            if not tail and _is_answer(answer) and answer.lower() not in before.lower():
                hashed = sha256(f"{before} {answer}".encode()).hexdigest()[:16]
                yield {"id": hashed, "prompt": before, "completion": f" {answer}"}


def _is_answer(word: str) -> bool:
    """A number, or a word that is written with a capital in the middle of a sentence."""
    return bool(_NUMBER.fullmatch(word) or (_NAME.fullmatch(word) and word[0].isupper() and len(word) > 2))
