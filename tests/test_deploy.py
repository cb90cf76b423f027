"""What lies in deploy/ names what is there: commands, options, files; each is read by its linter where there is one."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from rewarm.cli.main import app
from rewarm.core.events import EventLog
from rewarm.core.run import claim, create_run
from rewarm.core.workspace import Workspace
from tests.servers import free_port
from tests.studio.service.test_notifications import certificate

DEPLOY = Path(__file__).parents[1] / "deploy"


def check_command(words: list[str]) -> None:
    """Whether ``rewarm`` knows the command and each option of it."""
    shown = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for option in (word for word in words[1:] if word.startswith("--")):
        assert option in re.sub(r"\x1b\[[0-9;]*m", "", shown.output), option


def test_compose_starts_what_there_is() -> None:
    studio = (found := yaml.safe_load((DEPLOY / "compose.yaml").read_text()))["services"]["studio"]
    check_command(studio["command"])
    assert (DEPLOY / studio["build"]["context"] / studio["build"]["dockerfile"]).is_file()
    assert studio["ports"] == ["127.0.0.1:8765:8765"]  # nobody else reaches it without the proxy
    mounted = {volume.partition(":")[0] for service in found["services"].values() for volume in service["volumes"]}
    assert mounted == found["volumes"].keys()


def test_the_image_is_made_of_what_there_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+) \S+$", text, re.M):
        assert all((DEPLOY.parent / name).exists() for name in line.split())
    extras = re.search(r"'\.\[(.+)\]'", text)
    assert extras is not None
    assert all(f"\n{extra} = [" in (DEPLOY.parent / "pyproject.toml").read_text() for extra in extras[1].split(","))
    assert "\nUSER 10001\n" in text and "HEALTHCHECK" in text
    command = re.search(r"^CMD \[(\"studio\".+)\]$", text, re.M)
    assert command is not None
    check_command(yaml.safe_load(f"[{command[1]}]"))


def test_the_unit_starts_a_command_that_there_is() -> None:
    command = re.search(r"^ExecStart=/opt/rewarm/bin/rewarm (.+)$", (DEPLOY / "rewarm.service").read_text(), re.M)
    assert command is not None
    check_command(command[1].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd alone can judge a unit")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (DEPLOY / "rewarm.service").read_text()
    unit = tmp_path / "rewarm.service"
    unit.write_text(text.replace("/opt/rewarm/bin/rewarm", shutil.which("true") or ""))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0 and "rewarm.service" not in done.stderr, done.stderr


def test_no_option_of_the_unit_hides_the_gpus() -> None:
    said = (DEPLOY / "rewarm.service").read_text().splitlines()
    assert not [
        line for line in said if line.startswith(("ProtectClock", "PrivateDevices", "DeviceAllow", "DevicePol"))
    ]


def configuration(folder: Path, port: int, behind: str) -> str:
    """nginx as docs/server.md says, for ``localhost`` at ``port`` with the certificate in ``folder``."""
    text = (DEPLOY.parent / "docs" / "server.md").read_text()
    found = re.search(r"^nginx:\n\n((?:    .*\n|\n)+)", text, re.M)
    assert found is not None
    for ours, here in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "studio.example.com;": "localhost;",
        "/etc/letsencrypt/live/studio.example.com/fullchain.pem": str(folder / "cert.pem"),
        "/etc/letsencrypt/live/studio.example.com/privkey.pem": str(folder / "key.pem"),
        "http://127.0.0.1:8765": behind,
    }.items():
        assert ours in found[1], ours
        text = found[1] if ours.startswith("listen") else text
        text = text.replace(ours, here)
    temporary = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    begin = f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
    return f"{begin} http {{ access_log off; {temporary} {text} }}"


@contextmanager
def behind_nginx(folder: Path) -> Iterator[tuple[str, httpx.Client]]:
    """The Studio's own address, and a client that reaches it through nginx alone."""
    cert, _ = certificate(folder)
    port, inner = free_port(), free_port()
    url = f"https://localhost:{port}"
    (folder / "nginx.conf").write_text(configuration(folder, port, f"http://127.0.0.1:{inner}"))
    environment = {**os.environ, "REWARM_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "rewarm", "studio", "--port", str(inner), "--no-browser", "--url", url]
    with ExitStack() as stack:
        for each in (command, ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]):
            process = subprocess.Popen(each, env=environment, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait, 20)
            stack.callback(process.kill if each is command else process.terminate)  # nginx ends its workers
            if each is command:
                assert process.stdout is not None and process.stdout.readline().startswith(f"Rewarm Studio: {url} ")
                key = process.stdout.readline().partition("#key=")[2].strip()
        client = stack.enter_context(httpx.Client(base_url=url, verify=ssl.create_default_context(cafile=str(cert))))
        until = time.monotonic() + 120
        while True:
            try:
                if client.get("/health").status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < until, (folder / "error.log").read_text()
            time.sleep(0.1)
        yield key, client


# Not installed by `make test`: Debian's package starts a server on every interface of the machine at once.
@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt-get install nginx-light")
def test_behind_nginx_as_the_page_says(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with behind_nginx(tmp_path) as (key, client):
        url = str(client.base_url).rstrip("/")
        foreign = client.post("/api/v1/session/link", json={"key": key}, headers={"Origin": "https://evil.test"})
        assert foreign.status_code == 403
        made = client.post("/api/v1/session/link", json={"key": key}, headers={"Origin": url})
        assert made.status_code == 200 and "Secure" in made.headers["set-cookie"]
        assert made.headers["strict-transport-security"] == "max-age=31536000"
        assert client.get("/api/v1/session").json()["role"] == "administrator"
        assert client.get("/api/v1/session", headers={"Host": "evil.test"}).status_code == 403
        # a large upload goes through in one piece
        size = 20_000_000
        data = (b'{"text": "Article 1. The law of the land."}\n' * (size // 44 + 1))[:size].rpartition(b"\n")[0] + b"\n"
        ours = {"Origin": url}
        upload = client.post(
            "/api/v1/uploads", json={"text": "law", "file": "a.jsonl", "bytes": len(data)}, headers=ours
        )
        sent = client.put(
            f"/api/v1/uploads/{upload.json()['id']}?offset=0", content=data, timeout=120,
            headers={**ours, "Content-Type": "application/octet-stream"},
        )  # fmt: skip
        assert sent.json()["offset"] == len(data)
        # events come as they are written
        run = create_run(Workspace(tmp_path / "home"), "law", "name: law\n", [], tmp_path)
        log = EventLog(run.events, 1)
        claim(run)
        log.state("starting")
        with client.stream("GET", f"/api/v1/runs/{run.id}/stream", timeout=20) as stream:
            lines = stream.iter_lines()
            assert any("starting" in line for line in lines)
            log.state("running")  # only now: what was held back would not be here
            assert any("running" in line for line in lines)
        # pages talk over a websocket
        asked = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
        for origin, status in ((url, 101), ("https://evil.test", 403)):
            with client.stream(
                "GET", "/_nicegui_ws/socket.io/?EIO=4&transport=websocket", headers={**asked, "Origin": origin}
            ) as answer:
                assert answer.status_code == status, origin
        # a client that claims to be many is still one
        wrong = {"name": "admin", "password": "wrong horse battery"}
        answers = [
            client.post("/api/v1/session", json=wrong, headers={**ours, "X-Forwarded-For": f"10.0.0.{n}"}).status_code
            for n in range(6)
        ]
        assert answers == [401] * 5 + [429]
