"""Which process is which: a pid alone may belong to somebody else by now, so its start and the boot go with it."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def identity(pid: int) -> dict[str, Any]:
    """``{pid, start_ticks, boot_id}``, which no other process ever shares. Raises ``psutil.Error``, ``OSError``."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        start = stat.read_bytes().rpartition(b")")[2].split()[19].decode()
    else:
        start = repr(psutil.Process(pid).create_time())
    return {"pid": pid, "start_ticks": start, "boot_id": _boot_id()}


def _boot_id() -> str:
    return _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else str(int(psutil.boot_time()))


def lives(record: dict[str, Any]) -> bool:
    """Whether the process lives, here, whose ``identity`` is in ``record``."""
    try:
        now = identity(record["pid"])
        return now.items() <= record.items() and psutil.Process(now["pid"]).status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError, ValueError, OverflowError):
        return False


def is_foreign(record: dict[str, Any]) -> bool:
    """Whether another computer wrote the record; a container that was started again has a new name alone."""
    return bool(record["host"] != socket.gethostname() and record["boot_id"] != _boot_id())


def end_with_parent() -> None:
    """Watch, in a thread, that the process lives that started this one; once it is gone, this one ends at once."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="rewarm-parent", daemon=True).start()
