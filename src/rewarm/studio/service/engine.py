"""Questions that only the engine can answer: asked of a process of its own, as a command with ``--json``."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import orjson

from rewarm.core.errors import ResourceError, UserError
from rewarm.core.workspace import Workspace


def command(arguments: list[str]) -> list[str]:
    """``rewarm ARGUMENTS --json``; what stands behind a ``--`` is no option, whatever a user called it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [sys.executable, "-m", "rewarm", *arguments[:end], "--json", *arguments[end:]]


def ask(workspace: Workspace, arguments: list[str], seconds: float = 120.0) -> Any:
    """What ``rewarm ARGUMENTS --json`` answers.

    Raises:
        UserError: what the command says, where it says anything else; ``ResourceError`` where it takes too long.
    """
    environment = {**os.environ, "REWARM_HOME": str(workspace.root), "PYTHONUTF8": "1"}
    environment.pop("REWARM_URL", None)  # this workspace, not a Studio
    try:
        done = subprocess.run(
            command(arguments), capture_output=True, timeout=seconds, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ResourceError(f"gave no answer in {seconds:.0f} s", where=arguments[0], remedy="try again") from None
    try:
        return orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        text = done.stderr.decode("utf-8", "replace").strip().removeprefix("rewarm: ")
        what, _, remedy = text.partition("\n  what to do: ")
        raise UserError(what or f"ended with code {done.returncode}", remedy=remedy or None) from None
