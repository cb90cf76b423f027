"""A real PostgreSQL for tests: that at REWARM_TEST_POSTGRES, or a cluster of our own from Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rewarm.studio.store.database import Database
from tests.servers import free_port


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Its address, up to the name of a database."""
    if url := os.environ.get("REWARM_TEST_POSTGRES"):
        yield url.rstrip("/")
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL here: install Debian's postgresql, or set REWARM_TEST_POSTGRES to postgresql://HOST")
    folder, port = Path(tempfile.mkdtemp(prefix="rewarm-postgres-")), free_port()
    owner = {}
    if os.geteuid() == 0:  # it refuses to be root
        shutil.chown(folder, "postgres", "postgres")
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []}

    def call(program: str, *arguments: str) -> None:
        command = [str(programs[-1] / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **owner)

    try:
        call("initdb", "--auth=trust", "--username=rewarm", "--no-sync", "--encoding=UTF8", "--no-locale")
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-p {port} -k {folder} -h 127.0.0.1 -F", "start")
        yield f"postgresql://rewarm@127.0.0.1:{port}"
    finally:
        call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield f"{postgres_server}/{name}"
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Both databases in turn, with the tables."""
    postgres = request.param == "postgres"
    found = Database(request.getfixturevalue("postgres") if postgres else f"sqlite:///{tmp_path / 'rewarm.db'}")
    found.migrate()
    yield found
    found.close()
