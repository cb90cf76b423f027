"""``rewarm clean``, ``backup`` and ``restore``, as somebody types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rewarm.core.storage import write_file
from rewarm.core.workspace import Workspace


def rewarm(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REWARM_HOME": str(home)}
    command = [sys.executable, "-m", "rewarm", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_clean_shows_asks_and_deletes(tmp_path: Path) -> None:
    block = Workspace(tmp_path).cache / "ab" / "block"
    write_file(block, b"b" * 2000)
    shown = rewarm(tmp_path, "clean")
    assert shown.returncode == 2 and "2.00 kB" in shown.stdout.replace("2 kB", "2.00 kB") and "--yes" in shown.stderr
    listed = json.loads(rewarm(tmp_path, "clean", "--json").stdout)
    assert not listed["deleted"] and listed["items"][0]["kind"] == "cache" and block.exists()
    assert "1 deleted" in rewarm(tmp_path, "clean", "--yes").stdout and not block.exists()
    assert "nothing to delete" in rewarm(tmp_path, "clean").stdout


def test_backup_and_restore_by_one_command_each(tmp_path: Path) -> None:
    write_file(tmp_path / "home" / "connections" / "store.json", b"{}")
    write_file(tmp_path / "home" / "secret.key", b"k")
    done = rewarm(tmp_path / "home", "backup", str(tmp_path / "b.tar.zst"))
    assert done.returncode == 0 and "1 files" in done.stdout and "secret.key apart" in done.stdout
    again = rewarm(tmp_path / "home", "backup", str(tmp_path / "b.tar.zst"))
    assert again.returncode == 2 and "there already" in again.stderr
    restored = rewarm(tmp_path / "there", "restore", str(tmp_path / "b.tar.zst"))
    assert restored.returncode == 0 and (tmp_path / "there" / "connections" / "store.json").read_bytes() == b"{}"
    full = rewarm(tmp_path / "there", "restore", str(tmp_path / "b.tar.zst"))
    assert full.returncode == 2 and "not empty" in full.stderr
    nothing = rewarm(tmp_path / "there", "restore", "--database")
    assert nothing.returncode == 2 and "no whole copy" in nothing.stderr
