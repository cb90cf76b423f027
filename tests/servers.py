"""A real S3 server, what a mail server got, and a proxy before any server that breaks what passes through it."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.client
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
import pytest

from rewarm.core.connections import S3Connection, save_connection
from rewarm.core.workspace import Workspace

KEY, SECRET = "AKIATESTREWARM01", "canary/secret+of=the/tests0123456789"
BUCKET = "corpora"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Store:
    """SeaweedFS with one bucket; ``client`` is botocore's own, to fill it."""

    address: str
    client: Any
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; what it held before is there again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while True:
            try:
                if BUCKET not in [bucket["Name"] for bucket in self.client.list_buckets()["Buckets"]]:
                    self.client.create_bucket(Bucket=BUCKET)
                self.put("ready", b"1")
                break
            except Exception:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError(self.log.read_text()[-2000:]) from None
                time.sleep(0.2)
        self.client.delete_object(Bucket=BUCKET, Key="ready")

    def stop(self) -> None:
        if self.process:
            self.process.kill()  # it takes half a minute to end by itself
            self.process.wait(20)

    def accept(self, key: str, secret: str) -> None:
        """From the next start on the server has this key beside that of the tests."""
        config = self.log.parent / "s3.json"
        known = json.loads(config.read_text())
        known["identities"] = known["identities"][:2]
        if key:
            mine = {"name": "guest", "credentials": [{"accessKey": key, "secretKey": secret}]}
            known["identities"].append({**mine, "actions": ["Read", "List"]})
        config.write_text(json.dumps(known))

    def put(self, key: str, data: bytes) -> str:
        """The URI of a new object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    def put_parts(self, key: str, parts: list[bytes]) -> str:
        at: dict[str, Any] = {"Bucket": BUCKET, "Key": key}
        at["UploadId"] = self.client.create_multipart_upload(**at)["UploadId"]
        done = [
            {"PartNumber": n, "ETag": self.client.upload_part(PartNumber=n, Body=part, **at)["ETag"]}
            for n, part in enumerate(parts, 1)
        ]
        self.client.complete_multipart_upload(MultipartUpload={"Parts": done}, **at)
        return f"s3://{BUCKET}/{key}"

    def connect(self, workspace: Workspace, name: str = "store", **changes: str) -> str:
        """The name of a new connection to it."""
        values = {"endpoint": self.address, "access_key": KEY, "secret_key": SECRET, **changes}
        save_connection(workspace, name, S3Connection.model_validate(values))
        return name


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serving_store(tmp_path_factory.mktemp("seaweed")) as made:
        yield made


@contextlib.contextmanager
def serving_store(folder: Path) -> Iterator[Store]:
    """An S3 server that keeps its objects in ``folder``."""
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    poor = {"name": "poor", "credentials": [{"accessKey": "AKIAPOOR", "secretKey": SECRET}], "actions": []}
    config = {"identities": [{"name": "test", "credentials": credentials, "actions": actions}, poor]}
    (folder / "s3.json").write_text(json.dumps(config))
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    names = ("master", "volume", "filer", "s3")
    ports = {f"{name}.port{kind}": free_port() for name in names for kind in ("", ".grpc")}
    flags = [f"-{name}={port}" for name, port in (ports | {"s3.port.iceberg": 0, "s3.port.lance": 0}).items()]
    address = f"http://127.0.0.1:{ports['s3.port']}"
    command = [
        weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3",
        f"-s3.config={folder}/s3.json", *flags, "-master.volumeSizeLimitMB=64", "-volume.max=20",
        "-master.telemetry=false", "-master.electionTimeout=1s",
        f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock",
    ]  # fmt: skip
    client = botocore.session.Session().create_client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )  # fmt: skip
    made = Store(address, client, command, folder / "log.txt")
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for name, port in ports.items():  # what it left, under names that no flag changes
            kind = f"{name.partition('.')[0]}{'-grpc' if 'grpc' in name else ''}"
            Path(f"/tmp/seaweedfs-{kind}-{port}.sock").unlink(missing_ok=True)


@dataclass
class Reply:
    """An answer on its way back."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None  # bytes after which the line breaks
    wait: float = 0.0


