"""Nothing half-written is ever seen under its final name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewarm.core.errors import ResourceError, UserError
from rewarm.core.storage import (
    as_user_error,
    bytes_of,
    expand_home,
    is_disk_full,
    locked,
    remove_folder,
    require_space,
    staged_folder,
    sweep,
    write_file,
)


def test_write_file_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_file(path, "one")
    write_file(path, b"two")
    assert path.read_text() == "two"
    assert [item.name for item in path.parent.iterdir()] == ["file"]


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "result") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "kept").write_text("old")
    with pytest.raises(FileExistsError), staged_folder(tmp_path / "result") as folder:
        (folder / "new").write_text("x")
    assert [item.name for item in tmp_path.rglob("*")] == ["result", "kept"]


def test_killed_while_writing_leaves_only_what_sweep_removes(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from rewarm.core.storage import staged_folder\n"
        "with staged_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x'); print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "result")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "result").exists()
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_remove_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    remove_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_disk_full_is_seen_through_wrapped_errors() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as outer:
        assert is_disk_full(outer)
    assert not is_disk_full(OSError(errno.EACCES, "no"))


def test_a_really_full_device_is_recognised() -> None:
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert is_disk_full(caught.value)


def test_a_full_disk_is_told_with_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "open", lambda *_: full)
    with pytest.raises(OSError) as caught:
        write_file(tmp_path / "a", b"x")
    assert str(as_user_error(caught.value)).startswith(f"{tmp_path}/a: the disk is full\n  what to do: free some space")


def test_require_space_names_the_remedy(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1, "a test")
    with pytest.raises(ResourceError, match=r"a test needs .* GB of disk") as caught:
        require_space(tmp_path, 10**18, "a test")
    assert caught.value.exit_code == 4
    assert "REWARM_HOME" in str(caught.value)


def test_a_lock_is_held_once_and_let_go_by_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from rewarm.core.storage import locked\n"
        "with locked(Path(sys.argv[1]), 'it'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="in use by another process"), locked(path, "it"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            with locked(path, "it"):
                return
        except UserError:
            time.sleep(0.05)
    pytest.fail("the lock outlived its holder")


def test_what_the_system_refuses_is_said_with_the_path_and_a_remedy() -> None:
    told = as_user_error(OSError(errno.EROFS, "Read-only file system", "/mnt/runs"))
    assert told is not None and told.exit_code == 4
    assert str(told).startswith("/mnt/runs: read-only file system") and "REWARM_HOME" in str(told)
    full = as_user_error(OSError(errno.ENOSPC, "No space left on device"))
    assert full is not None and "free some space" in str(full)
    assert as_user_error(OSError("no file")) is None


def test_a_home_that_is_none() -> None:
    assert expand_home("~/x").is_absolute()
    with pytest.raises(UserError, match="no such home folder"):
        expand_home("~nosuchuser/x")


def test_bytes_that_deleting_frees(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(b"12345")
    (tmp_path / "outside").write_bytes(b"123")
    (tmp_path / "inner" / "b").hardlink_to(tmp_path / "outside")
    assert bytes_of(tmp_path / "inner") == 8
    assert bytes_of(tmp_path / "inner", sole=True) == 5


def test_more_files_may_be_opened_than_the_usual_limit_allows() -> None:
    code = (
        "import resource as r; from rewarm.core.storage import allow_many_files as more; "
        "hard = r.getrlimit(r.RLIMIT_NOFILE)[1]; r.setrlimit(r.RLIMIT_NOFILE, (256, hard)); more(); "
        "print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) > 1024
