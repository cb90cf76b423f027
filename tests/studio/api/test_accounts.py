"""Who may come in and as whom: links, passwords, sessions, tokens, users. S3 (others' objects), S11 (passwords)."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import event, update

from rewarm.core.errors import UserError
from rewarm.studio.api.door import COOKIE
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import accounts
from rewarm.studio.store.tables import LinkRow, SessionRow, TokenRow, UserRow
from tests.studio.conftest import HOME, Client, TestClient, token_of, user_with

SESSION, PASSWORD = "/api/v1/session", "correct horse battery"


def _key(url: str) -> str:
    return url.partition("#key=")[2]


@pytest.fixture
def browser(client: Client) -> TestClient:
    """On our own pages, not signed in."""
    found = client(None)
    found.headers["Origin"] = HOME
    return found


def test_the_first_link_signs_in_once_and_sets_a_password(studio: Studio, browser: TestClient) -> None:
    link = accounts.first_link(studio)
    assert link is not None and accounts.first_link(studio) is None and not accounts.is_protected(studio)
    assert len(_key(link.url)) >= 43 and abs(link.expires - time.time() - 86400) < 60
    body = {"key": _key(link.url), "password": "short"}
    answer = browser.post(f"{SESSION}/link", json=body)
    assert answer.status_code == 422 and "10 to 256" in answer.json()["what"]  # and the link still works
    answer = browser.post(f"{SESSION}/link", json={**body, "password": PASSWORD})
    assert answer.json() == {"name": "admin", "role": "administrator"} and accounts.is_protected(studio)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie and "secure" not in cookie
    assert browser.get(SESSION).json()["name"] == "admin"
    assert browser.post(f"{SESSION}/link", json=body | {"password": PASSWORD}).status_code == 401
    assert browser.post(SESSION, json={"name": "admin", "password": PASSWORD}).status_code == 200
    for name, password in (("admin", "admin"), ("admin", ""), ("admin", PASSWORD + "x"), ("nobody", PASSWORD)):
        assert browser.post(SESSION, json={"name": name, "password": password}).status_code == 401


def test_a_cookie_is_secure_behind_https(studio: Studio) -> None:
    from dataclasses import replace

    from rewarm.studio.api.app import build_app

    url = "https://studio.example.com"
    studio = replace(studio, url=url)
    link = accounts.first_link(studio)
    assert link is not None and link.url.startswith(f"{url}/sign-in#")
    client = TestClient(build_app(studio), base_url="http://studio.example.com", headers={"Origin": url})
    assert "secure" in client.post(f"{SESSION}/link", json={"key": _key(link.url)}).headers["set-cookie"].lower()


def test_links_expire_and_the_newest_counts(studio: Studio, browser: TestClient) -> None:
    keys = [_key(accounts.add_user(studio, OWNER, "ana", Role.viewer).url)]
    keys += [_key(accounts.new_link(studio, OWNER, "ana").url) for _ in range(2)]
    assert [browser.post(f"{SESSION}/link", json={"key": key}).status_code for key in keys[:2]] == [401, 401]
    with studio.database.write() as session:
        session.execute(update(LinkRow).values(expires=time.time() - 1))
    assert browser.post(f"{SESSION}/link", json={"key": keys[2]}).status_code == 401


def test_of_two_who_use_a_link_at_once_one_is_let_in(studio: Studio) -> None:
    key = _key(accounts.add_user(studio, OWNER, "ana", Role.viewer).url)
    let_in: list[bool] = []

    def use() -> None:
        try:
            accounts.sign_in_by_link(studio, key)
            let_in.append(True)
        except accounts.NotSignedIn:
            let_in.append(False)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(let_in) == [False] * 7 + [True]


def test_s11_passwords_are_slow_hashes_and_attempts_are_counted(studio: Studio, browser: TestClient) -> None:
    user_with(studio, "viewer")
    user_with(studio, "editor")
    accounts.reset_password(studio, OWNER, "viewer", PASSWORD)
    with studio.database.read() as session:
        hashed = session.query(UserRow).filter(UserRow.name == "viewer").one().password
    memory, passes = map(int, re.findall(r"m=(\d+),t=(\d+)", hashed or "")[0])
    assert hashed is not None and hashed.startswith("$argon2id$") and memory * passes >= 2 * 19456
    wrong = {"name": "viewer", "password": "wrong password"}
    assert [browser.post(SESSION, json=wrong).status_code for _ in range(6)] == [401] * 5 + [429]
    assert browser.post(SESSION, json={"name": "viewer", "password": PASSWORD}).status_code == 429
    assert browser.post(SESSION, json={"name": "editor", "password": "x"}).status_code == 401  # another account
    attempts = accounts.Attempts()
    for n in range(60):
        attempts.take("10.0.0.1", str(n))
    with pytest.raises(accounts.TooMany):
        attempts.take("10.0.0.1")
    attempts.take("10.0.0.2")


def test_s11_keys_and_links_are_of_chance(studio: Studio) -> None:
    accounts.add_user(studio, OWNER, "ana", Role.viewer)
    made = {_key(accounts.new_link(studio, OWNER, "ana").url) for _ in range(20)}
    made |= {token_of(studio, "viewer") for _ in range(20)}
    assert len(made) == 40 and min(len(key.removeprefix("rewarm_")) for key in made) >= 43  # 256 bits


def _signed_in(studio: Studio, name: str) -> str:
    return accounts.sign_in_by_link(studio, _key(accounts.new_link(studio, OWNER, name).url))[1]


def test_a_new_password_ends_the_other_sessions(studio: Studio, browser: TestClient) -> None:
    user_with(studio, "viewer")
    old, ours = _signed_in(studio, "viewer"), _signed_in(studio, "viewer")
    browser.cookies.set(COOKIE, ours)
    assert browser.put(f"{SESSION}/password", json={"new": PASSWORD}).status_code == 204
    assert accounts.by_session(studio, old) is None and browser.get(SESSION).status_code == 200
    second = {"new": "another good password"}
    for wrong in (None, "wrong password", ""):
        assert browser.put(f"{SESSION}/password", json=second | {"old": wrong}).status_code == 403
    assert browser.put(f"{SESSION}/password", json=second | {"old": PASSWORD}).status_code == 204
    accounts.reset_password(studio, OWNER, "viewer", PASSWORD)
    assert browser.get(SESSION).status_code == 401


def test_signing_out_ends_the_session(studio: Studio, browser: TestClient) -> None:
    user_with(studio, "viewer")
    ours, other = _signed_in(studio, "viewer"), _signed_in(studio, "viewer")
    browser.cookies.set(COOKIE, ours)
    assert browser.delete(SESSION).status_code == 204
    assert accounts.by_session(studio, ours) is None and accounts.by_session(studio, other) is not None
    with studio.database.write() as session:
        session.execute(update(SessionRow).values(expires=time.time() - 1))
    assert accounts.by_session(studio, other) is None


def test_a_token_does_no_more_than_its_owner_may(studio: Studio, client: Client) -> None:
    user = user_with(studio, "administrator")
    accounts.add_user(studio, OWNER, "second", Role.administrator)
    token = accounts.add_token(studio, user, "all", Role.administrator).token
    found = accounts.by_token(studio, token)
    assert found is not None and found.role is Role.administrator
    accounts.change_user(studio, OWNER, user.name, role=Role.viewer)
    found = accounts.by_token(studio, token)
    assert found is not None and found.role is Role.viewer
    editor = client("editor")
    body = {"name": "t", "role": "administrator"}
    assert editor.post("/api/v1/tokens", json=body).status_code == 403
    made = editor.post("/api/v1/tokens", json={"name": "t", "role": "viewer", "days": 1}).json()
    assert accounts.by_token(studio, made["token"]).role is Role.viewer  # type: ignore[union-attr]
    assert (
        client(None)
        .put(f"{SESSION}/password", headers={"Authorization": f"Bearer {made['token']}"}, json={"new": PASSWORD})
        .status_code
        == 403
    )
    shown = {token["id"]: token for token in editor.get("/api/v1/tokens").json()}[made["id"]]
    assert "token" not in shown and shown["used"] is not None and shown["expires"] > time.time() + 86000
    with studio.database.write() as session:
        session.execute(update(TokenRow).where(TokenRow.id == made["id"]).values(expires=time.time() - 1))
    assert accounts.by_token(studio, made["token"]) is None


def test_s3_others_tokens_are_as_if_they_were_not_there(studio: Studio, client: Client) -> None:
    viewer, editor, administrator = (client(role) for role in Role)
    id = viewer.get("/api/v1/tokens").json()[0]["id"]
    for other in (editor, administrator):
        theirs, none = (other.delete(f"/api/v1/tokens/{n}") for n in (id, 10**9))
        assert theirs.status_code == none.status_code == 404
        assert theirs.text.replace(str(id), "") == none.text.replace(str(10**9), "")
        assert id not in [token["id"] for token in other.get("/api/v1/tokens").json()]
    assert viewer.delete(f"/api/v1/tokens/{id}").status_code == 204
    assert viewer.get("/api/v1/tokens").status_code == 401
    assert administrator.delete(f"/api/v1/tokens/{2**63}").status_code == 422


def test_administrators_look_after_users(studio: Studio, client: Client) -> None:
    chief = client("administrator")
    made = chief.post("/api/v1/users", json={"name": "ana", "role": "editor", "email": "ana@example.com"})
    assert made.status_code == 201 and made.json()["url"].startswith(f"{HOME}/sign-in#key=")
    assert chief.post("/api/v1/users", json={"name": "ana"}).status_code == 409
    for name in ("", "a b", "a/b", "../a", "-a", "ộ", "a" * 65, "a\n"):
        assert chief.post("/api/v1/users", json={"name": name}).status_code == 422, name
    for email in ("x", "a@b\r\nBcc: c@d", "a b@c", "<a@b>", "a@b,c@d"):
        assert chief.post("/api/v1/users", json={"name": "bo", "email": email}).status_code == 422, email
    session = accounts.sign_in_by_link(studio, _key(made.json()["url"]), PASSWORD)[1]
    token = accounts.add_token(studio, accounts.by_session(studio, session) or OWNER, "t", Role.viewer).token
    changed = chief.patch("/api/v1/users/ana", json={"disabled": True}).json()
    assert changed["disabled"] and changed["role"] == "editor" and changed["has_password"]
    assert accounts.by_session(studio, session) is None and accounts.by_token(studio, token) is None
    with pytest.raises(accounts.NotSignedIn):
        accounts.sign_in(studio, "ana", PASSWORD, "")
    assert chief.post("/api/v1/users/ana/link").status_code == 409
    assert chief.patch("/api/v1/users/ana", json={"disabled": False}).status_code == 200
    assert accounts.by_session(studio, session) is None  # that one has ended
    assert chief.patch("/api/v1/users/none", json={}).status_code == 404
    for change in ({"role": "viewer"}, {"disabled": True}):
        assert chief.patch("/api/v1/users/administrator", json=change).status_code == 409
    names = [user["name"] for user in chief.get("/api/v1/users").json()]
    assert names == ["administrator", "ana"]


def test_what_was_done_is_on_record(studio: Studio, client: Client) -> None:
    chief = client("administrator")
    chief.post("/api/v1/users", json={"name": "ana"})
    chief.patch("/api/v1/users/ana", json={"role": "editor"})
    for _ in range(2):
        with pytest.raises(UserError):
            accounts.sign_in(studio, "ana", "wrong password", "10.0.0.9")
    all_of = "/api/v1/audit"
    newest = chief.get(all_of, params={"limit": 3}).json()
    assert [entry["action"] for entry in newest] == ["fail to sign in", "fail to sign in", "change"]
    assert newest[0]["detail"] == {"address": "10.0.0.9"} and newest[2]["detail"] == {"role": "editor"}
    assert newest[2]["user"] == "administrator" and newest[2]["object"] == "user/ana"
    after = chief.get(all_of, params={"after": newest[2]["id"]}).json()
    assert after[0]["action"] == "add" and after[0]["object"] == "user/ana"
    for filters, count in (
        ({"user": "administrator", "action": "add", "object": "user/ana"}, 1),
        ({"object": "token"}, 1),
        ({"object": "tok"}, 0),
        ({"object": "user/ana"}, 4),
        ({"since": time.time() + 9}, 0),
        ({"until": newest[0]["time"] - 60}, 0),
    ):
        assert len(chief.get(all_of, params=filters).json()) == count, filters
    assert client("editor").get(all_of).status_code == 403


def test_s11_what_another_process_changes_counts_at_once(studio: Studio, client: Client) -> None:
    """Who asks is known for a while, but never longer than until somebody changes the database."""
    signed = client("viewer")
    assert [signed.get("/api/v1/session").status_code for _ in range(3)] == [200] * 3
    code = (
        "import sys; from pathlib import Path; from rewarm.core.workspace import Workspace\n"
        "from rewarm.studio.context import OWNER, open_studio\nfrom rewarm.studio.service.accounts import change_user\n"
        "change_user(open_studio(Workspace(Path(sys.argv[1]))), OWNER, 'viewer', disabled=True)"
    )
    client("administrator")  # one has to be left
    subprocess.run([sys.executable, "-c", code, str(studio.workspace.root)], check=True)
    assert signed.get("/api/v1/session").status_code == 401


def test_s11_who_was_asked_lately_is_known_without_the_database(studio: Studio, client: Client) -> None:
    signed, asked = client("viewer"), []
    event.listen(studio.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    for _ in range(4):
        assert signed.get("/api/v1/session").status_code == 200
    assert (
        sum("tokens" in query for query in asked if query.startswith("SELECT")) <= 2
    )  # and once after its use was noted
