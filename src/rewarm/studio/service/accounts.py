"""Accounts: users with a role, and what lets them in: a password, a link that works once, a session, a token.

A secret is 256 random bits, shown once, and kept as its SHA-256; a password is kept as its argon2id hash. There is no
default password: the first administrator comes in by a link that only the terminal shows.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import secrets
import threading
import time
from collections import deque

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from rewarm.core.errors import Conflict, Forbidden, NotFound, ResourceError, UserError
from rewarm.studio.context import OWNER, Role, Studio, User
from rewarm.studio.store import accounts as store
from rewarm.studio.store.audit import note
from rewarm.studio.store.tables import LinkRow, SessionRow, TokenRow, UserRow

SESSION_SECONDS = 14 * 86400.0
LINK_SECONDS = 86400.0
SHORTEST, LONGEST = 10, 256
"""Characters of a password."""
_hasher = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1)  # the first choice of OWASP
_hashing = threading.Lock()  # each takes 46 MiB: many at once would be a way to fill the memory


class NotSignedIn(UserError):  # noqa: N818  (what the web calls it)
    """Nobody is known by what was given."""


class TooMany(UserError):  # noqa: N818
    """Too many attempts in too short a time."""


class Account(BaseModel):
    """A user, as administrators see one."""

    name: str = Field(examples=["ana"])
    email: str | None = Field(None, examples=["ana@example.com"])
    role: Role
    disabled: bool
    has_password: bool
    created: float = Field(description="seconds since 1970, UTC", examples=[1767225600.0])


class Link(BaseModel):
    """A link that signs its user in once."""

    url: str = Field(examples=["http://127.0.0.1:8765/sign-in#key=..."])
    expires: float


class Token(BaseModel):
    """A token for programs, without its secret."""

    id: int
    name: str = Field(examples=["nightly job"])
    role: Role
    created: float
    expires: float | None
    used: float | None = Field(description="when it was last used, to the minute")


class NewToken(Token):
    """A token with its secret, which is shown this once."""

    token: str = Field(examples=["rewarm_..."])


class Attempts:
    """How often each key was tried in the last minute; remembered here and not in the database, where it would cost."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, ...], deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, address: str, name: str | None = None) -> None:
        """Raises ``TooMany`` at the sixth attempt a minute for an account from an address, or at the 61st from it."""
        limits: list[tuple[tuple[str, ...], int]] = [((address,), 60)]
        limits += [] if name is None else [((address, name), 5)]
        now = time.monotonic()
        with self._lock:
            if len(self._times) > 10_000:
                self._times = {key: times for key, times in self._times.items() if times[-1] > now - 60}
            for key, limit in limits:
                times = self._times.setdefault(key, deque(maxlen=limit))
                if len(times) == limit and times[0] > now - 60:
                    raise TooMany("too many attempts to sign in", remedy=f"wait {60 - now + times[0]:.0f} s")
                times.append(now)


def hash_of(secret: str) -> str:
    """What is kept of a secret that has 256 bits of chance in it: no salt or slowness adds to that."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


# --- who asks ---------------------------------------------------------------------------------------------------------


def by_session(studio: Studio, secret: str) -> User | None:
    """Who is signed in with this cookie."""
    with studio.database.read() as session:
        row = store.user_of_session(session, hash_of(secret), time.time())
        return None if row is None else User(row.id, row.name, Role(row.role))


def by_token(studio: Studio, secret: str) -> User | None:
    """Whose token this is, with the lower of the two roles."""
    now = time.time()
    with studio.database.read() as session:
        found = store.user_of_token(session, hash_of(secret), now)
    if found is None or found.token is None or found.token_role is None:
        return None
    if found.token_used is None or now - found.token_used > 60:
        with contextlib.suppress(OperationalError, ResourceError), studio.database.write() as session:
            store.touch_token(session, found.token, now)  # a disk that is full keeps nobody out
    return User(found.id, found.name, _lower(Role(found.token_role), Role(found.role)))


def _lower(one: Role, other: Role) -> Role:
    return other if one.includes(other) else one


# --- in and out -------------------------------------------------------------------------------------------------------


def sign_in(studio: Studio, name: str, password: str, address: str) -> tuple[User, str]:
    """The user and a new session's secret. Raises ``NotSignedIn``, as late where there is no such user."""
    with studio.database.read() as session:
        row = store.user_named(session, name)
    known = row is not None and not row.disabled and row.password is not None
    right = _matches(row.password if row is not None and known else None, password)
    with studio.database.write() as session:
        if row is None or not right:
            if row is not None:
                note(session, time.time(), row.name, "fail to sign in", f"user/{row.name}", {"address": address})
        else:
            note(session, time.time(), row.name, "sign in", f"user/{row.name}", {"address": address})
            return User(row.id, row.name, Role(row.role)), _new_session(session, row)
    raise NotSignedIn("no account has this name and this password", remedy="ask an administrator for a new link")


