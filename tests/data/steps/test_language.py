"""One language is kept, half a document of it is not, and a score of another detector is refused."""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from rewarm.core.errors import DataError
from rewarm.data.steps import facts
from rewarm.data.steps.language import DETECTOR, label, languages
from tests.data.steps.conftest import STEPS, applied, reason

VIETNAMESE = (
    "Bộ luật này quy định tiêu chuẩn lao động; quyền, nghĩa vụ, trách nhiệm của người lao động, người sử dụng lao "
    "động, tổ chức đại diện người lao động tại cơ sở trong quan hệ lao động. "
)
ENGLISH = next(text for text in topics.values() if text.startswith('The "assert" statement'))


@pytest.mark.parametrize("language", ["vi", "vie", "vie_Latn", "VI"])
def test_a_language_by_any_of_its_codes(language: str) -> None:
    assert reason(VIETNAMESE, "language", language=language) is None
    assert reason(ENGLISH, "language", language=language) == "another language"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "eng_Latn"),
        ("これは日本語の文章です。ファイルを開くには、メニューを選択します。", "jpn_Jpan"),
        ("Dies ist ein deutscher Satz über die Öffnung von Dateien im Menü.", "de"),
        ("นี่คือประโยคภาษาไทยสำหรับการทดสอบ", "tha_Thai"),
    ],
)
def test_other_languages(text: str, language: str) -> None:
    assert reason(text, "language", language=language) is None
    assert reason(text, "language", language="vi") == "another language"


def test_on_the_score_is_kept_and_below_is_dropped() -> None:
    mixed = VIETNAMESE * 8 + ENGLISH[:1500]
    dropped = applied(mixed, "language", language="vi", min_score=1.0)
    score = dropped[1]
    assert isinstance(score, float) and 0.3 < score < 0.8  # two of three pieces
    assert reason(mixed, "language", language="vi", min_score=score - 0.0001) is None
    assert reason(mixed, "language", language="vi", min_score=score + 0.0001) == "another language"


@pytest.mark.parametrize("text", ["", "\x00" * 2000, "\n\n", "\ud7ff" * 5, "12345 67890"])
def test_a_text_without_language_is_no_language(text: str) -> None:
    assert reason(text, "language", language="vi") == "another language"


def test_an_unknown_language_is_an_error_with_a_guess() -> None:
    with pytest.raises(DataError, match="does not know 'vx'"):
        label("vx")


def test_the_score_of_a_profile_belongs_to_its_detector(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    value = {"origin": "x", "detector": DETECTOR, "language": {"kind": "language", "language": "vi", "min_score": 0.9}}
    profile.write_text(json.dumps(value))
    settings = {"kind": "language", "language": "vi", "profile": str(profile)}
    (known,) = facts(STEPS.validate_python([settings]))
    assert known["min_score"] == 0.9 and known["detector"] == DETECTOR and len(known["model"]) == 64
    profile.write_text(json.dumps(value | {"detector": "GlotLID"}))
    with pytest.raises(DataError, match="belongs to GlotLID"):
        facts(STEPS.validate_python([settings]))
    assert facts(STEPS.validate_python([settings | {"min_score": 0.5}]))[0]["min_score"] == 0.5


def test_shares_of_texts_by_language() -> None:
    found = languages([VIETNAMESE, VIETNAMESE, "The court shall hear both parties before it decides.", "1 2 3 4 5 6 7"])
    assert found["vi"] == 0.5 and found["en"] == 0.25 and sum(found.values()) <= 1.0
