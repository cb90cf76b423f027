"""A full disk or a server that is away is a pause, not the end: the work waits, says so, and goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rewarm.core.errors import Unreachable
from rewarm.core.events import EventLog
from rewarm.core.storage import free_bytes, is_disk_full

T = TypeVar("T")
POLL_SECONDS = 2.0
_MOST_POLLS = 30  # between two attempts to reach a server
_MORE = 1 << 20  # bytes that must have become free before work that failed is tried again


def with_space(
    work: Callable[[], T], *, purpose: str, folder: Path, log: EventLog, stop: Callable[[], bool], needed: int = 0
) -> T | None:
    """Do ``work``; where the disk of ``folder`` is too full, say 'paused', wait, and do it again from its beginning.

    The same where a server is ``Unreachable``. Work that reports progress says 'running' itself once it goes on.

    Args:
        needed: bytes that must be free before ``work`` is tried at all.

    Returns:
        What ``work`` returned, or None when a stop was asked for while waiting.
    """
    reason, told, polls = "", False, 1
    while True:
        away, free = "", free_bytes(folder)
        if free >= needed:
            try:
                result = work()
                break
            except Unreachable as error:
                away = f"{error.where}: {error.what}"
            except Exception as error:
                if not is_disk_full(error):
                    raise
                free = free_bytes(folder)
                needed = max(needed, free + _MORE)
        reason = away or f"the disk is full: {purpose} needs more than the {free / 1e6:,.1f} MB that are free"
        told = log.last_state == "paused" or _say(log, "paused", reason)  # a stop ended the pause before
        for _ in range(polls if away else 1):
            if stop():
                return None
            time.sleep(POLL_SECONDS)
        polls = min(_MOST_POLLS, 2 * polls)
    # The log lies on the same disk, so the pause itself may not have found room until now.
    pending = [] if not reason else ["running"] if log.last_state == "paused" else [] if told else ["paused", "running"]
    while pending and not stop():
        if _say(log, pending[0], reason if pending[0] == "paused" else None):
            pending.pop(0)
        else:
            time.sleep(POLL_SECONDS)
    return result


def _say(log: EventLog, state: str, reason: str | None) -> bool:
    """Write a state event; False where the disk has no room even for that."""
    try:
        log.state(state, **({"reason": reason} if reason else {}))
    except OSError as error:
        if not is_disk_full(error):
            raise
        return False
    return True
