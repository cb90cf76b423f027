"""Connections from the terminal: every verb against a real server, and the secret in none of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rewarm.cli.main import main
from rewarm.core.connections import S3Connection, load_connection
from rewarm.core.workspace import Workspace
from tests.servers import BUCKET, KEY, SECRET, Proxy, Reply, Store


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Terminal:
    """The command line, in this process, for a workspace of its own; remembers all that was printed."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.home, self.printed, self._patch, self._capture = home, "", patch, capture
        patch.setenv("REWARM_HOME", str(home))

    def __call__(self, *arguments: str, secret: str = "") -> Done:
        self._patch.setattr("sys.argv", ["rewarm", "connections", *arguments])
        self._patch.setattr("sys.stdin", io.StringIO(secret))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capture.readouterr()
        self.printed += out + err
        return Done(int(ended.value.code or 0), out, err)


@pytest.fixture
def rewarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "home", monkeypatch, capsys)
    yield terminal
    assert "canary" not in terminal.printed and "Traceback" not in terminal.printed
    kept = b"".join(path.read_bytes() for path in terminal.home.rglob("*") if path.is_file())
    assert b"canary" not in kept


def test_every_verb(store: Store, rewarm: Terminal) -> None:
    uri = store.put("cli/a b\n.jsonl", b'{"text": "first", "url": "https://example.com/1"}\n{"text": 7}\n')
    store.put("cli/more/b.txt", b"second")
    folder = f"s3://{BUCKET}/cli"
    assert "make one with" in rewarm("ls").stdout
    added = rewarm("add", "s3", "store", "--endpoint", store.address, "--access-key", KEY, "--secret-stdin",
                   secret=SECRET + "\n")  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert store.address in rewarm("ls").stdout
    assert json.loads(rewarm("ls", "--json").stdout) == [
        {"connection": "store", "kind": "s3", "endpoint": store.address, "problem": None}
    ]
    assert "store works" in rewarm("test", "store").stdout
    assert json.loads(rewarm("test", "store", folder, "--json").stdout)["entries"] == 2
    assert "more/" in rewarm("browse", "store", folder).stdout
    assert {e["uri"]: e["bytes"] for e in json.loads(rewarm("browse", "store", folder, "--json").stdout)} == {
        uri: 62,
        f"{folder}/more/": None,
    }
    assert "first" in rewarm("preview", "store", folder).stdout
    assert json.loads(rewarm("preview", "store", uri, "--json").stdout)["documents"] == [
        {"text": "first", "url": "https://example.com/1"},
        {"rejected": "text is not a string"},
    ]
    assert rewarm("rm", "store").returncode == 0
    assert rewarm("rm", "store").returncode == 2


def test_mistakes(store: Store, rewarm: Terminal) -> None:
    def failed(code: int, words: str, *arguments: str, secret: str = "canary\n") -> None:
        done = rewarm(*arguments, secret=secret)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert words in done.stderr

    failed(2, "needs a name", "add", "s3")
    failed(2, "3 to 64", "add", "s3", "s3", "--access-key", "a", "--secret-stdin")
    failed(2, "no terminal", "add", "hf")
    failed(2, "is empty", "add", "hf", "--secret-stdin", secret="\n")
    failed(2, "belong to kind s3", "add", "hf", "--region", "x", "--secret-stdin")
    failed(2, "endpoint", "add", "http", "web", "--endpoint", "me:canary@x", "--secret-stdin", secret="t")
    failed(2, "No such option", "add", "hf", "--token", "x")
    failed(2, "no connection 'store'", "test", "store")
    wrong = ("add", "s3", "store", "--endpoint", store.address, "--access-key", KEY, "--secret-stdin")
    assert rewarm(*wrong, secret="canary-wrong\n").returncode == 0
    failed(3, "secret key is not the one", "test", "store")
    failed(2, "of that name", "add", "s3", "store", "--endpoint", "https://other.example", *wrong[5:])
    failed(2, "of that name", "add", "http", "store", "--endpoint", store.address, "--secret-stdin")
    assert rewarm("add", "hf", "--secret-stdin", secret="canary").returncode == 0
    failed(2, "say what to look at", "test", "huggingface")
    failed(2, "s3://BUCKET/FOLDER", "preview", "store", "/etc/passwd")
    failed(2, "s3://BUCKET/FOLDER", "browse", "store", "corpora/law")
    failed(2, "a hub needs one of kind hf", "test", "store", "hf://datasets/a/b")
    nowhere = ("add", "s3", "nowhere", "--endpoint", "http://127.0.0.1:1", "--access-key", KEY, "--secret-stdin")
    assert rewarm(*nowhere, secret="canary\n").returncode == 0
    failed(3, "127.0.0.1:1 fails (nothing answers there; 3 times", "test", "nowhere")


