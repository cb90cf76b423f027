"""The workspace: where runs, datasets, model versions and scores live (``REWARM_HOME``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folders of one workspace. Nothing is created until something is written."""

    root: Path

    @classmethod
    def default(cls) -> Workspace:
        return cls(Path(os.environ.get("REWARM_HOME") or "~/.rewarm").expanduser().resolve())

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
