"""Notices reach a real mail server and a real receiver once, whatever those do, and never change a run."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from pydantic import SecretStr

from rewarm.core import network
from rewarm.core.errors import Conflict, Forbidden, UserError
from rewarm.core.events import EventLog
from rewarm.core.run import Run, create_run
from rewarm.studio.background import notify
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import notifications as verbs
from rewarm.studio.store import notices as store
from rewarm.studio.store.runs import upsert
from tests.servers import Inbox, free_port
from tests.studio.conftest import Client, user_with

PASSWORD = "canary-mail-password/+="
RECIPE = "name: legal\nbase_model: ./base\ndata: {{sources: [{{name: law, path: ./law}}]}}\nnotify: {notify}\n"
REPORT = {
    "headline": {
        "gain": {"percent": 12.5, "low": 11.0, "high": 14.0, "of": ["law"]},
        "forgetting": None,
    }
}


@pytest.fixture(autouse=True)
def home(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARM_HOME", str(studio.workspace.root))


@pytest.fixture
def serve_mail(studio: Studio) -> Iterator[Callable[..., Inbox]]:
    """Start a mail server and let the Studio use it."""
    started = []

    def start(user: str | None = None, starttls: bool = False, **options: Any) -> Inbox:
        inbox = Inbox()
        server = Controller(inbox, hostname="127.0.0.1", port=free_port(), **options)
        server.start()
        started.append(server)
        network.allow(studio.workspace, [f"localhost:{server.port}"])
        settings: dict[str, Any] = {"host": "localhost", "port": server.port, "sender": "rewarm@example.com"}
        password = SecretStr(PASSWORD) if user else None
        verbs.set_mail(studio, OWNER, verbs.NewMail(**settings, user=user, password=password, starttls=starttls))
        return inbox

    yield start
    for server in started:
        server.stop()


def ended(studio: Studio, state: str, notify: str, reason: str | None = None) -> Run:
    """A run that came to ``state``, in the index."""
    run = create_run(studio.workspace, "legal", RECIPE.format(notify=notify), [], studio.workspace.root)
    log = EventLog(run.events, 1)
    for step in ("starting", "running"):
        log.state(step)
    log.state(state, **({"reason": reason} if reason else {}))
    log.close()
    run.report.mkdir()
    (run.report / "report.json").write_text(json.dumps(REPORT))
    with studio.database.write() as session:
        upsert(session, run).state = state
    return run


def outbox(studio: Studio) -> list[verbs.Notice]:
    return verbs.list_notices(studio, OWNER, None, None, 1000)


def test_success_is_mailed_once_with_the_headline_and_a_link(studio: Studio, serve_mail: Callable[..., Inbox]) -> None:
    inbox = serve_mail()
    run = ended(studio, "succeeded", "{email: [ana@example.com, bo@example.com]}")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for _ in range(3):
        notify.tick(studio)
    assert sorted(mail["To"] for mail in inbox.mails) == ["ana@example.com", "bo@example.com"]
    mail = inbox.mails[0]
    assert mail["Subject"] == "Rewarm: legal has succeeded"
    for part in ("plain", "html"):
        text = mail.get_body((part,)).get_content()
        assert "Gain: 12.5 %" in text and f"{studio.url}/runs/{run.id}" in text, part
    assert [(n.sent is not None, n.tries, n.error) for n in outbox(studio)] == [(True, 1, None)] * 2
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_s17_nothing_of_a_run_becomes_a_header_or_markup(studio: Studio, serve_mail: Callable[..., Inbox]) -> None:
    inbox = serve_mail()
    bad = '["x@example.com\\r\\nBcc: all@example.com", "two@a, b@c", "<script>@example.com", "ok@example.com"]'
    ended(studio, "failed", f"{{email: {bad}}}", reason="<script>1</script>\r\nBcc: all@example.com\r\n.\r\nQUIT")
    notify.tick(studio)
    assert [mail["To"] for mail in inbox.mails] == ["ok@example.com"]
    assert inbox.mails[0]["Bcc"] is None and "\n" not in inbox.mails[0]["Subject"]
    assert "&lt;script&gt;" in inbox.mails[0].get_body(("html",)).get_content()
    assert "QUIT" in inbox.mails[0].get_body(("plain",)).get_content()
    assert (
        sorted((n.error or "", n.next_time) for n in outbox(studio))
        == [("", None)] + [("is no mail address", None)] * 3
    )


@pytest.mark.parametrize(("answer", "again"), [("451 later", True), ("550 never", False)])
def test_f25_a_refusal_for_now_is_tried_again_one_for_ever_is_not(
    studio: Studio, serve_mail: Callable[..., Inbox], answer: str, again: bool
) -> None:
    inbox = serve_mail()
    inbox.answer = answer
    ended(studio, "failed", "{email: [ana@example.com]}")
    notify.tick(studio)
    (notice,) = outbox(studio)
    assert notice.error == f"the mail server refuses the mail ({answer[:3]})" and notice.sent is None
    assert (notice.next_time is not None) == again
    inbox.answer = "250 OK"
    verbs.send_due(studio, time.time() + 60)
    assert len(inbox.mails) == again


def test_f25_tries_end_and_somebody_may_begin_anew(studio: Studio, serve_mail: Callable[..., Inbox]) -> None:
    inbox = serve_mail()
    inbox.to_recipients = "450 busy"
    ended(studio, "lost", "{email: [ana@example.com]}")
    now = time.time()
    verbs.collect(studio, now)
    waits = []
    for _ in range(verbs.TRIES + 2):
        verbs.send_due(studio, now)
        (notice,) = outbox(studio)
        if notice.next_time is not None:
            waits.append(notice.next_time - now)
            now = notice.next_time
    assert notice.tries == verbs.TRIES and notice.next_time is None and len(waits) == verbs.TRIES - 1
    assert 20 < waits[0] < 40 and waits[-1] > 1000
    inbox.to_recipients = "250 OK"
    verbs.resend(studio, user_with(studio, Role.editor), notice.id)
    with pytest.raises(Conflict):
        verbs.resend(studio, OWNER, notice.id)
    notify.tick(studio)
    assert len(inbox.mails) == 1
    with pytest.raises(Forbidden):
        verbs.resend(studio, user_with(studio, Role.viewer), notice.id)


def test_f25_a_server_that_is_away_or_slow_loses_and_doubles_nothing(
    studio: Studio, serve_mail: Callable[..., Inbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "_CONNECT_SECONDS", 0.3)
    inbox = serve_mail()
    inbox.wait = 0.6  # longer than anything else may take: whole mails get more time
    ended(studio, "failed", "{email: [ana@example.com]}")
    notify.tick(studio)
    assert len(inbox.mails) == 1 and outbox(studio)[0].sent
    mail = verbs.NewMail(host="localhost", port=(port := free_port()), sender="rewarm@example.com", starttls=False)
    verbs.set_mail(studio, OWNER, mail)
    network.allow(studio.workspace, [f"localhost:{port}"])
    ended(studio, "paused", "{email: [ana@example.com, bo@example.com]}", reason="the disk is full")
    notify.tick(studio)
    newest = outbox(studio)[:2]
    assert sorted((n.tries, n.error) for n in newest) == [(0, None), (1, "the server cannot be reached")]
    with closing(socket.create_server(("127.0.0.1", port))):  # takes the connection and says nothing
        verbs.send_due(studio, time.time() + 60)
    assert any("does not answer in time" in (n.error or "") for n in outbox(studio))


def test_a_server_killed_between_sending_and_saying_so_sends_the_same_mail_once_more(
    studio: Studio, serve_mail: Callable[..., Inbox]
) -> None:
    inbox = serve_mail()
    ended(studio, "succeeded", "{email: [ana@example.com]}")
    now = time.time()
    verbs.collect(studio, now)
    with studio.database.write() as session:
        (id,) = store.due(session, now)
        claimed = store.claim(session, id, now, now + 900)
    assert claimed is not None
    verbs._deliver(studio, claimed)  # and here it dies
    verbs.send_due(studio, now + 800)
    assert len(inbox.mails) == 1
    verbs.send_due(studio, now + 901)
    verbs.send_due(studio, now + 5000)
    assert len(inbox.mails) == 2 and inbox.mails[0]["Message-ID"] == inbox.mails[1]["Message-ID"]


def test_s17_a_thousand_runs_are_a_thousand_notices_at_a_bounded_rate(
    studio: Studio, serve_mail: Callable[..., Inbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = serve_mail()
    monkeypatch.setattr(verbs, "MOST_AN_HOUR", 5)
    now = time.time()
    with studio.database.write() as session:
        for number in range(20):
            for _ in range(3):  # told three times
                store.add(session, f"20260101T000000-a-{number:04x}", 1, "failed", None, ["mailto:a@example.com"], now)
    for _ in range(3):
        verbs.send_due(studio, now)
    assert len(inbox.mails) == 5
    verbs.send_due(studio, now + 3700)
    assert len(inbox.mails) == 10 and len(outbox(studio)) == 20


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, ssl.SSLContext]:
    """A certificate of ``name``'s own, and what a server needs to show it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    whose = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    until = now + datetime.timedelta(days=1)
    built = x509.CertificateBuilder(whose, whose, key.public_key(), x509.random_serial_number(), now, until)
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


