"""A real Studio process and a real Chromium: one server and one browser for each file of tests."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = os.environ.get("REWARM_CHROMIUM") or next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

expect.set_options(timeout=20_000)  # a machine that others use too is slow


@dataclass
class Site:
    """A server over a workspace of its own."""

    home: Path
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rewarm(self, *arguments: str, text: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "rewarm", *arguments],
            input=text, capture_output=True, text=True, env=self._environment(), timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        arguments = ["studio", "--port", str(self.port), "--no-browser"]
        with (self.home / "server.txt").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rewarm", *arguments],
                stdout=log, stderr=log, text=True, env=self._environment(),
            )  # fmt: skip
        for _ in range(300):
            assert self.process.poll() is None, (self.home / "server.txt").read_text()
            try:
                if httpx.get(f"{self.url}/health", timeout=1).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the server did not answer within 30 s")

    def stop(self, kill: bool = False) -> None:
        assert self.process is not None
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(30)

    def key(self, user: str = "admin") -> str:
        found = re.search(r"key=(\S+)", self.rewarm("studio", "link", user))
        assert found is not None
        return found[1]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "REWARM_HOME": str(self.home), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Site(tmp_path_factory.mktemp("studio"), probe.getsockname()[1])
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")  # while it lives, this thread has a running loop: no test of another file may meet it
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def sign_in(chromium: Browser, site: Site, user: str = "admin", **options: object) -> Page:
    """A page of a browser of its own in which ``user`` is signed in. A fault in the page fails the test that asks."""
    page = chromium.new_context(**options).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(30_000)
    page.goto(f"{site.url}/sign-in#key={site.key(user)}")
    page.get_by_role("button").click()
    page.wait_for_selector(".rw-page")
    return page


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    """The administrator's page; it must end without an error in its scripts."""
    faults: list[str] = []
    signed_in = sign_in(chromium, site, viewport={"width": 1280, "height": 800})
    signed_in.on("pageerror", lambda error: faults.append(str(error)))
    yield signed_in
    signed_in.context.close()
    assert faults == []
