"""What a notice says: as a mail in plain text and simple HTML, and as the JSON of a webhook.

Whatever comes from a run (its name, its error, its report) is text: it is escaped in HTML, and no line of it can
become a header.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from rewarm.core.errors import UserError
from rewarm.report.words import headlines
from rewarm.studio.context import Studio
from rewarm.studio.store.tables import NoticeRow

_LONGEST_REASON = 2000
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
_SAYS = {
    "succeeded": "has succeeded",
    "failed": "has failed",
    "lost": "is lost",
    "paused": "is paused, and goes on by itself once it can",
    "disk": "the disk will be full",
    "test": "a test",
}


@dataclass(frozen=True)
class Message:
    """A notice in words."""

    id: int
    event: str
    subject: str
    lines: list[str]
    url: str
    facts: dict[str, Any]


def check_mail_address(text: str) -> str:
    """``text``, if a mail can go there. Raises ``UserError``."""
    if not _ADDRESS.fullmatch(text) or ".." in text or text.startswith("."):
        raise UserError("is no mail address", where=repr(text[:100]), remedy="write it as name@example.com")
    return text


def compose(studio: Studio, notice: NoticeRow) -> Message:
    """The words for a notice; of a run that is deleted by now what the notice itself knows."""
    reason = (notice.reason or "")[:_LONGEST_REASON]
    if not notice.run:
        subject, lines, url = f"Rewarm: {_SAYS[notice.state]}", [reason] if reason else [], studio.url
    else:
        name = notice.run.partition("-")[2].rpartition("-")[0] or notice.run
        subject, lines = f"Rewarm: {name} {_SAYS[notice.state].partition(',')[0]}", []
        lines.append(f"The run {notice.run} {_SAYS[notice.state]}.")
        lines += [reason] if reason and notice.state != "succeeded" else []
        lines += _report_lines(studio, notice) if notice.state == "succeeded" else []
        url = f"{studio.url.rstrip('/')}/runs/{quote(notice.run, safe='')}"
    facts = {
        "event": f"run.{notice.state}" if notice.run else notice.state, "id": notice.id, "run": notice.run or None,
        "attempt": notice.attempt, "state": notice.state, "reason": reason or None, "time": notice.created,
        "text": "\n".join(lines), "url": url,
    }  # fmt: skip
    return Message(notice.id, notice.state, _one_line(subject), lines, url, facts)


def _report_lines(studio: Studio, notice: NoticeRow) -> list[str]:
    """The headline of the report, if it is there and whole."""
    with contextlib.suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
        report = orjson.loads((studio.workspace.runs / notice.run / "report" / "report.json").read_bytes())
        return [f"{x.title}: {x.figure}{f' ({x.interval})' if x.interval else ''} {x.text}" for x in headlines(report)]
    return []


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def as_mail(message: Message, sender: str, recipient: str) -> EmailMessage:
    """The mail. A notice keeps its Message-ID, so that a mail that came twice can be known as one.

    Raises:
        UserError: if an address is none.
    """
    mail = EmailMessage()
    mail["Subject"] = message.subject
    for header, text in (("From", sender), ("To", recipient)):
        mail[header] = Address(addr_spec=check_mail_address(text))
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.facts["time"], UTC))
    host = urlsplit(message.url).hostname or "localhost"
    mail["Message-ID"] = f"<rewarm-{message.id}-{message.facts['time']:.0f}@{host}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n\n".join([*message.lines, message.url]) + "\n")
    paragraphs = "".join(f"<p>{escape(line).replace(chr(10), '<br>')}</p>" for line in message.lines)
    link = f'<p><a href="{escape(message.url)}">{escape(message.url)}</a></p>'
    mail.add_alternative(f"<!doctype html><html><body>{paragraphs}{link}</body></html>", subtype="html")
    return mail
