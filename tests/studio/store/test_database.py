from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from rewarm.core.errors import DataError, ResourceError, UserError
from rewarm.studio.store import migrations
from rewarm.studio.store.database import Database
from rewarm.studio.store.tables import Base, KeyRow, SettingRow

ANN = "INSERT INTO users (id, name, role, created, disabled) VALUES (1, 'ann', 'viewer', 0, false)"
THE_NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9998", "{before}"
def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("shoe", sa.Text()))
    {end}
"""


def sqlite(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'rewarm.db'}")


def test_the_steps_lead_to_the_tables_as_they_are_written(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert inspect(connection).has_table("alembic_version")


def test_what_is_written_is_there_whole_or_not_at_all(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        session.add(SettingRow(name="a", value={}))
        session.flush()
        raise ZeroDivisionError
    with database.write() as session:
        session.add(SettingRow(name="b", value={"n": 1}))
    with database.read() as session:
        assert [row.name for row in session.query(SettingRow)] == ["b"]


def test_a_reader_sees_one_state_and_writes_nothing(database: Database) -> None:
    with database.read() as session:
        assert session.query(SettingRow).count() == 0
        with database.write() as other:
            other.add(SettingRow(name="a", value={}))
        assert session.query(SettingRow).count() == 0


def test_values_that_no_database_keeps_are_the_users_mistake(database: Database) -> None:
    with pytest.raises(DataError), database.write() as session:
        session.add(KeyRow(user="ann", key="k", request="r", status=1 << 70, created=0.0))
    with pytest.raises(DataError), database.write() as session:
        session.add(SettingRow(name="\ud800", value={}))


def test_many_threads_write_and_all_is_kept(database: Database) -> None:
    def write(n: int) -> None:
        for i in range(10):
            with database.write() as session:
                count = session.query(SettingRow).count()
                session.add(SettingRow(name=f"{n}-{i}", value={"there": count}))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.query(SettingRow).count() == 80


@pytest.fixture
def next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds a step behind the newest one; what ``end`` says comes last in it."""

    def add(end: str) -> None:
        before = migrations.head()
        folder = tmp_path / "versions"
        folder.mkdir()
        for path in migrations.VERSIONS.glob("[0-9]*.py"):
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "9998_next.py").write_text(THE_NEXT.format(before=before, end=end))
        monkeypatch.setattr(migrations, "VERSIONS", folder)

    return add


def test_f26_a_step_that_fails_leaves_the_tables_as_they_were(
    database: Database, next_step: Callable[[str], None]
) -> None:
    with database.write() as session:
        session.execute(text(ANN))
    next_step('op.execute("SELECT nothing FROM nowhere")')
    with pytest.raises((ResourceError, DBAPIError)):
        database.migrate()
    with database.engine.connect() as connection:
        assert not inspect(connection).has_table("half")
        assert "shoe" not in {column["name"] for column in inspect(connection).get_columns("users")}
        assert connection.scalar(text("SELECT name FROM users")) == "ann"
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) < "9998"


def test_f26_a_step_keeps_what_refers_to_a_table_that_is_made_anew(
    tmp_path: Path, next_step: Callable[[str], None]
) -> None:
    database = sqlite(tmp_path)  # PostgreSQL changes a table where it stands
    database.migrate()
    with database.write() as session:
        session.execute(text(ANN))
        session.execute(text("INSERT INTO sessions (hash, user_id, created, expires) VALUES ('h', 1, 0, 0)"))
    next_step('with op.batch_alter_table("users", recreate="always") as users: users.drop_column("shoe")')
    database.migrate()
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM sessions")) == 1
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9998"
    database.close()


def test_f26_an_older_program_refuses_a_newer_database(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="newer Rewarm") as error:
        database.migrate()
    assert "rewarm restore" in str(error.value)


def test_several_servers_that_start_at_once_migrate_once(database: Database) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    with database.write() as session:
        for table in (*reversed(Base.metadata.sorted_tables), "alembic_version"):
            session.execute(text(f"DROP TABLE {table}"))
    program = "import sys; from rewarm.studio.store.database import Database; Database(sys.argv[1]).migrate()"
    servers = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(2)]
    assert [server.wait(60) for server in servers] == [0, 0]
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1


@pytest.mark.parametrize("how", ["no database", "zeros in the middle"])
def test_f17_a_damaged_file_is_refused_with_the_way_back(tmp_path: Path, how: str) -> None:
    database = sqlite(tmp_path)
    database.migrate()
    database.close()
    path = tmp_path / "rewarm.db"
    data = bytearray(path.read_bytes())
    data[slice(0, 100) if how == "no database" else slice(4096, 4096 * 6)] = b"\0" * (
        100 if how == "no database" else 4096 * 5
    )
    path.write_bytes(data)
    again = sqlite(tmp_path)
    with pytest.raises(ResourceError, match="rewarm restore"):
        again.migrate()
    again.close()


def test_addresses_that_are_none(tmp_path: Path) -> None:
    for url in ("nonsense", "mysql://host/name", "postgresql://host:port/name"):
        with pytest.raises(UserError):
            Database(url)
    with pytest.raises(ResourceError, match="does not answer"):
        sqlite(tmp_path / "missing").migrate()
    silent = Database("postgresql://nobody:secret-canary@127.0.0.1:9/none?connect_timeout=2")
    with pytest.raises(ResourceError, match="does not answer") as error:
        silent.migrate()
    assert "secret-canary" not in str(error.value)