def sign_in_by_link(studio: Studio, key: str, password: str | None = None) -> tuple[User, str]:
    """Use up a link: the user and a new session's secret; a password that is given becomes the account's.

    Raises:
        NotSignedIn: if the link was used, has expired, or never was.
    """
    hashed = None if password is None else _hashed(password)
    with studio.database.write() as session:
        row = store.take_link(session, hash_of(key), time.time())
        if row is not None:
            if hashed is not None:
                _put_password(session, row, hashed, None, row.name)
            note(session, time.time(), row.name, "sign in", f"user/{row.name}", {"by": "link"})
            return User(row.id, row.name, Role(row.role)), _new_session(session, row)
    raise NotSignedIn("this link was used before, or has expired", remedy="ask an administrator for a new one")


def sign_out(studio: Studio, user: User, secret: str) -> None:
    """End this session."""
    with studio.database.write() as session:
        store.end_session(session, hash_of(secret))
        note(session, time.time(), user.name, "sign out", f"user/{user.name}")


def set_password(studio: Studio, user: User, new: str, old: str | None, secret: str) -> None:
    """Set the user's own password; all other sessions end.

    Args:
        old: the password until now, where there is one.
        secret: of the session that asks, which goes on.

    Raises:
        Forbidden: if ``old`` is not right.
        UserError: if the new one is too short or too long.
    """
    hashed = _hashed(new)
    with studio.database.read() as session:
        row = _user(session, user.name)
    if row.password is not None and not _matches(row.password, old or ""):
        raise Forbidden("this is not the password until now", where="/body/old", remedy="ask for a new link")
    with studio.database.write() as session:
        _put_password(session, _user(session, user.name), hashed, hash_of(secret), user.name)


def reset_password(studio: Studio, user: User, name: str, new: str) -> None:
    """Set somebody's password, from the terminal or as an administrator; the account's sessions end."""
    user.check(Role.administrator)
    hashed = _hashed(new)
    with studio.database.write() as session:
        _put_password(session, _user(session, name), hashed, None, user.name)


def _put_password(session: Session, row: UserRow, hashed: str, going_on: str | None, by: str) -> None:
    row.password = hashed
    store.end_sessions(session, row.id, but=going_on)
    store.drop_links(session, row.id)
    note(session, time.time(), by, "set the password", f"user/{row.name}")


def _hashed(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        raise UserError(f"a password has {SHORTEST} to {LONGEST} characters", where="/body/password")
    with _hashing:
        return _hasher.hash(password)


def _matches(hashed: str | None, password: str) -> bool:
    """Whether that is the password; where there is none, no, after as long a time."""
    with _hashing:
        try:
            return _hasher.verify(hashed or _no_password(), password[: LONGEST + 1]) and hashed is not None
        except (Argon2Error, InvalidHashError):
            return False


@functools.cache
def _no_password() -> str:
    return _hasher.hash(secrets.token_urlsafe())


def _new_session(session: Session, row: UserRow) -> str:
    secret, now = secrets.token_urlsafe(32), time.time()
    made = SessionRow(hash=hash_of(secret), user_id=row.id, created=now, expires=now + SESSION_SECONDS)
    store.add_session(session, made)
    return secret


# --- users ------------------------------------------------------------------------------------------------------------


def list_users(studio: Studio, user: User) -> list[Account]:
    user.check(Role.administrator)
    with studio.database.read() as session:
        return [_account(row) for row in store.users(session)]


def add_user(studio: Studio, user: User, name: str, role: Role, email: str | None = None) -> Link:
    """Add a user; the answer is the link that lets them in.

    Raises:
        Conflict: if the name is taken.
        UserError: if it breaks the rule.
    """
    user.check(Role.administrator)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name):
        rule = "a user's name has 1 to 64 letters, digits and . _ @ -, a letter or digit first"
        raise UserError(rule, where="/body/name", remedy="name them so")
    row = UserRow(name=name, email=email, role=role, password=None, created=time.time(), disabled=False)
    try:
        with studio.database.write() as session:
            session.add(row)
            session.flush()
            note(session, time.time(), user.name, "add", f"user/{name}", {"role": role})
            return _new_link(studio, session, row)
    except IntegrityError:
        raise Conflict("there is a user of that name", where=name, remedy="choose another") from None


