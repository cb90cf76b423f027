"""One's own tokens, for programs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from rewarm.studio.api.access import Id, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.context import Role
from rewarm.studio.service import accounts
from rewarm.studio.service.accounts import NewToken, Token

router = routes("/tokens", "tokens")


class TokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=100, examples=["nightly job"])
    role: Role = Field(Role.viewer, description="at most one's own")
    days: float | None = Field(None, gt=0, le=36500, description="after which it expires", examples=[90])


@router.get("")
def tokens(studio: TheStudio, user: Viewer) -> list[Token]:
    """One's own tokens, without their secrets."""
    return accounts.list_tokens(studio, user)


@router.post("", status_code=201)
def add_token(studio: TheStudio, user: Viewer, body: TokenRequest) -> NewToken:
    """Make a token. Its secret is in this answer and never shown again."""
    return accounts.add_token(studio, user, body.name, body.role, body.days)


@router.delete("/{id}", status_code=204, responses=documented(404))
def remove_token(id: Id, studio: TheStudio, user: Viewer) -> None:
    """Remove one of one's own tokens; it stops working at once."""
    accounts.remove_token(studio, user, id)
