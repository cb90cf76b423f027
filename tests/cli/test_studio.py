"""``rewarm studio``: it starts at once, small, for this machine alone; and ends when it is asked to."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from rewarm.cli import studio
from rewarm.core.errors import UserError

REWARM = [sys.executable, "-m", "rewarm", "studio"]


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "REWARM_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def _run(home: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*REWARM, *arguments], input=given, capture_output=True, text=True, timeout=60, env=_environment(home)
    )


@contextmanager
def _serving(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its address, and all that it said until then."""
    command = [*REWARM, "--port", "0", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment(home)
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://\S+", said)
        assert found, said + process.stdout.read()
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline
            try:
                if httpx.get(f"{found[0]}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.02)
        yield process, found[0], said
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one."""
    with _serving(tmp_path_factory.mktemp("home")) as (_, url, _):
        yield url


def test_s1_it_serves_this_machine_alone_and_ends_when_asked(tmp_path: Path) -> None:
    began = time.monotonic()
    with _serving(tmp_path) as (process, url, _):
        seconds = time.monotonic() - began
        about = psutil.Process(process.pid)
        memory = about.memory_info().rss
        listening = {
            connection.laddr.ip
            for each in (about, *about.children(recursive=True))
            for connection in each.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        processor = sum(about.cpu_times()[:2])
        loaded = {Path(entry.path).name for entry in about.memory_maps()}
        assert process.stdout is not None
        link = re.search(r"http://\S+#key=(\S+)", process.stdout.readline())
        assert link and link[0].startswith(url)
        made = httpx.post(f"{url}/api/v1/session/link", json={"key": link[1]}, headers={"Origin": url})
        assert made.json() == {"name": "admin", "role": "administrator"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0 and process.stdout.read() == ""
    assert listening == {"127.0.0.1"}
    assert not [name for name in loaded if "torch" in name]
    assert memory < 200e6 and processor < 4, (memory, processor, seconds)  # 2 s of wall time where nobody else is


def test_the_control_plane_never_imports_torch() -> None:
    code = "import sys, rewarm.studio.api.app; print(*sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "\n"


def test_s15_half_requests_keep_nobody_out(tmp_path: Path) -> None:
    with _serving(tmp_path) as (_, url, _), ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        for _ in range(400):
            half = stack.enter_context(socket.create_connection((host, int(port))))
            half.sendall(b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
        began = time.monotonic()
        assert httpx.get(f"{url}/health", timeout=10).is_success
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"x" * 5000),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"X: x\r\n" * 800),
        (b"GET /", b"x" * 5000),
        (b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ", b"x" * 5000),
        (b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 5000),
    ],
)
def test_s15_no_head_is_kept_without_an_end(server: str, begin: bytes, piece: bytes) -> None:
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as large:
        large.sendall(begin)
        sent, answer = 0, b""
        with suppress(OSError):
            while sent < 1_000_000 and not answer:
                large.sendall(piece)
                sent += len(piece)
                if select.select([large], [], [], 0.005)[0]:
                    answer = large.recv(1000)
        assert sent < 200_000 and answer.partition(b"\r\n")[0] in (
            b"HTTP/1.1 400 Bad Request",
            b"HTTP/1.1 401 Unauthorized",
        )


def test_a_long_body_is_no_long_head(server: str) -> None:
    """In one piece with its head, and as many small chunks."""
    for body in (b"x" * 900_000, iter([b"x" * 100] * 2000)):
        asked = httpx.post(f"{server}/api/v1/session", content=body, headers={"Origin": server})
        assert asked.status_code == 422, asked.text


def test_s1_s11_others_need_a_password_to_be_kept_out(tmp_path: Path) -> None:
    refused = _run(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2 and "no administrator has a password" in refused.stderr, refused
    assert not any(map(studio._is_loopback, ("::", "10.0.0.1", socket.gethostname(), "127.0.0.1.evil.test", "")))
    short = _run(tmp_path, "password", "admin", "--stdin", given="short\n")
    assert short.returncode == 2 and "10 to 256" in short.stderr
    assert _run(tmp_path, "password", "admin", "--stdin", given="correct horse battery\n").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with _serving(tmp_path, "--host", "0.0.0.0", "--port", str(port), "--url", url) as (process, _, said):
        assert said.startswith(f"Rewarm Studio: {url} ")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_mistakes_are_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = _run(tmp_path, "--port", str(taken.getsockname()[1]))
    assert busy.returncode == 2 and "already in use" in busy.stderr and "--port" in busy.stderr
    for url in ("studio.example.com", "ftp://x", "http://", "http://x/path"):
        with pytest.raises(UserError, match="no address of a server"):
            studio._address(url, "127.0.0.1", 0)
    assert "no user 'nobody'" in _run(tmp_path, "link", "nobody").stderr
    secret = _run(tmp_path, "--database-url", "postgresql://me:canary@127.0.0.1:1/none", "link")
    assert secret.returncode != 0 and "canary" not in secret.stdout + secret.stderr


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['argon2'] = None; sys.argv = ['rewarm', 'studio', '--port', '0']\n"
    code += "from rewarm.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(tmp_path))
    assert done.returncode == 2 and "pip install 'rewarm[studio]'" in done.stderr, done