def test_login_over_starttls_with_a_certificate_that_is_checked(
    studio: Studio, serve_mail: Callable[..., Inbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, context = certificate(tmp_path)

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        known = (data.login, data.password) == (b"rewarm", PASSWORD.encode())
        return AuthResult(success=known, handled=False)

    inbox = serve_mail(
        "rewarm", True, tls_context=context, require_starttls=True, authenticator=check, auth_required=True
    )
    with pytest.raises(UserError, match="certificate is not trusted"):
        verbs.test_mail(studio, OWNER, "ana@example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    verbs.test_mail(studio, OWNER, "ana@example.com")
    assert inbox.mails[0]["Subject"] == "Rewarm: a test"
    shown = verbs.mail_settings(studio, OWNER)
    assert shown is not None and shown.has_password and PASSWORD not in repr(shown)
    kept = {"host": "localhost", "port": shown.port, "sender": "other@example.com", "user": "rewarm"}
    assert verbs.set_mail(studio, OWNER, verbs.NewMail(**kept)).has_password
    verbs.set_mail(studio, OWNER, verbs.NewMail(**kept, password=SecretStr("wrong")))
    with pytest.raises(UserError, match="refuses user and password"):
        verbs.test_mail(studio, OWNER, "ana@example.com")
    assert not verbs.set_mail(studio, OWNER, verbs.NewMail(**kept | {"host": "evil.example.com"})).has_password


def test_s17_where_a_server_speaks_tls_at_once_so_do_we(
    studio: Studio, serve_mail: Callable[..., Inbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at port 465, which not everybody may listen at."""
    cert, context = certificate(tmp_path)
    inbox = serve_mail(starttls=True, ssl_context=context)
    with pytest.raises(UserError, match=r"breaks the connection|in time"):
        monkeypatch.setattr(verbs, "_CONNECT_SECONDS", 0.5)
        verbs.test_mail(studio, OWNER, "ana@example.com")  # who speaks plainly there is not answered
    mail = verbs.mail_settings(studio, OWNER)
    assert mail is not None and verbs._TLS_PORT == 465
    monkeypatch.setattr(verbs, "_TLS_PORT", mail.port)
    monkeypatch.setattr(verbs, "_CONNECT_SECONDS", 20.0)
    with pytest.raises(UserError, match="certificate is not trusted"):
        verbs.test_mail(studio, OWNER, "ana@example.com")
    assert inbox.mails == []
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    verbs.test_mail(studio, OWNER, "ana@example.com")
    assert [mail["To"] for mail in inbox.mails] == ["ana@example.com"]


class Receiver:
    """A web server that keeps what is posted to it, and answers with ``status``."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.calls: list[tuple[Any, bytes]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append((self.headers, body))
                self.send_response(receiver.status)
                if receiver.status == 302:
                    self.send_header("Location", f"http://localhost:{receiver.port}/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    made = Receiver(tls)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.mark.parametrize("name", ["localhost", "other.example.com"])
def test_a_webhook_over_https_goes_to_its_host_alone(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cert, context = certificate(tmp_path, name)
    with receiving(context) as receiver:
        network.allow(studio.workspace, [f"localhost:{receiver.port}"])
        hook = verbs.NewWebhook(name="chat", url=f"https://localhost:{receiver.port}/hooks/1", every_run=True)
        verbs.save_webhook(studio, OWNER, hook)
        ended(studio, "failed", "{}")
        notify.tick(studio)  # nobody vouches for this certificate
        assert receiver.calls == [] and "certificate is not trusted" in (outbox(studio)[0].error or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))  # now somebody does
        verbs.send_due(studio, time.time() + 60)
        if name == "localhost":
            assert [json.loads(body)["state"] for _, body in receiver.calls] == ["failed"] and outbox(studio)[0].sent
            assert receiver.calls[0][0]["Host"] == f"localhost:{receiver.port}"
        else:  # but it is another host's
            assert receiver.calls == [] and "certificate is not trusted" in (outbox(studio)[0].error or "")


def test_a_webhook_is_signed_retried_and_not_led_elsewhere(studio: Studio, receiver: Receiver) -> None:
    network.allow(studio.workspace, [f"localhost:{receiver.port}"])
    hook = verbs.NewWebhook(name="chat", url=f"http://localhost:{receiver.port}/hooks/1?a=b")
    secret = verbs.save_webhook(studio, OWNER, hook).secret
    assert secret is not None and verbs.save_webhook(studio, OWNER, hook).secret is None  # the same one is kept
    receiver.status = 302
    run = ended(studio, "succeeded", "{webhooks: [chat, nobody]}")
    now = time.time()
    verbs.collect(studio, now)
    verbs.send_due(studio, now)
    assert len(receiver.calls) == 1
    receiver.status = 204
    verbs.send_due(studio, now + 100)
    verbs.send_due(studio, now + 1000)
    assert len(receiver.calls) == 2
    headers, body = receiver.calls[1]
    at, signature = (part.partition("=")[2] for part in headers["X-Rewarm-Signature"].split(","))
    assert signature == hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert (told["event"], told["run"], told["state"]) == ("run.succeeded", run.id, "succeeded")
    assert "Gain: 12.5 %" in told["text"] and told["url"].endswith(run.id)
    assert {n.target: n.error for n in outbox(studio)} == {
        "webhook:chat": None, "webhook:nobody": "there is no webhook of that name"
    }  # fmt: skip


def test_a_webhook_for_every_run_hears_of_its_events_alone(studio: Studio, receiver: Receiver) -> None:
    network.allow(studio.workspace, [f"localhost:{receiver.port}"])
    url = f"http://localhost:{receiver.port}/"
    verbs.save_webhook(studio, OWNER, verbs.NewWebhook(name="all", url=url, events=["failed"], every_run=True))
    for state in ("succeeded", "failed"):
        ended(studio, state, "{}")
    notify.tick(studio)
    assert [json.loads(body)["state"] for _, body in receiver.calls] == ["failed"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433"])
def test_s9_no_notice_reaches_what_lies_inside(studio: Studio, receiver: Receiver, host: str) -> None:
    verbs.save_webhook(studio, OWNER, verbs.NewWebhook(name="in", url=f"http://{host}:{receiver.port}/"))
    with pytest.raises(UserError, match="does not connect to this host"):
        verbs.test_webhook(studio, OWNER, "in")
    if host != "[::1]":
        mail = verbs.NewMail(host=host, port=receiver.port, sender="rewarm@example.com", starttls=False)
        verbs.set_mail(studio, OWNER, mail)
        with pytest.raises(UserError, match="does not connect to this host"):
            verbs.test_mail(studio, OWNER, "ana@example.com")
    assert receiver.calls == []


def test_the_api_shows_no_secret_and_asks_for_the_role(studio: Studio, client: Client) -> None:
    admin, viewer = client(Role.administrator), client(Role.viewer)
    mail = {"host": "smtp.example.com", "sender": "rewarm@example.com", "user": "rewarm", "password": PASSWORD}
    assert viewer.put("/api/v1/mail", json=mail).status_code == 403
    answers = [admin.put("/api/v1/mail", json=mail), admin.get("/api/v1/mail")]
    hook = {"name": "chat", "url": "https://chat.example.com/1", "secret": PASSWORD}
    answers += [admin.put("/api/v1/webhooks", json=hook), admin.get("/api/v1/webhooks"), admin.get("/api/v1/audit")]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert not any("canary" in answer.text for answer in answers) and answers[1].json()["has_password"]
    assert b"canary" not in (studio.workspace.root / "rewarm.db").read_bytes()
    assert b"canary" not in (studio.workspace.root / "rewarm.db-wal").read_bytes()
    wrong = [mail | {"host": "a b"}, mail | {"port": 0}, mail | {"sender": "x\r\nBcc: y@z"}, mail | {"host": "a\r\nb"}]
    assert [admin.put("/api/v1/mail", json=each).status_code for each in wrong] == [422] * 4
    bad = [hook | {"url": "file:///etc/passwd"}, hook | {"url": "https://u:p@x/"}, hook | {"events": ["never"]}]
    assert [admin.put("/api/v1/webhooks", json=each).status_code for each in bad] == [422] * 3
    ended(studio, "failed", "{email: [ana@example.com]}")
    verbs.collect(studio, time.time())
    found = viewer.get("/api/v1/notices", params={"limit": 1}).json()
    assert found[0]["target"] == "mailto:ana@example.com"
    assert viewer.post(f"/api/v1/notices/{found[0]['id']}/resend").status_code == 403
    assert client(Role.editor).post("/api/v1/notices/99999/resend").status_code == 404
    assert admin.delete("/api/v1/webhooks/chat").status_code == 204
    assert admin.delete("/api/v1/webhooks/chat").status_code == 404
    assert admin.delete("/api/v1/mail").status_code == 204 and admin.get("/api/v1/mail").json() is None
