"""A Studio's server as a process of its own, which tests may kill."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from rewarm.core.workspace import Workspace
from rewarm.studio.context import open_studio
from tests.servers import free_port
from tests.studio.conftest import token_of

SERVE = """
import sys, uvicorn
from rewarm.core.workspace import Workspace
from pathlib import Path
from rewarm.studio.api.app import build_app
from rewarm.studio.context import open_studio
studio = open_studio(Workspace(Path(sys.argv[1])), sys.argv[3] or None)
uvicorn.run(build_app(studio), port=int(sys.argv[2]), log_level="warning")
"""


class Server:
    """The server of the workspace ``root``, and a client of it with an editor's token."""

    def __init__(self, root: Path, database_url: str | None = None) -> None:
        self.root, self.port, self.database_url = root, free_port(), database_url
        studio = open_studio(Workspace(root), database_url)
        token = token_of(studio, "editor")
        studio.database.close()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def start(self) -> None:
        """Returns once it answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self.root), str(self.port), self.database_url or ""]
        )
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                self.client.get("/templates")
                return
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(root: Path, database_url: str | None = None) -> Iterator[Server]:
    server = Server(root, database_url)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        server.client.close()
