"""Mail server, webhooks, and the notices that were or will be sent."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from rewarm.studio.api.access import Administrator, Editor, Id, Limit, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import notifications as verbs

router = routes("", "notifications")


class Recipient(BaseModel):
    address: str = Field(max_length=400, examples=["ana@example.com"])


@router.get("/mail")
def mail_settings(studio: TheStudio, user: Administrator) -> verbs.MailShown | None:
    """The server that mails are sent through; null where none is set."""
    return verbs.mail_settings(studio, user)


@router.put("/mail")
def set_mail(studio: TheStudio, user: Administrator, mail: verbs.NewMail) -> verbs.MailShown:
    """Send mails through this server."""
    return verbs.set_mail(studio, user, mail)


@router.delete("/mail", status_code=204)
def remove_mail(studio: TheStudio, user: Administrator) -> None:
    """Send no mail any more."""
    verbs.remove_mail(studio, user)


@router.post("/mail/test", status_code=204)
def test_mail(studio: TheStudio, user: Administrator, recipient: Recipient) -> None:
    """Send a test mail, and say what is wrong where it cannot be sent."""
    verbs.test_mail(studio, user, recipient.address)


@router.get("/webhooks")
def list_webhooks(studio: TheStudio, user: Administrator) -> list[verbs.Webhook]:
    """All webhooks, without their secrets."""
    return verbs.list_webhooks(studio, user)


@router.put("/webhooks")
def save_webhook(studio: TheStudio, user: Administrator, webhook: verbs.NewWebhook) -> verbs.WebhookSecret:
    """Add or replace a webhook. A secret that is made for it is in this answer, and never shown again."""
    return verbs.save_webhook(studio, user, webhook)


@router.delete("/webhooks/{name}", status_code=204, responses=documented(404))
def remove_webhook(studio: TheStudio, user: Administrator, name: str) -> None:
    """Forget a webhook."""
    verbs.remove_webhook(studio, user, name)


@router.post("/webhooks/{name}/test", status_code=204, responses=documented(404))
def test_webhook(studio: TheStudio, user: Administrator, name: str) -> None:
    """Call a webhook now, and say what is wrong where it cannot be called."""
    verbs.test_webhook(studio, user, name)


@router.get("/notices")
def list_notices(
    studio: TheStudio,
    user: Viewer,
    run: Annotated[str | None, Query(max_length=200, description="of this run only")] = None,
    after: Annotated[int | None, Query(ge=1, lt=2**63, description="those before the notice of this number")] = None,
    limit: Limit = 100,
) -> list[verbs.Notice]:
    """Mails and calls, the newest first, and what became of each."""
    return verbs.list_notices(studio, user, run, after, limit)


@router.post("/notices/{id}/resend", responses=documented(404, 409))
def resend(studio: TheStudio, user: Editor, id: Id) -> verbs.Notice:
    """Send a notice again, or one that was given up."""
    return verbs.resend(studio, user, id)
