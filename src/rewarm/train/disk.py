"""A full disk is a pause, not the end: the training waits with its state in memory, and goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rewarm.core.storage import free_bytes, is_disk_full
from rewarm.train.job import Job

T = TypeVar("T")
POLL_SECONDS = 2.0


def with_space(job: Job, purpose: str, work: Callable[[], T], *, needed: int = 0) -> T | None:
    """Do ``work``; where the disk is too full for it, say 'paused', wait, and do it again from its beginning.

    Args:
        needed: bytes that must be free before ``work`` is tried at all.

    Returns:
        What ``work`` returned, or None when a stop was asked for while waiting.
    """
    reason, told = "", False
    while True:
        free = free_bytes(job.checkpoints)
        if free >= needed:
            try:
                result = work()
                break
            except Exception as error:
                if not is_disk_full(error):
                    raise
        reason = f"the disk is full: {purpose} needs {needed / 1e9:.3f} GB, {free / 1e9:.3f} GB are free"
        told = told or _say(job, "paused", reason)
        if job.stop():
            return None
        time.sleep(POLL_SECONDS)
    if reason:
        # The log lies on the same disk, so the pause itself may not have found room until now.
        pending = ["running"] if told else ["paused", "running"]
        while pending and not job.stop():
            if _say(job, pending[0], reason if pending[0] == "paused" else None):
                pending.pop(0)
            else:
                time.sleep(POLL_SECONDS)
    return result


def _say(job: Job, state: str, reason: str | None) -> bool:
    """Write a state event; False where the disk has no room even for that."""
    try:
        job.log.state(state, **({"reason": reason} if reason else {}))
    except OSError as error:
        if not is_disk_full(error):
            raise
        return False
    return True
