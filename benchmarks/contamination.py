"""Does the finder see benchmark items that stand in a corpus, also as near copies, and nothing else?

    python benchmarks/contamination.py [--quick] [--json] [--folder QUICKSTART]

Items are passages of 20 to 60 words from half of the quickstart's texts (Vietnamese law, English package and language
documentation); the corpus is the other half. A third of the items is planted into documents of it, word for word; each
near copy is planted likewise. A flag is false where no 13 words in a row are common, by a search with plain sets. The
peer is the 13-gram search of lm-evaluation-harness: its Janitor's words and runs, looked up in a
set of Python's, on the same items and documents.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    del sys.path[0]  # this folder: its tokenize.py would hide the standard library's

from lm_eval.decontamination.janitor import Janitor

from rewarm.cli.quickstart import set_up
from rewarm.data.steps.decontaminate import benchmark_ngrams
from rewarm.data.steps.words import batches

MARKS = "\u0300\u0301\u0303\u0309\u0323"
N = 13


def moved_tones(text: str) -> str:
    """The same syllables with the tone mark on the neighbouring vowel, as the other orthography has it: hoà, hòa."""
    swapped = []
    for word in text.split(" "):
        plain = unicodedata.normalize("NFD", word)
        mark = next((i for i, c in enumerate(plain) if c in MARKS), None)
        if mark is not None and mark >= 2 and plain[mark - 2 : mark].lower() in ("oa", "oe", "uy"):
            plain = plain[: mark - 1] + plain[mark] + plain[mark - 1] + plain[mark + 1 :]
        elif mark is not None and plain[mark - 1 : mark + 2 : 2].lower() in ("oa", "oe", "uy"):
            plain = plain[:mark] + plain[mark + 1] + plain[mark] + plain[mark + 2 :]
        swapped.append(unicodedata.normalize("NFC", plain))
    return " ".join(swapped)


def other_word(text: str) -> str:
    words = text.split(" ")
    words[3] = "xyzzy"
    return " ".join(words)


def without_punctuation(text: str) -> str:
    return "".join(c if c.isalnum() or c.isspace() or unicodedata.category(c) == "Mn" else " " for c in text)


COPIES: dict[str, Callable[[str], str]] = {
    "word for word": lambda text: text,
    "upper case": str.upper,
    "no punctuation": without_punctuation,
    "other punctuation": lambda text: text.replace(" ", ", ").replace(".", " ... "),
    "line breaks": lambda text: text.replace(" ", " \n "),
    "tone marks moved": moved_tones,
    "decomposed (NFD)": lambda text: unicodedata.normalize("NFD", text),
    "zero-width spaces": lambda text: text.replace("n", "n\u200b"),
    "one word changed": other_word,
}  # fmt: skip


def read(folder: Path) -> tuple[list[str], list[str]]:
    """The texts' documents in two halves: whence the items come, and the corpus."""
    halves: tuple[list[str], list[str]] = ([], [])
    for name in ("law-vi", "python-en", "packages-en"):
        for i, line in enumerate((folder / f"{name}.jsonl").read_text("utf-8").splitlines()):
            halves[i % 2].append(json.loads(line)["text"])
    return halves


def passages(texts: Sequence[str], draw: random.Random, count: int) -> list[str]:
    found: list[str] = []
    for text in draw.sample(texts, len(texts)):
        words = text.split()
        length = draw.randint(20, 60)
        if len(words) > length and len(found) < count:
            start = draw.randrange(len(words) - length)
            found.append(" ".join(words[start : start + length]))
    return found


