"""A workspace of its own for each test, and quick retries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from rewarm.core.workspace import Workspace
from rewarm.data.remote import place
from tests.servers import Proxy, Store


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("REWARM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(place, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(place, "_TIMEOUT", urllib3.Timeout(connect=2, read=0.5))
    return Workspace.default()


@pytest.fixture
def proxy(store: Store) -> Iterator[Proxy]:
    made = Proxy(store.address)
    yield made
    made.close()
