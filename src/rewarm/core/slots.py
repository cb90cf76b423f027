"""Device slots: a file per GPU of this computer, locked by the run that works on it; the kernel frees it at its death.

CPU runs need none: they share the cores, as any two programs do, and only take longer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

POLL_SECONDS = 1.0


@contextlib.contextmanager
def hold(
    folder: Path, slots: Sequence[str], count: int, holder: str, waits: Callable[[str], None], shared: bool = False
) -> Iterator[list[str]]:
    """Hold ``count`` of the slots, the first that are free; yields their names.

    Args:
        folder: where the locks lie; of several computers too, as each has files of its own.
        holder: who is named to those that wait.
        waits: called with the reason, again and again, while too few are free; it may raise to give up.
        shared: with others that share; a run shares with nobody.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        files = {slot: stack.enter_context(_open(folder / f"{socket.gethostname()}-{slot}.lock")) for slot in slots}
        while True:
            held: list[str] = []
            for slot in slots:
                if len(held) < count and _lock(files[slot], holder, shared):
                    held.append(slot)
            if len(held) == count:
                break
            for slot in held:  # all or none, so that no two runs wait for each other
                fcntl.flock(files[slot], fcntl.LOCK_UN)
            others = ", ".join(sorted({_holder(files[slot]) for slot in slots if slot not in held}))
            waits(f"waiting for {count} of {len(slots)} GPUs, in use by {others}")
            time.sleep(POLL_SECONDS)
        yield held


def _open(path: Path) -> IO[str]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8")


def _lock(file: IO[str], holder: str, shared: bool) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    file.truncate(0)
    file.seek(0)
    file.write(holder)
    file.flush()
    return True


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "another run"


def visible(count: int) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process sees, of which there are ``count``."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return ([name.strip() for name in named.split(",")] if named else [str(number) for number in range(count)])[:count]


def taken(folder: Path, slots: Sequence[str]) -> dict[str, str]:
    """The slots that somebody holds, and who."""
    found = {}
    for slot in slots:
        with (
            contextlib.suppress(FileNotFoundError),
            (folder / f"{socket.gethostname()}-{slot}.lock").open("r+") as file,
        ):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found[slot] = _holder(file)
    return found
