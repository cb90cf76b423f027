"""The tables. Times are seconds since 1970 (UTC); secrets are kept as hashes, or encrypted with the workspace's key.

``runs``, ``series``, ``points`` and ``offsets`` are an index of the run directories and can be made again from them;
all else lives only here. After a change: ``rm store/migrations/versions/0001_*.py``, then
``python -m rewarm.studio.store.migrations The first tables`` (once released: without the ``rm``, it is the next step).
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
    tail: Mapped[int] = mapped_column(default=0)
    """A checksum of the last bytes before it; a file in which others stand there was replaced."""


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
    __table_args__ = (UniqueConstraint("run", "attempt", "state", "target"), Index("due", "sent", "next_time"))
    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[str]
    """"" for what is not about a run: the disk."""
    attempt: Mapped[int]
    state: Mapped[str]
    target: Mapped[str]
    """``mailto:ADDRESS`` or ``webhook:NAME``; "" where nobody is to be told, so that it is not asked again."""
    reason: Mapped[str | None]
    created: Mapped[float]
    tries: Mapped[int] = mapped_column(default=0)
    next_time: Mapped[float | None]
    """None once it is sent or given up."""
    sent: Mapped[float | None]
    error: Mapped[str | None]


class SizeRow(Base):
    """How many bytes something in the workspace takes, as it was measured last."""

    __tablename__ = "sizes"
    kind: Mapped[str] = mapped_column(primary_key=True)
    """run, checkpoint, dataset, version, cache or other."""
    name: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int]
    measured: Mapped[float]


class UsageRow(Base):
    """What a run took of devices, energy and money; it stays when the run is deleted."""

    __tablename__ = "usage"
    run: Mapped[str] = mapped_column(primary_key=True)
    pipeline: Mapped[str]
    user: Mapped[str]
    month: Mapped[str] = mapped_column(index=True)
    """Of its creation: 2026-11."""
    device_seconds: Mapped[float]
    joules: Mapped[float]
    cost: Mapped[float]
    currency: Mapped[str]


class SettingRow(Base):
    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
