"""Who hears of what runs come to: mail, webhooks, and the outbox between the runs and both.

A notice is written once for each run, attempt, state and target, and then tried until it is sent or has been tried
``TRIES`` times. Nothing here touches a run: a mail server that is down, slow or full of errors costs it nothing.
A try is counted before it is made, so that a server that dies between sending and saying so sends a notice a second
time at most a few minutes later, under the same Message-ID.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import re
import secrets
import smtplib
import socket
import ssl
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
import urllib3
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from rewarm.core.config import Frozen
from rewarm.core.connections import cipher
from rewarm.core.errors import Conflict, DataError, NotFound, UserError
from rewarm.core.network import MAIL_PORTS, check_address
from rewarm.core.run import Run, read_launch
from rewarm.recipe.load import load_recipe
from rewarm.recipe.recipe import Notify
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service.messages import Message, as_mail, check_mail_address, compose
from rewarm.studio.store import notices as store
from rewarm.studio.store import settings
from rewarm.studio.store.audit import note
from rewarm.studio.store.tables import NoticeRow

STATES = ("succeeded", "failed", "lost", "paused")
"""What somebody is told of."""
TRIES = 8
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
_TLS_PORT = 465
"""Where mail servers speak TLS from the first byte on."""
_CONNECT_SECONDS = 20.0
_ACCEPT_SECONDS = 300.0  # a server may think long about a whole mail; who hangs up then does not know whether it goes
_CLAIM_SECONDS = 900.0  # longer than any try takes
MOST_AN_HOUR = 60
"""Notices that one target gets; more wait."""
_OLDEST = 7 * 86_400.0  # seconds after which nobody is told any more, as after an index was made anew


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[!-~]{1,2000}", value):
        raise ValueError("must be an address such as https://chat.example.com/hooks/1")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must not hold a name, a password or a fragment")
    if parts.port is not None and parts.port < 1:  # raises ValueError itself where it is no number
        raise ValueError("must have a port above 0")
    return value


def _sender(value: str) -> str:
    try:
        return check_mail_address(value)
    except UserError as error:
        raise ValueError(error.what) from None


class Mail(Frozen):
    """The server that mails are sent through."""

    host: str = Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$", examples=["smtp.example.com"])
    port: int = Field(587, ge=1, le=65535)
    user: str | None = Field(None, min_length=1, max_length=256)
    sender: Annotated[str, AfterValidator(_sender)] = Field(examples=["rewarm@example.com"])
    starttls: bool = Field(True, description="encrypt the connection; port 465 is encrypted anyway")


class NewMail(Mail):
    password: SecretStr | None = Field(
        None, description="kept as it is when not given and neither host, port nor user changes", max_length=1000
    )


class MailShown(Mail):
    has_password: bool


class Webhook(Frozen):
    """An address that is told by a signed POST of JSON."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", examples=["chat"])
    url: Annotated[str, AfterValidator(_url)] = Field(examples=["https://chat.example.com/hooks/1"])
    events: list[str] = Field(
        default_factory=lambda: list(STATES), max_length=len(STATES), description="states of runs that it is told of"
    )
    every_run: bool = Field(False, description="whether it is told of all runs, or of those whose recipe names it")


class NewWebhook(Webhook):
    secret: SecretStr | None = Field(
        None, min_length=16, max_length=1000, description="signs what is sent; made, or kept, when not given"
    )


class WebhookSecret(Webhook):
    """A webhook as it was saved, and its secret if that was made now; it is never shown again."""

    secret: str | None = None


class Notice(BaseModel):
    """A mail or call, and what became of it."""

    id: int
    run: str
    attempt: int
    state: str = Field(examples=["succeeded"])
    target: str = Field(examples=["mailto:ana@example.com"])
    created: float
    tries: int
    next_time: float | None
    sent: float | None
    error: str | None


# --- settings ---


def mail_settings(studio: Studio, user: User) -> MailShown | None:
    """The mail server; None where none is set."""
    user.check(Role.administrator)
    with studio.database.read() as session:
        value = settings.get(session, "smtp") or {}
    return MailShown.model_validate(_open(value)) if value else None


def _open(value: dict[str, Any]) -> dict[str, Any]:
    shown = {key: each for key, each in value.items() if key != "password"}
    return {**shown, "has_password": value.get("password") is not None}


