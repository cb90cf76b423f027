"""Signing in and out, and one's own password."""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rewarm.core.errors import Forbidden
from rewarm.studio.api.access import TheStudio, Viewer, routes
from rewarm.studio.api.door import COOKIE
from rewarm.studio.api.errors import documented
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service import accounts

router = routes("/session", "session")


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=64, examples=["ana"])
    password: SecretStr


class Key(BaseModel):
    """What follows ``#key=`` in a link, and the password that the account is to have, if any."""

    model_config = ConfigDict(extra="forbid")
    key: SecretStr
    password: SecretStr | None = None


class Passwords(BaseModel):
    model_config = ConfigDict(extra="forbid")
    old: SecretStr | None = Field(None, description="the password until now, where there is one")
    new: SecretStr


class Me(BaseModel):
    """Who is signed in."""

    name: str = Field(examples=["ana"])
    role: Role


@router.post("", responses=documented(429))
def sign_in(request: Request, response: Response, studio: TheStudio, body: Credentials) -> Me:
    """Sign in with a password; the answer sets a cookie. Five attempts a minute."""
    address = request.client.host if request.client else ""
    request.app.state.attempts.take(address, body.name)
    user, secret = accounts.sign_in(studio, body.name, body.password.get_secret_value(), address)
    return _let_in(request, response, studio, user, secret)


@router.post("/link", responses=documented(429))
def sign_in_by_link(request: Request, response: Response, studio: TheStudio, body: Key) -> Me:
    """Sign in with a link, which works once; the answer sets a cookie."""
    request.app.state.attempts.take(request.client.host if request.client else "")
    password = None if body.password is None else body.password.get_secret_value()
    user, secret = accounts.sign_in_by_link(studio, body.key.get_secret_value(), password)
    return _let_in(request, response, studio, user, secret)


@router.get("")
def who(user: Viewer) -> Me:
    """Who is signed in."""
    return Me(name=user.name, role=user.role)


@router.delete("", status_code=204)
def sign_out(request: Request, response: Response, studio: TheStudio, user: Viewer) -> None:
    """End this session. With a token there is none to end."""
    if request.state.session is not None:
        accounts.sign_out(studio, user, request.state.session)
    response.delete_cookie(COOKIE)


@router.put("/password", status_code=204)
def set_password(request: Request, studio: TheStudio, user: Viewer, body: Passwords) -> None:
    """Set one's own password; all other sessions of the account end. Not with a token."""
    if request.state.session is None:
        raise Forbidden("a token sets no password", remedy="sign in")
    old = None if body.old is None else body.old.get_secret_value()
    accounts.set_password(studio, user, body.new.get_secret_value(), old, request.state.session)


def _let_in(request: Request, response: Response, studio: Studio, user: User, secret: str) -> Me:
    secure = request.url.scheme == "https" or studio.url.startswith("https:")
    seconds = int(accounts.SESSION_SECONDS)
    response.set_cookie(COOKIE, secret, max_age=seconds, httponly=True, samesite="lax", secure=secure)
    return Me(name=user.name, role=user.role)
