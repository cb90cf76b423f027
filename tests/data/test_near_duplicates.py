"""Near-duplicates: which are found, which are not, which one stays, and what that must not depend on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from rewarm.core.errors import DataError
from rewarm.data import near_duplicates as module
from rewarm.data.minhash import normalise, signatures
from rewarm.data.near_duplicates import cluster_sizes, near_duplicates, write_signatures
from rewarm.recipe.steps import NearDuplicates

SETTINGS = NearDuplicates()
Kept = Callable[..., list[int]]
LENGTH = 200


@pytest.fixture(scope="module")
def passages() -> list[list[str]]:
    """Real text in passages of 200 words that share next to nothing with one another."""
    words = [word for text in topics.values() for word in normalise(text).split()]
    found, seen = [], set[tuple[str, ...]]()
    for start in range(0, len(words) - LENGTH, LENGTH):
        passage = words[start : start + LENGTH]
        if len(mine := shingles(passage)) > 0.8 * LENGTH and len(mine & seen) < 0.05 * len(mine):
            found.append(passage)
            seen |= mine
    return found


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """``near_duplicates`` of texts, whose signatures are first written to files of ``cut`` documents."""

    def run(texts: Sequence[str], settings: NearDuplicates = SETTINGS, cut: int = 100, **more: object) -> list[int]:
        files = written(tmp_path, texts, settings, cut)
        sizes = np.array([len(text) for text in texts])
        return near_duplicates(files, sizes, settings, **more).tolist()  # type: ignore[arg-type]

    return run


def written(folder: Path, texts: Sequence[str], settings: NearDuplicates = SETTINGS, cut: int = 100) -> list[Path]:
    files = []
    for start in range(0, len(texts), cut):
        files.append(folder / f"{cut}-{start}.minhash")
        write_signatures(files[-1], signatures(texts[start : start + cut], settings), settings)
    return files


def shingles(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(one: Sequence[str], other: Sequence[str]) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def edited(words: list[str], target: float, dice: random.Random, strange: list[str]) -> list[str]:
    """The words with some replaced, left out or moved, so that the similarity is ``target`` or just above it."""
    result = list(words)
    for _ in range(400):
        trial, place = list(result), dice.randrange(len(result))
        match dice.randrange(3):
            case 0:
                trial[place] = dice.choice(strange)
            case 1:
                del trial[place]
            case _:
                trial.insert(dice.randrange(len(trial)), trial.pop(place))
        if (now := jaccard(words, trial)) >= target:
            result = trial
            if now < target + 0.01:
                break
    assert target <= jaccard(words, result) < target + 0.01
    return result


def planted(passages: list[list[str]], target: float, seed: int) -> list[str]:
    """Each passage, and after all of them each one edited."""
    dice = random.Random(seed)
    strange = [word for passage in dice.sample(passages, 50) for word in passage]
    changed = [edited(words, target, dice, strange) for words in passages]
    return [" ".join(words) for words in [*passages, *changed]]


def shares_removed(passages: list[list[str]], kept: Kept, settings: NearDuplicates) -> dict[float, float]:
    """By similarity, the share of planted documents of which one of the two is removed."""
    found, n = {}, len(passages)
    for target, seeds in ((0.85, (1, 2, 3)), (0.5, (4, 5))):
        removed = 0
        for seed in seeds:
            answer = kept(planted(passages, target, seed), settings)
            removed += sum(one == other for one, other in zip(answer[:n], answer[n:], strict=True))
            assert all(number % n == stays % n for number, stays in enumerate(answer))  # nothing else goes
        found[target] = removed / (len(seeds) * n)
    return found


def test_near_duplicates_are_found_and_others_are_not(passages: list[list[str]], kept: Kept) -> None:
    assert len(passages) > 150
    shares = shares_removed(passages, kept, SETTINGS)
    assert shares[0.85] >= 0.98
    assert shares[0.5] < 0.01


def test_bands_alone_would_remove_too_many(passages: list[list[str]], kept: Kept) -> None:
    answer = kept(planted(passages, 0.5, 4), NearDuplicates(threshold=0.0))
    n = len(passages)
    assert sum(one == other for one, other in zip(answer[:n], answer[n:], strict=True)) > 0.02 * n


def test_the_longest_stays_and_of_equal_ones_the_first(passages: list[list[str]], kept: Kept) -> None:
    first, second = (" ".join(words) for words in passages[:2])
    answer = kept([first, second, first + " and more", second, first[:-30], first + " and more"])
    assert answer == [2, 1, 2, 1, 2, 2]
    assert cluster_sizes(np.array(answer)) == {2: 1, 4: 1}
    assert cluster_sizes(np.arange(3)) == {}


def test_of_a_chain_only_what_is_like_the_one_that_stays_is_removed(passages: list[list[str]], kept: Kept) -> None:
    words, strange = passages[0], iter(passages[1])
    chain = [words]
    for start in range(0, 60, 12):  # each one replaces twelve more words in a row
        chain.append([*chain[-1][:start], *(next(strange) for _ in range(12)), *chain[-1][start + 12 :]])
    assert all(jaccard(one, other) > 0.8 for one, other in itertools.pairwise(chain))
    assert jaccard(chain[0], chain[4]) < 0.65
    texts = [" ".join(link) for link in chain]
    answer = kept([texts[0] + " the longest of them by far", *texts[1:]])
    assert answer[0] == answer[1] == 0
    assert answer[4] not in (0, 1)
    settings = NearDuplicates()
    rows = signatures(texts, settings)
    staying = sorted(set(answer))
    for number, stays in enumerate(answer):
        assert number in staying or (rows[number] == rows[stays]).mean() >= settings.threshold - 0.05
    for one in staying:
        assert all((rows[one] == rows[other]).mean() < settings.threshold + 0.05 for other in staying if other != one)


def test_what_must_stay_stays_and_makes_others_duplicates(passages: list[list[str]], kept: Kept) -> None:
    text, other = " ".join(passages[0]), " ".join(passages[1])
    texts = [text + " longer", text, other, text]
    assert kept(texts, stays=np.array([False, True, False, False])) == [1, 1, 2, 1]
    assert kept(texts, stays=np.array([False, True, False, True])) == [1, 1, 2, 3]
    assert kept(texts, left_out=np.array([True, False, False, False])) == [0, 1, 2, 1]


def test_what_was_trained_before_is_recognised(passages: list[list[str]], kept: Kept, tmp_path: Path) -> None:
    old = [" ".join(words) for words in passages[:30]]
    (folder := tmp_path / "earlier").mkdir()
    earlier = written(folder, [*old, old[3]], cut=7)
    new = [" ".join(words) for words in passages[25:60]]
    texts = [text + " and a new ending" for text in new]
    answer = kept(texts, earlier=earlier)
    assert answer == [len(texts) + 25 + i for i in range(5)] + list(range(5, len(texts)))
    assert kept([*texts, texts[0]], earlier=earlier)[-1] == len(texts) + 1 + 25


def test_files_and_parts_and_repetition_change_nothing(
    passages: list[list[str]], kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = planted(passages, 0.8, 9) + planted(passages[:50], 0.7, 10)
    answer = kept(texts)
    assert 100 < sum(stays != number for number, stays in enumerate(answer)) < len(texts)
    assert kept(texts, cut=1000) == kept(texts, cut=17) == answer
    monkeypatch.setattr(module, "_TOGETHER", 40)
    monkeypatch.setattr(module, "_COMPARED", 10)
    assert kept(texts) == answer


def test_documents_without_a_shingle_are_alone(kept: Kept) -> None:
    assert kept(["", "four words are few", "four words are few", ""]) == [0, 1, 2, 3]
    assert kept([]) == []


def test_thousands_with_one_preamble_are_no_duplicates(passages: list[list[str]], kept: Kept) -> None:
    dice = random.Random(3)
    words = [word for passage in passages for word in passage]
    preamble = " ".join(passages[0][:150])
    texts = [f"{preamble} {' '.join(dice.sample(words, 110))}" for _ in range(1500)]
    answer = kept([*texts, texts[700]])
    removed = [number for number, stays in enumerate(answer) if number != stays]
    assert removed[-1] == 1500 and answer[-1] == 700
    assert len(removed) < 5


def test_a_huge_chain_ends(passages: list[list[str]], kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    words, strange = list(passages[0]), [word for passage in passages[1:30] for word in passage]
    texts = []
    for number in range(400):
        words[number % len(words)] = strange[number]
        texts.append(" ".join(words))
    answer = kept(texts)
    assert 2 < len(set(answer)) < 60
    assert all(answer[stays] == stays for stays in answer)
    monkeypatch.setattr(module, "_LEADERS_OF_A_CLUSTER", 2)
    assert len(set(kept(texts))) == 2


def test_damaged_and_foreign_signatures_are_refused(passages: list[list[str]], tmp_path: Path) -> None:
    (path,) = written(tmp_path, [" ".join(words) for words in passages[:9]])
    whole, sizes = path.read_bytes(), np.ones(9, np.int64)
    assert near_duplicates([path], sizes, SETTINGS).tolist() == list(range(9))
    with pytest.raises(DataError, match="other settings"):
        near_duplicates([path], sizes, NearDuplicates(bands=8, rows=14))
    for bytes_ in (whole[:-1], whole + b"x", whole[:50], b"", b"\0" * len(whole)):
        path.write_bytes(bytes_)
        with pytest.raises(DataError, match="damaged"):
            near_duplicates([path], sizes, SETTINGS)
    path.unlink()
    with pytest.raises(DataError, match="gone"):
        near_duplicates([path], sizes, SETTINGS)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="9 signatures for 8 documents"):
        near_duplicates([path], sizes[:8], SETTINGS)


def test_progress_is_told(passages: list[list[str]], kept: Kept) -> None:
    told: list[tuple[float, float]] = []
    kept([" ".join(words) for words in passages[:5]], progress=lambda done, total: told.append((done, total)))
    assert told == [(number, 14) for number in range(1, 15)]
