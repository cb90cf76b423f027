"""The workspace: where runs, datasets, model versions and scores live (``REWARM_HOME``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rewarm.core.errors import UserError
from rewarm.core.storage import expand_home


@dataclass(frozen=True)
class Workspace:
    """The folders of one workspace. Nothing is created until something is written."""

    root: Path

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

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def replay(self) -> Path:
        """Texts that base models wrote to be replayed."""
        return self.root / "replay"

    @property
    def connections(self) -> Path:
        return self.root / "connections"

    @property
    def secret_key(self) -> Path:
        return self.root / "secret.key"

    @property
    def cache(self) -> Path:
        """Blocks of remote files; may be deleted at any time."""
        return self.root / "cache"