def grams(text: str) -> set[tuple[str, ...]]:
    """The runs of words of a text, the slow and plain way; without what the finder passes over."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if c not in MARKS)
    words = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in plain).split()
    return {tuple(words[i : i + N]) for i in range(len(words) - N + 1)}


def ours(items: Sequence[str], documents: Sequence[str], folder: Path) -> tuple[set[int], float]:
    path = folder / "items.jsonl"
    path.write_text("\n".join(json.dumps({"task": "t", "id": i, "text": text}) for i, text in enumerate(items)))
    index, started, found = benchmark_ngrams(path), time.perf_counter(), set[int]()
    for batch in batches(documents):  # as the pipeline gives them
        found.update(int(item) for some in index.matches(batch.texts) for _, item in some)
    return found, time.perf_counter() - started


def peer(items: Sequence[str], documents: Sequence[str]) -> tuple[set[int], float]:
    """The items whose 13-grams the harness's own search finds."""
    janitor, started, dirty = Janitor(ngram_n=N), time.perf_counter(), set[str]()
    owners: dict[str, set[int]] = {}
    for i, item in enumerate(items):
        alone = Janitor(ngram_n=N)
        alone.register_contaminant_python(item)
        for gram in alone.dirt_ngrams:
            owners.setdefault(gram, set()).add(i)
        janitor.dirt_ngrams |= alone.dirt_ngrams
    for document in documents:
        words = janitor.normalize_string(document).split()
        dirty |= janitor.dirt_ngrams & {" ".join(words[i : i + N]) for i in range(len(words) - N + 1)}
    return {i for gram in dirty for i in owners[gram]}, time.perf_counter() - started


def planted(items: Sequence[str], corpus: Sequence[str], copy: Callable[[str], str], draw: random.Random) -> list[str]:
    """The corpus with a copy of each item somewhere in one of its documents."""
    documents = list(corpus)
    for item in items:
        i = draw.randrange(len(documents))
        words = documents[i].split(" ")
        words.insert(draw.randrange(len(words) + 1), f"\n{copy(item)}\n")
        documents[i] = " ".join(words)
    return documents


def measure(source: Path, count: int) -> dict[str, object]:
    draw = random.Random(0)
    held, corpus = read(source)
    items = passages(held, draw, count)
    standing = set().union(*map(grams, corpus))
    own = {i for i, item in enumerate(items) if grams(item) & standing}  # boilerplate that both halves have
    chosen = [i for i in range(len(items)) if i not in own]
    put_in = chosen[::3]
    put_in_too = set().union(*(grams(items[i]) for i in put_in))
    left_out = {i for i in set(chosen) - set(put_in) if not grams(items[i]) & put_in_too}
    rows, speeds, false = [], [], [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        for name, copy in COPIES.items():
            documents = planted([items[i] for i in put_in], corpus, copy, draw)
            size = sum(len(text.encode()) for text in documents)
            row: dict[str, object] = {"copy": name}
            for side, (found, seconds) in enumerate((ours(items, documents, Path(folder)), peer(items, documents))):
                row[("rewarm", "lm_eval")[side]] = 100 * len(found & set(put_in)) / len(put_in)
                false[side] += len(found & left_out)
                speeds.append((side, size / seconds / 1e6))
            rows.append(row)
            print(f"{name} done", file=sys.stderr)
    looked_for = len(left_out) * len(COPIES)
    return {
        "items": len(items),
        "planted": len(put_in),
        "found_percent": rows,
        "false_percent": {"rewarm": 100 * false[0] / looked_for, "lm_eval": 100 * false[1] / looked_for},
        "of": looked_for,
        "mb_per_second": {
            name: statistics.median(speed for which, speed in speeds if which == side)
            for side, name in enumerate(("rewarm", "lm_eval"))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="300 items in place of 3,000")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="the quickstart's folder, where its texts are there already")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = asked.folder or set_up(Path(folder)).parent
        result = measure(source, 300 if asked.quick else 3000)
    if asked.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['planted']} of {result['items']} items planted; found of these, per cent")
    for row in result["found_percent"]:  # type: ignore[attr-defined]
        print(f"{row['copy']:<20} rewarm {row['rewarm']:6.1f}   lm_eval {row['lm_eval']:6.1f}")
    for name in ("false_percent", "mb_per_second"):
        print(f"{name:<20} rewarm {result[name]['rewarm']:6.2f}   lm_eval {result[name]['lm_eval']:6.2f}")  # type: ignore[index]


if __name__ == "__main__":
    main()