def set_mail(studio: Studio, user: User, mail: NewMail) -> MailShown:
    """Send mails through this server from now on."""
    user.check(Role.administrator)
    with studio.database.write() as session:
        before = settings.get(session, "smtp") or {}
        value = mail.model_dump(exclude={"password"})
        same = all(before.get(key) == value[key] for key in ("host", "port", "user"))  # no other server gets to see it
        value["password"] = before.get("password") if same else None
        if mail.password is not None:
            value["password"] = _seal(studio, mail.password.get_secret_value())
        settings.put(session, "smtp", value)
        note(session, time.time(), user.name, "change", "setting/smtp", {"host": mail.host, "port": mail.port})
    return MailShown.model_validate(_open(value))


def remove_mail(studio: Studio, user: User) -> None:
    """Send no mail any more, and forget the password."""
    user.check(Role.administrator)
    with studio.database.write() as session:
        settings.put(session, "smtp", {})
        note(session, time.time(), user.name, "remove", "setting/smtp")


def _seal(studio: Studio, secret: str) -> str:
    return str(cipher(studio.workspace).encrypt(secret.encode()).decode())


def _unseal(studio: Studio, sealed: str) -> str:
    from cryptography.fernet import InvalidToken

    try:
        return str(cipher(studio.workspace).decrypt(sealed.encode()).decode())
    except InvalidToken:
        what = "its secret was not encrypted with the key of this workspace"
        raise UserError(what, remedy="restore that key, or enter the secret again") from None


def list_webhooks(studio: Studio, user: User) -> list[Webhook]:
    user.check(Role.administrator)
    return list(_webhooks(studio).values())


def _webhooks(studio: Studio) -> dict[str, Webhook]:
    with studio.database.read() as session:
        found: Any = settings.get(session, "webhooks") or {}
    known = Webhook.model_fields
    return {name: Webhook.model_validate({k: v for k, v in hook.items() if k in known}) for name, hook in found.items()}


def save_webhook(studio: Studio, user: User, webhook: NewWebhook) -> WebhookSecret:
    """Add a webhook, or replace the one of that name. Raises ``UserError`` for an event that there is not."""
    user.check(Role.administrator)
    if unknown := [event for event in webhook.events if event not in STATES]:
        raise UserError(f"there is no event {unknown[0]!r}", remedy=f"take some of: {', '.join(STATES)}")
    made = None
    with studio.database.write() as session:
        every: Any = settings.get(session, "webhooks") or {}
        before = every.get(webhook.name)
        sealed = before["secret"] if before and before["url"] == webhook.url else None
        if webhook.secret is not None:
            sealed = _seal(studio, webhook.secret.get_secret_value())
        if sealed is None:
            made = secrets.token_urlsafe(32)
            sealed = _seal(studio, made)
        value = webhook.model_dump(exclude={"secret"})
        settings.put(session, "webhooks", {**every, webhook.name: {**value, "secret": sealed}})
        note(session, time.time(), user.name, "save", f"webhook/{webhook.name}", {"events": webhook.events})
    return WebhookSecret(**value, secret=made)


def remove_webhook(studio: Studio, user: User, name: str) -> None:
    """Forget a webhook. Raises ``NotFound``."""
    user.check(Role.administrator)
    with studio.database.write() as session:
        every: Any = settings.get(session, "webhooks") or {}
        if every.pop(name, None) is None:
            raise NotFound("there is no webhook of that name", where=name, remedy="look at the list")
        settings.put(session, "webhooks", every)
        note(session, time.time(), user.name, "remove", f"webhook/{name}")


def test_mail(studio: Studio, user: User, address: str) -> None:
    """Send a test mail now. Raises ``UserError`` that says why it could not be sent."""
    user.check(Role.administrator)
    check_mail_address(address)
    _try_out(studio, f"mailto:{address}")


def test_webhook(studio: Studio, user: User, name: str) -> None:
    """Call a webhook now. Raises ``UserError`` that says why it could not be called."""
    user.check(Role.administrator)
    if name not in _webhooks(studio):
        raise NotFound("there is no webhook of that name", where=name, remedy="look at the list")
    _try_out(studio, f"webhook:{name}")


test_mail.__test__ = test_webhook.__test__ = False  # type: ignore[attr-defined]  # they are no tests of pytest's


def _try_out(studio: Studio, target: str) -> None:
    text = "If you can read this, Rewarm's notices arrive."
    row = NoticeRow(id=0, run="", attempt=0, state="test", target=target, reason=text, created=time.time())
    try:
        _deliver(studio, row)
    except _FAULTS as error:
        raise DataError(_words(error)[0], where=target.partition(":")[2], remedy="correct the settings") from None


