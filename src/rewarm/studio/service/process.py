"""Processes of the engine that go on by themselves: a folder each, whose lock the kernel holds as long as one lives.

The lock is taken here and inherited, so that whether a process lives is known without its number, also by a server
that was started after it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from pathlib import Path

from rewarm.core.network import guarded_environment
from rewarm.core.workspace import Workspace

LOCK = "lock"


def start(workspace: Workspace, folder: Path, command: list[str], cwd: Path | None = None, **environment: str) -> bool:
    """Start ``command`` in a session of its own, its output in ``output`` and ``log.txt``; False where one lives."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        values = {**guarded_environment(), "REWARM_HOME": str(workspace.root), "PYTHONUTF8": "1", **environment}
        values.pop("REWARM_URL", None)  # this workspace, not a Studio
        with (folder / "output").open("wb") as output, (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=values,
                cwd=cwd,
                pass_fds=[lock],
                start_new_session=True,
            )
    finally:
        os.close(lock)
    threading.Thread(target=process.wait, daemon=True).start()  # or it would stay as a zombie
    return True


def lives(folder: Path) -> bool:
    """Whether a process that was started in ``folder`` lives."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
