"""The tables. Times are seconds since 1970 (UTC); secrets are kept as hashes, or encrypted with the workspace's key.

``runs``, ``series``, ``points`` and ``offsets`` are an index of the run directories and can be made again from them;
all else lives only here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What all tables share."""

    type_annotation_map: ClassVar = {
        str: Text,
        int: BigInteger().with_variant(Integer, "sqlite"),
        float: Float(53),
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


class UserRow(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    role: Mapped[str]
    password: Mapped[str | None]
    """Argon2 hash; None until one was set."""
    created: Mapped[float]
    disabled: Mapped[bool] = mapped_column(default=False)


class SessionRow(Base):
    """A signed-in browser."""

    __tablename__ = "sessions"
    hash: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created: Mapped[float]
    expires: Mapped[float]


class TokenRow(Base):
    """A token for programs; it may do what its owner may, or less."""

    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    role: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    created: Mapped[float]
    expires: Mapped[float | None]
    used: Mapped[float | None]


class LinkRow(Base):
    """A link that signs in once: the first administrator's, or an invitation."""

    __tablename__ = "links"
    hash: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    expires: Mapped[float]


class PipelineRow(Base):
    """A saved recipe."""

    __tablename__ = "pipelines"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str] = mapped_column(default="")
    recipe: Mapped[str]
    """YAML, as it was given."""
    template: Mapped[str | None]
    created: Mapped[float]
    updated: Mapped[float]
    created_by: Mapped[str]
    revision: Mapped[int] = mapped_column(default=1)


class RunRow(Base):
    """What the lists show of a run directory."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    pipeline_id: Mapped[int | None] = mapped_column(ForeignKey("pipelines.id", ondelete="SET NULL"), index=True)
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str | None]
    stage: Mapped[str] = mapped_column(default="")
    attempt: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any] | None]
    """The last progress event."""
    headline: Mapped[dict[str, Any] | None]
    """The report's two numbers, once there is a report."""
    version: Mapped[str | None]
    """The model version that it published."""
    created: Mapped[float] = mapped_column(index=True)
    changed: Mapped[float]
    started_by: Mapped[str | None]
    bytes: Mapped[int] = mapped_column(default=0)
    device_seconds: Mapped[float] = mapped_column(default=0.0)
    joules: Mapped[float] = mapped_column(default=0.0)


class OffsetRow(Base):
    """How far a file of a run was read into the store."""

    __tablename__ = "offsets"
    run: Mapped[str] = mapped_column(primary_key=True)
    file: Mapped[str] = mapped_column(primary_key=True)
    offset: Mapped[int]


class SeriesRow(Base):
    """One metric of one run; the run "" is the machine."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("run", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[str]
    name: Mapped[str]


class PointRow(Base):
    __tablename__ = "points"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012
    series: Mapped[int] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    tokens: Mapped[int]
    value: Mapped[float]


class AuditRow(Base):
    """Who did what."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[float] = mapped_column(index=True)
    user: Mapped[str]
    action: Mapped[str]
    object: Mapped[str] = mapped_column(index=True)
    detail: Mapped[dict[str, Any]]


class KeyRow(Base):
    """An Idempotency-Key and the answer that its request got."""

    __tablename__ = "keys"
    user: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[str]
    """SHA-256 of method, path and body."""
    status: Mapped[int | None]
    """None while the request is worked on."""
    body: Mapped[str | None]
    created: Mapped[float] = mapped_column(index=True)


class NoticeRow(Base):
    """A mail or webhook call that is to be sent, was sent, or could not be sent."""

    __tablename__ = "notices"
    __table_args__ = (UniqueConstraint("run", "attempt", "target"), Index("due", "sent", "next_time"))
    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[str]
    attempt: Mapped[int]
    state: Mapped[str]
    target: Mapped[str]
    """``mailto:ADDRESS`` or the webhook's name."""
    tries: Mapped[int] = mapped_column(default=0)
    next_time: Mapped[float]
    sent: Mapped[float | None]
    error: Mapped[str | None]


class SettingRow(Base):
    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
