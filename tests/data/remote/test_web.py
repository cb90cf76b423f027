"""Single files of a web server, of servers that say little, and of those that say the wrong thing."""

from __future__ import annotations

import pytest

from rewarm.core.connections import WebConnection, save_connection
from rewarm.core.errors import DataError, Unreachable, UserError
from rewarm.core.workspace import Workspace
from rewarm.data.documents import Document, read_documents
from rewarm.data.files import File, list_files
from rewarm.data.signature import ChangedError, UnsettledError
from tests.data.test_documents import CONTENTS, TEXTS
from tests.servers import Proxy, Reply, WebServer, web

__all__ = ["web"]  # the fixture


def texts_of(uri: str) -> list[str]:
    listing = list_files([uri])
    return [i.text for i in read_documents(File(uri, listing.signatures[uri])) if isinstance(i, Document)]


@pytest.mark.parametrize("name", ["a.jsonl", "with space.jsonl", "Điều.jsonl?x=1", "100%25.jsonl", "none"])
def test_a_file_by_its_address(web: WebServer, workspace: Workspace, name: str) -> None:
    web.data = CONTENTS["jsonl"]
    assert texts_of(f"{web.address}/{name}") == TEXTS


def test_a_server_that_cannot_send_parts_is_refused(web: WebServer, workspace: Workspace) -> None:
    web.data, web.ranges = CONTENTS["jsonl"], False
    with pytest.raises(DataError, match="cannot send parts"):
        texts_of(f"{web.address}/a.jsonl")
    web.data = b""
    assert texts_of(f"{web.address}/a.jsonl") == []


def test_the_time_of_change_is_a_version_and_without_any_there_is_none(web: WebServer, workspace: Workspace) -> None:
    web.data, web.headers = CONTENTS["jsonl"], {"Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"}
    known = File.at(f"{web.address}/a.jsonl")
    assert texts_of(known.uri) == TEXTS
    web.headers = {"Last-Modified": "Mon, 23 Nov 2026 10:00:01 GMT"}
    with pytest.raises(ChangedError):
        File(known.uri, known.signature._replace(version="Mon, 23 Nov 2026 09:59:59 GMT")).head()
    web.headers = {}
    with pytest.raises(DataError, match="what its version is"):
        texts_of(known.uri)


def test_an_empty_file(web: WebServer, workspace: Workspace) -> None:
    web.data = b""
    assert texts_of(f"{web.address}/a.jsonl") == []


@pytest.mark.parametrize(("status", "words"), [(404, "no such file"), (403, "refused"), (418, "HTTP 418")])
def test_refusals(web: WebServer, workspace: Workspace, status: int, words: str) -> None:
    web.status = status
    with pytest.raises(DataError, match=words) as caught:
        list_files([f"{web.address}/a.jsonl"])
    assert "canary" not in str(caught.value)


def test_the_token_goes_to_its_own_server_alone(web: WebServer, workspace: Workspace) -> None:
    web.data = CONTENTS["jsonl"]
    known = WebConnection.model_validate({"endpoint": web.address, "token": "canary"})
    save_connection(workspace, "web", known)
    other = Proxy(web.address)
    try:
        assert File.at(f"{web.address}/a.jsonl", "web").head() == web.data
        assert web.tokens == {"Bearer canary"}
        web.tokens.clear()
        assert File.at(f"{other.address}/a.jsonl", "web").head() == web.data
        assert web.tokens == {None}
        other.fault = lambda path, reply: Reply(302, {"Location": f"{web.address}/b.jsonl"}, b"")
        web.tokens.clear()
        assert File.at(f"{other.address}/c.jsonl", "web").head() == web.data
        assert web.tokens == {None}
    finally:
        other.close()


def test_circles_and_other_schemes_are_not_followed(web: WebServer, workspace: Workspace) -> None:
    web.status, web.headers = 302, {"Location": "/again"}
    with pytest.raises(UnsettledError, match="leads elsewhere"):
        list_files([f"{web.address}/a.jsonl"])
    assert web.count == 6
    web.headers = {"Location": "file:///etc/passwd"}
    with pytest.raises(UnsettledError, match="leads elsewhere"):
        list_files([f"{web.address}/a.jsonl"])


def test_an_unknown_server_is_said_in_words(workspace: Workspace) -> None:
    with pytest.raises(Unreachable, match="nothing answers there"):
        list_files(["http://127.0.0.1:1/a.jsonl"])
    with pytest.raises(UserError):
        list_files(["https:///a.jsonl"])
