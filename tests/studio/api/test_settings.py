"""Settings are set whole, checked, and on record."""

from __future__ import annotations

import pytest

from rewarm.studio.context import Studio
from rewarm.studio.service.settings import Folders, read_setting
from tests.studio.conftest import Client


def test_a_setting_is_kept_and_read(studio: Studio, client: Client) -> None:
    chief = client("administrator")
    assert chief.get("/api/v1/settings").json()["folders"] == {"readable": []}
    value = {"readable": ["/data", "/mnt/văn bản"]}
    assert chief.put("/api/v1/settings/folders", json=value).json() == value
    assert (
        chief.get("/api/v1/settings/folders").json() == value and read_setting(studio, Folders).readable[0] == "/data"
    )
    assert chief.get("/api/v1/audit").json()[0]["object"] == "setting/folders"
    assert chief.put("/api/v1/settings/folders", json={}).json() == {"readable": []}


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"readable": ["x"]}, "/body/readable/0"),
        ({"readable": 1}, "/body/readable"),
        ({"a": 1}, "/body/a"),
        ([], "/body"),
    ],
)
def test_a_wrong_value_changes_nothing(studio: Studio, client: Client, value: object, where: str) -> None:
    answer = client("administrator").put("/api/v1/settings/folders", json=value)
    assert answer.status_code == 422 and answer.json()["where"] == where
    assert read_setting(studio, Folders) == Folders()


def test_there_are_no_others(client: Client) -> None:
    assert client("administrator").get("/api/v1/settings/none").status_code == 404
    assert client("administrator").put("/api/v1/settings/none", json={}).status_code == 404