Fault = Callable[[str, Reply], "Reply | None"]
"""Given the path asked for and the true answer, what comes back; None breaks the line."""


class Proxy:
    """Stands before a server on loopback. ``fault`` may be exchanged at any time; ``asked`` has every request."""

    def __init__(self, target: str) -> None:
        self.target, self.fault, self.asked = target.removeprefix("http://"), honest, list[tuple[str, dict[str, str]]]()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                proxy.asked.append((self.path, dict(self.headers)))
                line = http.client.HTTPConnection(proxy.target, timeout=20)
                line.putrequest("GET", self.path, skip_host=True, skip_accept_encoding=True)
                for key, value in self.headers.items():
                    line.putheader(key, value)
                line.endheaders()
                answer = line.getresponse()
                reply = proxy.fault(self.path, Reply(answer.status, dict(answer.getheaders()), answer.read()))
                line.close()
                if reply is None:
                    self.close_connection = True
                    return
                time.sleep(reply.wait)
                self.send_response_only(reply.status)
                lengths = {"Content-Length": str(len(reply.body))}
                dropped = {"content-length", "transfer-encoding", "connection"}
                kept = {key: value for key, value in reply.headers.items() if key.lower() not in dropped}
                for key, value in (kept | lengths).items():
                    self.send_header(key, value)
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(reply.body[: reply.cut])
                if reply.cut is not None:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # lines that were broken on purpose
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def serving(proxy: Proxy, data: bytes, etag: str) -> Fault:
    """Answers in place of the server, from ``data``: parts of it, whatever version is asked for."""

    def fault(path: str, reply: Reply) -> Reply:
        asked = proxy.asked[-1][1]["Range"].removeprefix("bytes=").split("-")
        first, last = int(asked[0]), min(int(asked[1]), len(data) - 1)
        headers = {"ETag": f'"{etag}"', "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return Reply(206, headers, data[first : last + 1])

    return fault


def honest(path: str, reply: Reply) -> Reply | None:
    return reply


def unreliable(share: float, seed: int = 1) -> Fault:
    """A fault in that share of all answers: 500, 503, 429, a broken line, a cut body, a short body."""
    lot = random.Random(seed)

    def fault(path: str, reply: Reply) -> Reply | None:
        if lot.random() >= share:
            return reply
        kind = lot.randrange(7)
        half = len(reply.body) // 2
        if kind < 4:
            status, code = [(500, "InternalError"), (503, "SlowDown"), (503, "ServiceUnavailable"), (429, "Slow")][kind]
            return Reply(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
        if kind == 4 or not half:
            return None
        return Reply(reply.status, reply.headers, reply.body, cut=half) if kind == 5 else Reply(
            reply.status, reply.headers, reply.body[:half])  # fmt: skip

    return fault


class Inbox:
    """What a mail server got, and how it answers."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.answer, self.wait = "250 OK", 0.0
        self.to_recipients = "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.to_recipients.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_recipients

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        time.sleep(self.wait)
        if self.answer.startswith("250"):
            self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return self.answer


class WebServer:
    """A web server of one file, ``data``, under every name; its other fields say how it answers."""

    def __init__(self) -> None:
        self.data, self.status, self.ranges = b"", 0, True
        self.headers = {"ETag": '"1"'}
        self.tokens, self.count = set[str | None](), 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.count += 1
                web.tokens.add(self.headers.get("Authorization"))
                body, status, headers = web.data, web.status or 200, dict(web.headers)
                if web.status:
                    body = b"canary"
                elif web.ranges and not body:
                    status, headers["Content-Range"] = 416, "bytes */0"
                elif web.ranges:
                    first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                    body, status = body[first : last + 1], 206
                    headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(web.data)}"
                self.send_response_only(status)
                for key, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def web() -> Iterator[WebServer]:
    made = WebServer()
    yield made
    made.server.shutdown()
    made.server.server_close()