def test_another_secret_for_a_connection_that_is_there(store: Store, rewarm: Terminal) -> None:
    first = ("add", "s3", "store", "--endpoint", f"{store.address}/", "--access-key", "AKIAOLD", "--secret-stdin")
    assert rewarm(*first, secret="canary-old\n").returncode == 0
    assert rewarm("test", "store").returncode == 3
    done = rewarm("add", "s3", "store", "--access-key", KEY, "--secret-stdin", secret=SECRET)
    assert "has another secret now" in done.stdout, done.stderr
    assert "store works" in rewarm("test", "store").stdout  # where it led before
    assert rewarm(*first, secret="canary-old\n").returncode == 0
    assert rewarm("test", "store").returncode == 3


ECHOES = [
    Reply(403, {"X-Error-Code": "canary"}, b"<Error><Code>AccessDenied</Code><Key>canary</Key></Error>"),
    Reply(400, {}, b"<Error><Code>canary</Code></Error>"),
    Reply(418, {"Server": "canary"}, b"canary"),
    Reply(503, {"Retry-After": "canary"}, b"canary"),
    Reply(307, {"Location": "http://me:canary@127.0.0.1:1/canary?canary"}, b"canary"),
    Reply(200, {"ETag": "canary"}, b"canary"),
]


def test_no_field_and_no_answer_brings_a_secret_into_a_message(
    store: Store, rewarm: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret in each place that a message might show, and servers that send back what they were sent."""
    monkeypatch.setattr("rewarm.data.remote.place._FIRST_PAUSE", 0.002)
    proxy = Proxy(store.address)
    wrong = (
        "https://me:canary@h",
        "https://h?a=canary",
        "https://h/#canary",
        "canary",
        "ftp://canary",
        "https://[canary",
    )
    for kind, more in (("s3", ("--access-key", "AKIACANARY")), ("http", ()), ("hf", ())):
        for endpoint in wrong:
            done = rewarm("add", kind, "one", "--endpoint", endpoint, *more, "--secret-stdin", secret="canary\n")
            assert (done.returncode, "rewarm: endpoint: " in done.stderr) == (2, True), endpoint
        made = ("add", kind, f"good-{kind}", "--endpoint", proxy.address, *more, "--secret-stdin")
        assert rewarm(*made, secret="canary\n").returncode == 0
    bad_region = ("add", "s3", "one", "--region", "canary key", "--access-key", "a", "--secret-stdin")
    assert rewarm(*bad_region, secret="canary\n").returncode == 2
    for echo in ECHOES:
        proxy.fault = lambda path, reply, echo=echo: echo  # type: ignore[misc]
        for verb in ("test", "browse", "preview"):
            assert rewarm(verb, "good-s3", f"s3://{BUCKET}/x").returncode == 3
            assert rewarm(verb, "good-http", f"{proxy.address}/x.txt").returncode == 3
    for address in (f"http://me:canary@{proxy.address[7:]}/x", f"{proxy.address}/x?token=canary"):
        assert rewarm("preview", "good-http", address).returncode == 2
    rewarm("ls")
    assert "AKIACANARY" not in rewarm.printed
    proxy.close()


def test_a_damaged_one_is_listed_with_its_problem(rewarm: Terminal) -> None:
    assert rewarm("add", "hf", "--secret-stdin", secret="canary").returncode == 0
    (Workspace(rewarm.home).connections / "huggingface.json").write_text("{}")
    assert "the file is damaged" in rewarm("ls").stdout


def test_on_a_terminal_the_secret_is_asked_for_and_not_echoed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    child, terminal = pty.fork()
    if child == 0:
        code = "from rewarm.cli.main import main; main()"
        os.execve(
            sys.executable,
            [sys.executable, "-c", code, "connections", "add", "s3", "store", "--endpoint", "http://127.0.0.1:1"],
            {**os.environ, "REWARM_HOME": str(home)},
        )
    shown = b""
    for question, answer in ((b"access key: ", b"AKIATYPED\n"), (b"secret key: ", b"canary-typed\n")):
        while not shown.endswith(question):
            shown += os.read(terminal, 1000)
        time.sleep(0.3)  # the echo is switched off after the question
        os.write(terminal, answer)
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(terminal, 1000):
            shown += data
    assert os.waitpid(child, 0)[1] == 0, shown
    os.close(terminal)
    assert b"AKIATYPED" in shown and b"canary" not in shown
    found = load_connection(Workspace(home), "store")
    assert isinstance(found, S3Connection)
    assert (found.access_key, found.secret_key.get_secret_value()) == ("AKIATYPED", "canary-typed")
