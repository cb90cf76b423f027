"""The database: SQLite in the workspace, or PostgreSQL at an address; one way to read, one to write.

SQLite has one writer at a time. Threads of this process wait for each other here, where it costs nothing, and not in
SQLite, where a waiting writer sleeps and polls.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import Base


class Database:
    """A database and its sessions.

    Args:
        url: as SQLAlchemy reads it: ``sqlite:////path/rewarm.db`` or ``postgresql+psycopg://...``.
    """

    def __init__(self, url: str) -> None:
        self.engine: Engine = create_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = threading.RLock()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare)

    def migrate(self) -> None:
        """Bring the tables to this version."""
        Base.metadata.create_all(self.engine)

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed as a whole at the end, or not at all where an exception leaves it."""
        alone = self._writer if self.is_sqlite else contextlib.nullcontext()
        with alone, Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


def _prepare(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for setting in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 30000", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
