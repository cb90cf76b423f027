"""The workspace: where runs, datasets, model versions and scores live (``REWARM_HOME``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rewarm.core.errors import UserError
from rewarm.core.storage import At, expand_home


@dataclass(frozen=True)
class Workspace:
    """The folders of one workspace. Nothing is created until something is written."""

    root: Path
    runs = At("runs", "root")
    datasets = At("datasets", "root")
    models = At("models", "root")
    evaluations = At("evaluations", "root")
    replay = At("replay", "root")  # texts that base models wrote to be replayed
    connections = At("connections", "root")
    secret_key = At("secret.key", "root")
    cache = At("cache", "root")  # blocks of remote files; may be deleted at any time

    @classmethod
    def default(cls) -> Workspace:
        """The workspace of this user. Raises ``UserError`` where no folder can be."""
        root, problem = expand_home(os.environ.get("REWARM_HOME") or "~/.rewarm").absolute(), "this is no folder"
        try:
            root = root.resolve()
            there = next(path for path in (root, *root.parents) if path.exists())
            if there.is_dir():
                return cls(root)
        except (OSError, RuntimeError) as error:  # not readable, or a link that leads to itself
            there, problem = root, str(getattr(error, "strerror", None) or error).lower()
        raise UserError(f"the workspace cannot be here: {problem}", where=there, remedy="set REWARM_HOME to a folder")
