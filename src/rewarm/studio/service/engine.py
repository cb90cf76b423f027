"""Questions that only the engine can answer: asked of a process of its own, as a command with ``--json``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import orjson

from rewarm.core.errors import UserError
from rewarm.core.workspace import Workspace


class Busy(UserError):  # noqa: N818
    """There is no time for it now."""


AT_ONCE, PATIENCE = 4, 30.0
"""How many may be under way, each on one of the server's few threads; and how long another waits, in seconds."""
_room = threading.BoundedSemaphore(AT_ONCE)


def command(arguments: list[str]) -> list[str]:
    """``rewarm ARGUMENTS --json``; what stands behind a ``--`` is no option, whatever a user called it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [sys.executable, "-m", "rewarm", *arguments[:end], "--json", *arguments[end:]]


def ask(workspace: Workspace, arguments: list[str], seconds: float = 120.0) -> Any:
    """What ``rewarm ARGUMENTS --json`` answers.

    Raises:
        UserError: what the command says, where it says anything else.
        Busy: where it takes too long, or too many others are under way.
    """
    environment = {**os.environ, "REWARM_HOME": str(workspace.root), "PYTHONUTF8": "1"}
    environment.pop("REWARM_URL", None)  # this workspace, not a Studio
    if not _room.acquire(timeout=PATIENCE):
        raise Busy(f"{AT_ONCE} others work already", where=arguments[0], remedy="try again in a moment")
    try:
        done = subprocess.run(
            command(arguments), capture_output=True, timeout=seconds, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Busy(f"gave no answer in {seconds:.0f} s", where=arguments[0], remedy="try again") from None
    finally:
        _room.release()
    try:
        return orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        text = done.stderr.decode("utf-8", "replace").strip().removeprefix("rewarm: ")
        what, _, remedy = text.partition("\n  what to do: ")
        raise UserError(what or f"ended with code {done.returncode}", remedy=remedy or None) from None
