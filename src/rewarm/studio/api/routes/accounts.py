"""Users, and the links that let them in."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from rewarm.studio.api.access import Administrator, TheStudio, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.context import Role
from rewarm.studio.service import accounts
from rewarm.studio.service.accounts import Account, Link

router = routes("/users", "users")
Email = Field(None, max_length=254, pattern=r"^[^@\s<>\"',;:]+@[^@\s<>\"',;:]+$", examples=["ana@example.com"])


class NewUser(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=64, examples=["ana"])
    role: Role = Role.viewer
    email: str | None = Email


class UserChange(BaseModel):
    """What is to change."""

    model_config = ConfigDict(extra="forbid")
    role: Role | None = None
    disabled: bool | None = None
    email: str | None = Email


@router.get("")
def users(studio: TheStudio, user: Administrator) -> list[Account]:
    """All users, by name."""
    return accounts.list_users(studio, user)


@router.post("", status_code=201, responses=documented(409))
def add_user(studio: TheStudio, user: Administrator, body: NewUser) -> Link:
    """Add a user. Give them the link of the answer: it lets them in once, to set a password."""
    return accounts.add_user(studio, user, body.name, body.role, body.email)


@router.patch("/{name}", responses=documented(404, 409))
def change_user(name: str, studio: TheStudio, user: Administrator, body: UserChange) -> Account:
    """Change a role or address, or disable a user, who is signed out at once and whose tokens stop working."""
    return accounts.change_user(studio, user, name, body.role, body.disabled, body.email)


@router.post("/{name}/link", status_code=201, responses=documented(404, 409))
def link(name: str, studio: TheStudio, user: Administrator) -> Link:
    """A new link for a user who cannot get in; earlier ones stop working."""
    return accounts.new_link(studio, user, name)
