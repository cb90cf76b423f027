"""S10: what lets somebody in is told once, to them, and stands nowhere else: no database, log or answer has it."""

from __future__ import annotations

import base64
import logging
import urllib.parse
from pathlib import Path

import pytest

from rewarm.studio.api.door import COOKIE
from rewarm.studio.context import Studio
from tests.studio.conftest import HOME, Client

PASSWORD = "canary/+ pass=word ộ"


def _forms(secret: str) -> set[bytes]:
    """How a secret may stand somewhere: as it is, in base64 at any offset, in a URL, as JSON."""
    raw = secret.encode()
    forms = {raw, urllib.parse.quote(secret).encode(), raw.hex().encode(), ascii(secret)[1:-1].encode()}
    for offset in range(3):
        forms.add(base64.b64encode(b"x" * offset + raw)[4:-4])
        forms.add(base64.urlsafe_b64encode(b"x" * offset + raw)[4:-4])
    return forms


@pytest.mark.parametrize("failing", [False, True])
def test_s10_no_secret_is_kept_or_told_again(
    studio: Studio, client: Client, caplog: pytest.LogCaptureFixture, failing: bool, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    chief, browser = client("administrator"), client(None)
    browser.headers["Origin"] = HOME
    secrets = {PASSWORD, chief.headers["Authorization"].partition(" ")[2]}
    key = {"Idempotency-Key": "one"}
    link = chief.post("/api/v1/users", json={"name": "ana", "role": "editor"}, headers=key).json()["url"]
    secrets.add(link.partition("#key=")[2])
    body = {"key": link.partition("#key=")[2], "password": PASSWORD}
    browser.post("/api/v1/session/link", json=body)
    secrets.add(str(browser.cookies[COOKIE]))
    made = browser.post("/api/v1/tokens", json={"name": "t", "role": "viewer"}, headers={"Idempotency-Key": "two"})
    secrets.add(made.json()["token"])
    told = []
    if failing:
        told += [
            browser.post("/api/v1/session/link", json=body),
            browser.post("/api/v1/session/link", json=body | {"x": PASSWORD}),
            browser.post("/api/v1/session", json={"name": PASSWORD, "password": [PASSWORD]}),
            browser.post("/api/v1/session", json={"name": "ana", "password": PASSWORD + "x" * 300}),
            browser.put("/api/v1/session/password", json={"old": "wrong", "new": PASSWORD}),
            browser.post("/api/v1/session", content=f'{{"password": "{PASSWORD}"'.encode()),
            chief.get("/api/v1/tokens", headers={"Authorization": f"Basic {made.json()['token']}"}),
        ]
    for path in ("/api/v1/users", "/api/v1/tokens", "/api/v1/audit", "/api/v1/settings", "/api/v1/session", "/metrics"):
        told += [chief.get(path), browser.get(path)]
    studio.database.close()  # what was written ahead goes into the file
    kept = {str(path): path.read_bytes() for path in studio.workspace.root.rglob("*") if path.is_file()}
    kept |= {f"{answer.request.method} {answer.url} {answer.status_code}": answer.content for answer in told}
    kept["log"] = caplog.text.encode()
    assert len(kept) > 8 and any(path.endswith("rewarm.db") for path in kept)
    for place, content in kept.items():
        for secret in secrets:
            assert not [form for form in _forms(secret) if form in content], place
