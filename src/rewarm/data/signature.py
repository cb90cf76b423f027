"""The state that a file was seen in, and the errors for a file that cannot be judged in it."""

from __future__ import annotations

from typing import NamedTuple

from rewarm.core.errors import DataError


class Signature(NamedTuple):
    """A file's size, and what its version is known by: time of change and inode, or what its server says."""

    size: int
    version: str


class UnsettledError(DataError):
    """A file that may well be good, but could not be read now; never passed over as a damaged one."""


class LockedError(UnsettledError):
    """A key that the server does not accept: it never was one, or it has expired or was taken back."""


class ChangedError(UnsettledError):
    """A file that somebody writes to while it is read."""

    def __init__(self, where: object, what: str = "the file changed while it was read") -> None:
        super().__init__(what, where=where, remedy="run again when nobody writes to it")
