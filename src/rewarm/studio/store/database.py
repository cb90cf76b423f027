"""The database: SQLite in the workspace, or PostgreSQL at an address; one way to read, one to write.

SQLite has one writer at a time. Threads of this process wait for each other here, where it costs nothing, and not in
SQLite, where a waiting writer sleeps and polls.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, OperationalError
from sqlalchemy.orm import Session

from rewarm.core.errors import DataError as BadValue
from rewarm.core.errors import ResourceError, UserError
from rewarm.studio.store import migrations

_MIGRATING = 0x7265776172
"""The number of PostgreSQL's lock that a migration holds."""
_CHECK_SECONDS = 1.0


class Database:
    """A database and its sessions.

    Args:
        url: ``sqlite:////path/rewarm.db`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises:
        UserError: where ``url`` is neither, or the driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._where = self.engine.url.render_as_string(hide_password=True)
        self._writer = threading.RLock()
        self._reading: Engine
        self._writing: Engine
        self._watch: sqlite3.Connection | None = None
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)
            self._reading = self.engine
            self._writing = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        else:
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._writing = self.engine

    def migrate(self) -> None:
        """Bring the tables to this version, all at once or not at all; other processes wait meanwhile.

        Raises:
            UserError: if a newer Rewarm made the database.
            ResourceError: if it is damaged, or does not answer.
        """
        try:
            with self._told():
                if self.is_sqlite:
                    self._check()
                self._upgrade()
        except OperationalError as error:
            raise ResourceError(
                f"the database does not answer: {_last_words(error)}", where=self._where, remedy="see that it runs"
            ) from error

    def _upgrade(self) -> None:
        with self._writing.connect() as connection:
            if self.is_sqlite:  # a table that is made anew is dropped once, which must not delete what refers to it
                _driver(connection).execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    if not self.is_sqlite:
                        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
                    migrations.upgrade(connection, self._where)
            finally:
                if self.is_sqlite:
                    _driver(connection).execute("PRAGMA foreign_keys = ON")

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing. Raises as ``write``."""
        with self._told(), Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed as a whole at the end, or not at all where an exception leaves it.

        Raises:
            DataError: for a value that no database keeps: a NUL in a text, an integer of more than 64 bits.
            ResourceError: where the database is damaged.
            sqlalchemy.exc.OperationalError: where it does not answer, or its disk is full.
        """
        alone = self._writer if self.is_sqlite else contextlib.nullcontext()
        with self._told(), alone, Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def version(self) -> int | None:
        """A number that is another one once anybody has changed the database; None where that is not known so cheaply.

        Reading it takes microseconds, and never waits. Not for several threads at once.
        """
        path = self.engine.url.database
        if not self.is_sqlite or not path or self.engine.url.query:  # a query may make of the path what it is not
            return None
        with contextlib.suppress(sqlite3.Error):
            if self._watch is None:  # one of its own: a connection does not count what it changes itself
                self._watch = sqlite3.connect(path, timeout=0, check_same_thread=False)
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])
        return None

    def close(self) -> None:
        self.engine.dispose()
        if self._watch is not None:
            self._watch.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (DataError, OverflowError, UnicodeEncodeError) as error:
            raise BadValue(f"this value cannot be kept: {_last_words(error)}", remedy="change it") from error
        except DatabaseError as error:
            words = _last_words(error)
            if "malformed" in words or "not a database" in words:
                raise ResourceError(
                    f"the database is damaged: {words}",
                    where=self._where,
                    remedy="take the last daily copy: rewarm restore --database; or move the database aside: runs, "
                    "datasets, models and connections are files and come back, accounts and pipelines do not",
                ) from error
            raise

    def _check(self) -> None:
        """Look through an SQLite file for as long as a second; what is damaged deeper in is told when it is read."""
        with self.engine.connect() as connection:
            deadline = time.monotonic() + _CHECK_SECONDS
            driver = _driver(connection)
            driver.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            try:
                found = driver.execute("PRAGMA quick_check(1)").fetchone()[0]
            except sqlite3.OperationalError as error:
                if "interrupted" not in str(error):
                    raise
                found = "ok"
            finally:
                driver.set_progress_handler(None, 0)
        if found != "ok":
            raise DatabaseError("PRAGMA quick_check", None, sqlite3.DatabaseError(f"malformed: {found}"))


def _engine(url: str) -> Engine:
    remedy = "give sqlite:////PATH or postgresql://USER:PASSWORD@HOST/NAME"
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise UserError("neither SQLite nor PostgreSQL", where=parsed.drivername, remedy=remedy)
        # As many as the server has threads; a database that was started again leaves dead connections behind.
        return create_engine(
            parsed,
            pool_size=10,
            max_overflow=40,
            pool_pre_ping=parsed.get_backend_name() != "sqlite",
            json_deserializer=orjson.loads,
            hide_parameters=True,  # an error's text goes to the log, and a value may be a secret
        )
    except (ArgumentError, ValueError):
        raise UserError("this is no address of a database", where="the database's URL", remedy=remedy) from None
    except ImportError:
        raise UserError(
            "the driver is not installed", where=url.split(":")[0], remedy="pip install 'rewarm[postgres]'"
        ) from None


def _driver(connection: Connection) -> Any:
    """The driver's own connection, which knows nothing of transactions that we did not begin."""
    return connection.connection.driver_connection


def _prepare(driver: Any, _record: Any) -> None:
    driver.isolation_level = None  # we say BEGIN ourselves: the driver would leave changes of tables outside
    for setting in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 30000", "foreign_keys = ON"):
        driver.execute(f"PRAGMA {setting}").close()


def _begin(connection: Connection) -> None:
    # A writer says so at once: one that has read before could not write any more once another has written.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _last_words(error: BaseException) -> str:
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