# --- the outbox ---


def list_notices(studio: Studio, user: User, run: str | None, after: int | None, limit: int) -> list[Notice]:
    """The notices of a run, or all, the newest first."""
    user.check(Role.viewer)
    with studio.database.read() as session:
        return [Notice.model_validate(row, from_attributes=True) for row in store.notices(session, run, after, limit)]


def resend(studio: Studio, user: User, id: int) -> Notice:
    """Send a notice again, or one that was given up. Raises ``Conflict`` where it is under way, ``NotFound``."""
    user.check(Role.editor)
    with studio.database.write() as session:
        row = store.again(session, id, time.time())
        if row is None and session.get(NoticeRow, id) is None:
            raise NotFound("there is no such notice", where=id)
        if row is None:
            raise Conflict("this notice is on its way", where=id, remedy="wait")
        note(session, time.time(), user.name, "resend", f"notice/{id}", {"run": row.run})
        session.refresh(row)
        return Notice.model_validate(row, from_attributes=True)


def collect(studio: Studio, now: float) -> None:
    """Put into the outbox what there is to tell of runs that came into a state since the last time."""
    with studio.database.read() as session:
        rows = store.untold(session, STATES, now - _OLDEST)
    hooks = _webhooks(studio) if rows else {}
    for row in rows:
        notify = _wishes(Run(studio.workspace.runs / row.id))
        called = [name for name, hook in hooks.items() if hook.every_run or name in notify.webhooks]
        targets = [f"mailto:{address}" for address in notify.email]
        targets += [f"webhook:{name}" for name in called if row.state in hooks[name].events]
        targets += [f"webhook:{name}" for name in notify.webhooks if name not in hooks]
        with studio.database.write() as session:
            store.add(session, row.id, row.attempt, row.state, row.reason, targets or [""], now)


def _wishes(run: Run) -> Notify:
    """Whom the recipe names; nobody where it cannot be read any more."""
    try:
        launch = read_launch(run)
        return load_recipe(run.recipe, launch["overrides"], run.path).notify
    except (UserError, OSError):
        return Notify()


def tell(studio: Studio, event: str, key: int, text: str, addresses: Iterable[str], now: float) -> None:
    """Put a notice that is not about a run into the outbox, once for each ``key``."""
    with studio.database.write() as session:
        store.add(session, "", key, event, text, [f"mailto:{address}" for address in addresses] or [""], now)


def send_due(studio: Studio, now: float) -> None:
    """Try what is due: mails one after another, each webhook beside them, so that none waits for another's server."""
    with studio.database.read() as session:
        rows = [session.get_one(NoticeRow, id) for id in store.due(session, now)]
    if not rows:
        return

    def way(row: NoticeRow) -> str:
        return "mailto" if row.target.startswith("mailto:") else row.target

    ways = [[row.id for row in group] for _, group in groupby(sorted(rows, key=way), way)]
    with ThreadPoolExecutor(min(8, len(ways))) as pool:
        list(pool.map(lambda ids: _send_each(studio, ids, now), ways))


def _send_each(studio: Studio, ids: list[int], now: float) -> None:
    for id in ids:
        if not _send(studio, id, now):
            break  # its server is away; the others of this way are tried the next time


def _send(studio: Studio, id: int, now: float) -> bool:
    """Try one notice; False where its server cannot be used at all."""
    with studio.database.write() as session:
        row = session.get_one(NoticeRow, id)
        count, first = store.sent_since(session, row.target, now - 3600)
        if count >= MOST_AN_HOUR:
            store.postpone(session, id, first + 3600)
            return True
        claimed = store.claim(session, id, now, now + _CLAIM_SECONDS)
    if claimed is None:
        return True
    error, final, sent = None, True, None
    try:
        _deliver(studio, claimed)
        sent = now
    except _FAULTS as problem:
        error, final = _words(problem)
    next_time = None if final or claimed.tries >= TRIES else now + _wait(claimed.tries)
    with studio.database.write() as session:
        store.settle(session, id, sent=sent, next_time=next_time, error=error)
    return final


def _wait(tries: int) -> float:
    return random.uniform(0.75, 1.25) * min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (tries - 1))


class _Refused(Exception):  # noqa: N818
    """It was not taken, and would not be the next time."""


