"""What every verb of the Studio gets: the workspace, the database, the address; and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rewarm.core.errors import Forbidden
from rewarm.core.workspace import Workspace
from rewarm.studio.store.database import Database


class Role(StrEnum):
    """What a user may do; each may do what those before it may."""

    viewer = "viewer"
    editor = "editor"
    administrator = "administrator"

    def includes(self, other: Role) -> bool:
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


@dataclass(frozen=True)
class User:
    """Who asks."""

    id: int
    name: str
    role: Role

    def check(self, needed: Role) -> None:
        """Raises ``Forbidden`` unless the user's role includes ``needed``."""
        if not self.role.includes(needed):
            raise Forbidden(f"this needs the role {needed}; yours is {self.role}", remedy="ask an administrator")


OWNER = User(0, "owner", Role.administrator)
"""Who works on the workspace's files directly, from the terminal."""


@dataclass(frozen=True)
class Studio:
    """A workspace with its database."""

    workspace: Workspace
    database: Database
    url: str = "http://127.0.0.1:8765"
    """Where its users reach it; links in mails begin with it."""


def open_studio(workspace: Workspace, database_url: str | None = None, url: str = Studio.url) -> Studio:
    """Open the workspace's database, or that at ``database_url``, and bring its tables to this version."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    database = Database(database_url or f"sqlite:///{workspace.root / 'rewarm.db'}")
    database.migrate()
    return Studio(workspace, database, url)
