"""No line to what only this machine sees: every spelling of an inner host, names that change, answers that lead in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewarm.core import network
from rewarm.core.errors import Forbidden, Unreachable, UserError
from rewarm.core.network import GUARD, allow, allowed, check_address, guarded, guarded_environment, is_guarded
from rewarm.core.workspace import Workspace
from rewarm.data import remote
from rewarm.data.remote import place
from tests.servers import Proxy, Reply, WebServer, web

__all__ = ["web"]  # the fixture

HOSTS = [
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "2130706433", "0x7f000001",
    "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.127.127.127", "localhost", "LOCALHOST.", "localhost.localdomain",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "127\u30020\u30020\u30021", "127.0.0.1.",
    "169.254.169.254", "[::ffff:169.254.169.254]", "0xa9fea9fe", "2852039166", "169.254.43518", "168.63.129.16",
    "100.100.100.200", "[fd00:ec2::254]", "[fe80::1]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "metadata.google.internal", "me@127.0.0.1", "example.com@127.0.0.1",
]  # fmt: skip


class Listener:
    """Counts the lines that anybody opens to it, by whatever address of this machine."""

    def __init__(self) -> None:
        self.count = 0
        self._sockets = [socket.create_server(("", 0))]
        self.port = self._sockets[0].getsockname()[1]
        self._sockets.append(socket.create_server(("::", self.port), family=socket.AF_INET6))
        for each in self._sockets:
            threading.Thread(target=self._accept, args=(each,), daemon=True).start()

    def _accept(self, each: socket.socket) -> None:
        while True:
            try:
                line, _ = each.accept()
            except OSError:
                return
            self.count += 1
            line.close()

    def close(self) -> None:
        for each in self._sockets:
            each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(place, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(place.Place, "patience", 2)
    here = Workspace(tmp_path)
    with guarded(here):
        yield here


def test_s9_no_spelling_of_an_inner_host_is_connected_to(workspace: Workspace, listener: Listener) -> None:
    for host in HOSTS:
        with pytest.raises(UserError):
            remote.browse(f"http://{host}:{listener.port}/a.txt", None)
        for port in (listener.port, 80):
            with pytest.raises((Forbidden, OSError)):
                check_address(host.rpartition("@")[2], port)
    for port in (22, 6379, 25):
        with pytest.raises(Forbidden):
            remote.browse(f"http://1.1.1.1:{port}/a.txt", None)
    assert listener.count == 0


def test_the_terminal_connects_to_whatever_it_likes(
    workspace: Workspace, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv(GUARD)
        with pytest.raises(Unreachable):
            remote.browse(f"http://127.1:{listener.port}/a.txt", None)
        assert listener.count == 2 and not is_guarded()


def test_what_an_administrator_allows(workspace: Workspace, web: WebServer) -> None:
    web.data, port = b"x", int(web.address.rpartition(":")[2])
    where = f"{web.address}/a.txt"
    for entry in (f"127.0.0.1:{port}", f"127.0.0.0/8:{port}"):
        assert allow(workspace, [entry]) == allowed(workspace) == [entry]
        assert len(remote.browse(where, None)) == 1
    for entry in ("127.0.0.1", "127.0.0.0/8", f"127.0.0.1:{port + 1}", f"localhost:{port}", f"[::1]:{port}"):
        allow(workspace, [entry])  # a line that stands from before is no way round it
        with pytest.raises(Forbidden, match="does not connect"):
            remote.browse(where, None)
    allow(workspace, [f"localhost:{port}"])
    assert check_address("LocalHost", port) in ("127.0.0.1", "::1")
    allow(workspace, ["127.0.0.1", "127.0.0.2"])
    assert check_address("127.1", 443) == "127.0.0.1"
    assert check_address("127.0.0.2", 587, network.MAIL_PORTS) == "127.0.0.2"
    with pytest.raises(Forbidden):
        check_address("127.0.0.2", 587)


@pytest.mark.parametrize(
    "entry", ["", ":80", "a b", "10.0.0.0/33", "http://a", "a:0", "a:65536", "1.2.3", "a/8", "[a]"]
)
def test_rules_that_are_none(workspace: Workspace, entry: str) -> None:
    with pytest.raises(UserError, match="neither a host nor a network"):
        allow(workspace, [entry])
    assert allowed(workspace) == []


def test_a_damaged_list_allows_nothing(workspace: Workspace) -> None:
    (workspace.root / "network.json").write_text('{"allow": 7}')
    with pytest.raises(UserError, match="damaged"):
        check_address("1.1.1.1", 443)


def test_public_hosts_at_the_usual_ports(workspace: Workspace) -> None:
    assert check_address("1.1.1.1", 443) == "1.1.1.1"
    assert check_address("[2606:4700:4700::1111]", 80) == "2606:4700:4700::1111"
    with pytest.raises(Forbidden):
        check_address("1.1.1.1", 9000)


def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    workspace: Workspace, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name whose owner lets it stand for the allowed host first, and for this machine a moment later."""
    port = int(web.address.rpartition(":")[2])
    inside, asked, truly = Listener(), list[str](), socket.getaddrinfo
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "rebinding.example":
            asked.append(host)
            host = next(answers)[0]
        return truly(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    web.data = b"x"
    allow(workspace, [f"127.0.0.1:{port}"])
    try:
        assert len(remote.browse(f"http://rebinding.example:{port}/a.txt", None)) == 1
        assert asked == ["rebinding.example"]
        with pytest.raises(Forbidden):
            remote.browse(f"http://rebinding.example:{inside.port}/a.txt", None)
        assert inside.count == 0
    finally:
        inside.close()


def test_answers_that_lead_inside_or_to_another_host(workspace: Workspace, web: WebServer, listener: Listener) -> None:
    proxy = Proxy(web.address)
    allow(workspace, [proxy.address.removeprefix("http://")])
    try:
        for target in (
            f"http://127.0.0.1:{listener.port}/",
            f"http://[::1]:{listener.port}/",
            "http://0/",
            "//1.1.1.1/",
        ):
            proxy.fault = lambda path, reply, to=target: Reply(302, {"Location": to}, b"canary")  # type: ignore[misc]
            with pytest.raises(UserError) as caught:
                remote.browse(f"{proxy.address}/a.txt", None)
            assert "canary" not in str(caught.value)
        assert listener.count == 0 and len(proxy.asked) == 4
    finally:
        proxy.close()


def test_processes_that_are_started_inherit_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guarded_environment()[GUARD] == "1"
    assert Workspace.default().root == workspace.root
    with guarded(Workspace(Path("/elsewhere"))):
        assert guarded_environment()["REWARM_HOME"] == "/elsewhere"
    with monkeypatch.context() as patch:
        patch.delenv(GUARD)
        assert guarded_environment()[GUARD] == "1" and not is_guarded()
