"""Signatures: the field's words, shingles and hashes, and an estimate of how much two texts share."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewarm.data import minhash
from rewarm.data.minhash import EMPTY, band_keys, normalise, signatures
from rewarm.recipe.steps import NearDuplicates

SETTINGS = NearDuplicates()

# xxHash64 of the bytes 0, 1, 2, ... , by the reference implementation
XXHASH = {
    0: 0xEF46DB3751D8E999,
    1: 0xE934A84ADB052768,
    3: 0xE5C7BB4533BC65DD,
    4: 0xFFCED8604453CC1E,
    7: 0x14CC643F630C72D2,
    8: 0x884A173614B81B8D,
    15: 0xA948F5F0F6ABAC2D,
    24: 0xDD14A0292632BE9B,
    31: 0xC346D2B59B4D8EE1,
    32: 0xCBF59C5116FF32B4,
    36: 0xDDE0EF85E3AEF05C,
    47: 0xD9883A03E7BFBB8,
    63: 0xE26AA9E2A95F8E4F,
    64: 0xF7C67301DB6713F0,
    100: 0x6AC1E58032166597,
    255: 0xF7D97507CAAD693,
}


def test_xxhash64_is_the_specified_one() -> None:
    data = b"before" + bytes(range(255)) + bytes(8)
    lengths = np.array(list(XXHASH)[::-1])
    hashes = minhash._xxh64(data, np.full(len(lengths), 6), lengths)
    assert hashes.tolist() == list(XXHASH.values())[::-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Điều 12. Quyền,\tnghĩa vụ", "đieu 0 quyen nghia vu"),
        ("1.000.000 Euro (3,5 %) - x²", "0 0 euro 0 x²"),
        ("It's well-known…\x00\x9f END", "it s well known end"),
        ("٣٫٥ ΟΔΟΣ İ", "0 οδος i"),
        ("合同法 2020年", "合 同 法 0 年"),
        ("ขอ น้ำ", "ข อ น ำ"),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
        (" \n ", ""),
    ],
)
def test_words_are_those_that_the_field_compares(text: str, words: str) -> None:
    assert normalise(text) == words


@settings(max_examples=200, deadline=None)
@example("ΟΔΟΣ΄Σ a\u0301 \u0301 b 1,\u00a02")
@given(st.text())
def test_a_text_is_normalised_as_its_tokens_are(text: str) -> None:
    whole = [word.encode("utf-8", "surrogatepass")[:64] for word in normalise(text).split()]
    assert [word for piece in minhash._pieces(text, 4) for word in piece.split()] == whole


def test_a_signature_is_the_least_value_of_each_hash_function(english: list[str]) -> None:
    dice, prime = np.random.RandomState(1), (1 << 61) - 1
    factors = dice.randint(1, prime, dtype=np.uint64, size=112).tolist()
    terms = dice.randint(0, prime, dtype=np.uint64, size=112).tolist()
    text = english[3]
    words = re.sub(r"[^a-z]+", " ", re.sub(r"\d+(\.\d+)?", "", text.lower())).split()
    text = " ".join(words)
    shingles = [" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)]
    hashes = [int(minhash._xxh64(s + bytes(8), np.array([0]), np.array([len(s)]))[0]) for s in shingles]
    field = [min((h * a + b) % 2**64 % prime for h in hashes) for a, b in zip(factors, terms, strict=True)]
    assert signatures([text], SETTINGS)[0].tolist() == [value >> 29 for value in field]


def test_it_is_what_datatrove_finds() -> None:
    # MinhashDedupSignature.get_signature of datatrove 0.10.1, words split at spaces, without its lowest 29 bits
    text = "Người lao động có quyền làm việc; tự do lựa chọn việc làm, nơi làm việc, nghề nghiệp (Điều 5, 2019)."
    assert signatures([text], SETTINGS)[0, :6].tolist() == DATATROVE


DATATROVE = [21105529, 267121044, 279594394, 315050464, 100842318, 257609236]


def test_neighbours_and_batches_change_nothing(english: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*english[:40], "", "too short for any", "just five words are enough", "x" * 5000 + " a b c d e"]
    together = signatures(texts, SETTINGS)
    assert (together == np.concatenate([signatures([text], SETTINGS) for text in texts])).all()
    monkeypatch.setattr(minhash, "_BATCH", 3000)
    monkeypatch.setattr(minhash, "_TOGETHER", (16, 64))
    assert (together == signatures(texts, SETTINGS)).all()
    monkeypatch.setattr(minhash, "_TOKENS", 10)
    minhash._KNOWN.clear()
    assert (together == signatures(texts, SETTINGS)).all()
    assert len(minhash._KNOWN) <= 10
    assert (together == EMPTY).all(1).tolist() == [False] * 40 + [True, True, False, False]


@pytest.mark.parametrize("words", [1, 5, 12])
def test_pieces_of_a_long_text_lose_no_shingle(english: list[str], words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = NearDuplicates(words=words)
    texts = [*english[:20], "法" * 50 + "合同" * 40, "a . - b c d e f g " * 30]
    whole = signatures(texts, settings)
    for size in (10, 100, 1000):
        monkeypatch.setattr(minhash, "_PIECE", size)
        assert (signatures(texts, settings)[:-2] == whole[:-2]).all() or size == 10  # which cuts words
        assert (signatures(texts, settings)[-2:] == whole[-2:]).all()


def test_nothing_gives_no_signatures() -> None:
    assert signatures([], SETTINGS).shape == (0, 112)
    assert signatures(["", " . "], NearDuplicates(bands=3, rows=2)).shape == (2, 6)


def test_agreement_estimates_the_jaccard_similarity(english: list[str]) -> None:
    errors = []
    for share in (20, 60, 100):
        for first, second in zip(english[:30], english[30:60], strict=True):
            a, b = normalise(first).split(), normalise(second).split()
            b = a[:share] + b[share:]
            sets = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (a, b)]
            left, right = signatures([" ".join(a), " ".join(b)], SETTINGS)
            errors.append((left == right).mean() - len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.05  # sqrt(j (1 - j) / 112) is at most 0.047


def test_keys_are_equal_where_a_band_is(english: list[str]) -> None:
    signature = signatures(english[:50], SETTINGS)
    changed = signature.copy()
    changed[:, 8 * 3 + 5] += np.uint32(1)
    same = band_keys(signature, SETTINGS) == band_keys(changed, SETTINGS)
    assert same.sum(1).tolist() == [50] * 3 + [0] + [50] * 10
    assert len(np.unique(band_keys(signature, SETTINGS))) > 14 * 45


def test_without_spaces_a_changed_passage_is_still_alike() -> None:
    dice = random.Random(5)
    han = [chr(dice.randrange(0x4E00, 0x9000)) for _ in range(600)]
    other = [chr(dice.randrange(0x4E00, 0x9000)) for _ in range(600)]
    changed = [*han[:300], "新", *han[301:]]
    a, b, c = signatures(["".join(x) for x in (han, changed, other)], SETTINGS)
    assert (a == b).mean() > 0.9
    assert (a == c).mean() < 0.05