def change_user(
    studio: Studio,
    user: User,
    name: str,
    role: Role | None = None,
    disabled: bool | None = None,
    email: str | None = None,
) -> Account:
    """Change what is given. A disabled user is signed out at once, and their tokens stop working.

    Raises:
        NotFound: if there is no such user.
        Conflict: if no administrator would be left.
    """
    user.check(Role.administrator)
    with studio.database.write() as session:
        store.administrators(session, hold=True)  # two could take each other's role away
        row = _user(session, name)
        row.role = role or row.role
        row.email = email if email is not None else row.email
        row.disabled = row.disabled if disabled is None else disabled
        session.flush()
        if not store.administrators(session):
            raise Conflict("this is the last administrator", where=name, remedy="make another one first")
        if row.disabled:
            store.end_sessions(session, row.id)
            store.drop_links(session, row.id)
        changes = {"role": role, "disabled": disabled, "email": email}
        changes = {key: value for key, value in changes.items() if value is not None}
        note(session, time.time(), user.name, "change", f"user/{name}", changes)
        return _account(row)


def new_link(studio: Studio, user: User, name: str) -> Link:
    """A new link that lets this user in; earlier ones stop working. Raises ``NotFound``, ``Conflict`` if disabled."""
    user.check(Role.administrator)
    with studio.database.write() as session:
        row = _user(session, name)
        if row.disabled:
            raise Conflict("this user is disabled", where=name, remedy="enable them first")
        note(session, time.time(), user.name, "make a link for", f"user/{name}")
        return _new_link(studio, session, row)


def first_link(studio: Studio, name: str = "admin") -> Link | None:
    """Make the first administrator, where there is no user yet; the link that lets them in."""
    with studio.database.read() as session:
        if store.count_users(session):
            return None
    return add_user(studio, OWNER, name, Role.administrator)


def first_administrator(studio: Studio) -> str:
    """The name of the one that has been there longest."""
    with studio.database.read() as session:
        return min(store.administrators(session), key=lambda row: row.id).name


def user_named(studio: Studio, name: str) -> User:
    """Raises ``NotFound``."""
    with studio.database.read() as session:
        row = _user(session, name)
        return User(row.id, row.name, Role(row.role))


def is_protected(studio: Studio) -> bool:
    """Whether an administrator has a password: without one, the Studio is for this machine alone."""
    with studio.database.read() as session:
        return any(row.password is not None for row in store.administrators(session))


def _user(session: Session, name: str) -> UserRow:
    if (row := store.user_named(session, name)) is None:
        raise NotFound(f"there is no user {name!r}", remedy="rewarm studio link --help; or list the users")
    return row


def _account(row: UserRow) -> Account:
    return Account(
        name=row.name,
        email=row.email,
        role=Role(row.role),
        disabled=row.disabled,
        has_password=row.password is not None,
        created=row.created,
    )


def _new_link(studio: Studio, session: Session, row: UserRow) -> Link:
    key, expires = secrets.token_urlsafe(32), time.time() + LINK_SECONDS
    store.put_link(session, LinkRow(hash=hash_of(key), user_id=row.id, expires=expires))
    return Link(url=f"{studio.url}/sign-in#key={key}", expires=expires)  # what follows # reaches no server and no log


# --- tokens -----------------------------------------------------------------------------------------------------------


def list_tokens(studio: Studio, user: User) -> list[Token]:
    """The user's own."""
    with studio.database.read() as session:
        return [_token(row) for row in store.tokens_of(session, user.id)]


def add_token(studio: Studio, user: User, name: str, role: Role, days: float | None = None) -> NewToken:
    """A token for programs; without ``days`` it does not expire. Raises ``Forbidden`` for a role above the user's."""
    user.check(role)
    secret, now = f"rewarm_{secrets.token_urlsafe(32)}", time.time()
    row = TokenRow(user_id=user.id, name=name, role=role, hash=hash_of(secret), created=now, used=None)
    row.expires = None if days is None else now + days * 86400
    with studio.database.write() as session:
        session.add(row)
        session.flush()
        note(session, now, user.name, "add", f"token/{row.id}", {"name": name, "role": role})
        return NewToken(**_token(row).model_dump(), token=secret)


def remove_token(studio: Studio, user: User, id: int) -> None:
    """Raises ``NotFound`` unless it is one of the user's own."""
    with studio.database.write() as session:
        if (row := store.remove_token(session, user.id, id)) is None:
            raise NotFound("there is no such token", where=id, remedy="list your tokens")
        note(session, time.time(), user.name, "remove", f"token/{id}", {"name": row.name})


def _token(row: TokenRow) -> Token:
    return Token(id=row.id, name=row.name, role=Role(row.role), created=row.created, expires=row.expires, used=row.used)