_FAULTS = (OSError, smtplib.SMTPException, urllib3.exceptions.HTTPError, UserError, _Refused)


def _words(error: Exception) -> tuple[str, bool]:
    """What went wrong, in our words as servers may answer anything; and whether trying again would be in vain."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        return f"the mail server does not take mail for this address ({codes[0]})", min(codes) >= 500
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the mail server refuses user and password ({error.smtp_code})", False
    if isinstance(error, smtplib.SMTPConnectError):
        return f"the mail server takes no mail now ({error.smtp_code})", False
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server refuses the mail ({error.smtp_code})", error.smtp_code >= 500
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "the mail server offers no encryption, or no login", False
    if isinstance(error, UserError | _Refused):
        return str(getattr(error, "what", error)), isinstance(error, _Refused)
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the mail server does not answer in time, or breaks the connection", False
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return "the server does not answer in time", False
    if isinstance(error, ssl.SSLError | urllib3.exceptions.SSLError):
        return "the encrypted connection failed: the server's certificate is not trusted, or it speaks no TLS", False
    return "the server cannot be reached", False


def _deliver(studio: Studio, notice: NoticeRow) -> None:
    kind, _, name = notice.target.partition(":")
    if kind == "mailto":
        try:
            check_mail_address(name)
        except UserError as error:
            raise _Refused(error.what) from None
        with studio.database.read() as session:
            value = settings.get(session, "smtp") or {}
        if not value:
            raise UserError("no mail server is set", remedy="an administrator sets one")
        _mail(studio, MailShown.model_validate(_open(value)), value.get("password"), compose(studio, notice), name)
        return
    with studio.database.read() as session:
        hook: Any = (settings.get(session, "webhooks") or {}).get(name)
    if hook is None:
        raise _Refused("there is no webhook of that name")
    _call(hook["url"], _unseal(studio, hook["secret"]), compose(studio, notice))


# --- the two ways ---


class _Smtp(smtplib.SMTP):
    """A connection to the address that was judged, under the host's own name."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._address, self._tls = check_address(host, port, MAIL_PORTS), tls
        super().__init__(host, port, local_hostname=socket.gethostname(), timeout=_CONNECT_SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((self._address, port), timeout)
        return self._tls.wrap_socket(plain, server_hostname=host) if self._tls else plain


def _mail(studio: Studio, server: MailShown, sealed: Any, message: Message, recipient: str) -> None:
    mail, tls = as_mail(message, server.sender, recipient), ssl.create_default_context()
    at_once = server.port == _TLS_PORT
    with _Smtp(server.host, server.port, tls if at_once else None) as smtp:
        if server.starttls and not at_once:
            smtp.starttls(context=tls)
        if server.user is not None:
            smtp.login(server.user, _unseal(studio, sealed) if sealed else "")
        assert smtp.sock is not None
        smtp.sock.settimeout(_ACCEPT_SECONDS)
        smtp.send_message(mail, server.sender, [recipient])
        smtp.sock.settimeout(5.0)  # it has the mail: how it says goodbye changes nothing
        smtp.close()


def sign(secret: str, at: int, body: bytes) -> str:
    """The value of ``X-Rewarm-Signature``: HMAC-SHA256 over the time, a dot and the body."""
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def _call(url: str, secret: str, message: Message) -> None:
    parts, body = urlsplit(url), orjson.dumps(message.facts)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address, timeout = check_address(host, port), urllib3.Timeout(connect=_CONNECT_SECONDS, read=_CONNECT_SECONDS)
    if parts.scheme == "https":
        pool: urllib3.HTTPConnectionPool = urllib3.HTTPSConnectionPool(
            address, port, timeout=timeout, server_hostname=host, assert_hostname=host,
            ssl_context=ssl.create_default_context(),
        )  # fmt: skip
    else:
        pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout)
    headers = {
        "Host": parts.netloc, "Content-Type": "application/json", "User-Agent": "rewarm",
        "X-Rewarm-Delivery": str(message.id), "X-Rewarm-Signature": sign(secret, int(time.time()), body),
    }  # fmt: skip
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with pool:
        answer = pool.urlopen(
            "POST", target, body, headers, retries=False, redirect=False, assert_same_host=False, preload_content=False
        )
        status = answer.status
        answer.close()
    if not 200 <= status < 300:
        raise DataError(f"the receiver answers {status}")
