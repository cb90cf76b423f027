from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rewarm.core.errors import ModelError, UserError
from rewarm.hub.models import find, list_models, publish

LINEAGE: dict[str, Any] = {"base": {"reference": "org/base", "fingerprint": "ab" * 32}, "run": "r1", "parent": None}


def fill(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"w" * 1000)
    (folder / "report").mkdir()
    (folder / "report" / "report.json").write_text("{}")


def test_versions_count_up_and_keep_their_lineage(tmp_path: Path) -> None:
    first, second = publish(tmp_path, "legal-vi", fill, LINEAGE), publish(tmp_path, "legal-vi", fill, LINEAGE)
    assert [str(first), str(second)] == ["legal-vi@1", "legal-vi@2"]
    assert first.lineage == LINEAGE
    assert set(first.manifest["files"]) == {"config.json", "model.safetensors", "report/report.json", "lineage.json"}
    assert first.size == sum(path.stat().st_size for path in first.path.rglob("*") if path.is_file()) - (
        (first.path / "manifest.json").stat().st_size
    )
    first.verify()
    assert list_models(tmp_path) == [first, second]


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    version = publish(tmp_path, "legal-vi", fill, LINEAGE)
    (version.path / "model.safetensors").write_bytes(b"w" * 999 + b"x")
    with pytest.raises(ModelError, match=r"model.safetensors.*SHA-256"):
        version.verify()


def test_many_at_once_get_different_numbers(tmp_path: Path) -> None:
    barrier, numbers = threading.Barrier(8), list[int]()

    def meet(folder: Path) -> None:
        fill(folder)
        barrier.wait(10)

    def work() -> None:
        numbers.append(publish(tmp_path, "legal-vi", meet, LINEAGE).number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))
    for version in list_models(tmp_path):
        version.verify()


def test_an_error_while_filling_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path, "legal-vi", fail, LINEAGE)
    assert list((tmp_path / "legal-vi").iterdir()) == []
    assert publish(tmp_path, "legal-vi", fill, LINEAGE).number == 1


ENDLESS = """
import sys
from pathlib import Path
from rewarm.hub.models import publish
def fill(folder):
    for i in range(20):
        (folder / f"model-{i}.safetensors").write_bytes(bytes([i]) * 100_000)
print("ready", flush=True)
while True:
    publish(Path(sys.argv[1]), "killed", fill, {"run": "r"})
"""


def test_kill_at_any_moment_leaves_whole_versions_or_none(tmp_path: Path) -> None:
    for delay in (0.01, 0.02, 0.05, 0.08, 0.13):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.kill()
        process.communicate()
    versions = list_models(tmp_path)
    for version in versions:
        version.verify()
        assert len(version.manifest["files"]) == 21
    after = publish(tmp_path, "killed", fill, LINEAGE)
    assert after.number > max((version.number for version in versions), default=0)
    assert find(tmp_path, "killed") == after


def test_half_a_version_is_none(tmp_path: Path) -> None:
    """What a kill between two steps leaves: an empty number, and a folder beside that has no number yet."""
    (tmp_path / "legal-vi" / "3").mkdir(parents=True)
    beside = tmp_path / "legal-vi" / ".tmp-0123"
    beside.mkdir()
    fill(beside)
    assert list_models(tmp_path) == []
    assert publish(tmp_path, "legal-vi", fill, LINEAGE).number == 4
    assert beside.exists()  # it may be another process at work
    os.utime(beside, (time.time() - 100_000,) * 2)
    assert publish(tmp_path, "legal-vi", fill, LINEAGE).number == 5
    assert not beside.exists()


def test_find_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it is empty"):
        find(tmp_path / "nowhere", "legal-vi")
    publish(tmp_path, "legal-vi", fill, LINEAGE)
    newest = publish(tmp_path, "legal-vi", fill, LINEAGE)
    publish(tmp_path, "medical-fr", fill, LINEAGE)
    assert find(tmp_path, "legal-vi") == newest
    assert find(tmp_path, "legal-vi@1").number == 1
    with pytest.raises(ModelError, match="did you mean 'legal-vi'"):
        find(tmp_path, "legal-vn@1")
    with pytest.raises(ModelError, match="known are: legal-vi, medical-fr"):
        find(tmp_path, "something-else")
    for wrong in ("legal-vi@3", "legal-vi@", "legal-vi@x", "legal-vi@01"):
        with pytest.raises(ModelError, match="take one of legal-vi@1, legal-vi@2"):
            find(tmp_path, wrong)


def test_newest_is_by_number_not_by_spelling(tmp_path: Path) -> None:
    for _ in range(11):
        publish(tmp_path, "many", fill, LINEAGE)
    assert find(tmp_path, "many").number == 11


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a@1", "x" * 101, "a b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a model"):
        publish(tmp_path, name, fill, LINEAGE)
    assert list(tmp_path.iterdir()) == []


def test_a_lineage_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    version = publish(tmp_path, "legal-vi", fill, LINEAGE)
    for content in ("{", "[]"):
        (version.path / "lineage.json").write_text(content)
        with pytest.raises(ModelError, match=r"lineage\.json"):
            _ = version.lineage
    (version.path / "lineage.json").unlink()
    with pytest.raises(ModelError, match="no lineage"):
        _ = version.lineage
