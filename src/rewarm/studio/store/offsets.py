"""How far the files of runs were read into the store."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import OffsetRow


class Mark(NamedTuple):
    """Bytes that were read of a file, and the number of the last event among them."""

    offset: int = 0
    seq: int = 0


def mark(session: Session, run: str, file: str) -> Mark:
    """How far this file was read."""
    row = session.get(OffsetRow, (run, file))
    return Mark(row.offset, row.seq) if row else Mark()


def set_mark(session: Session, run: str, file: str, new: Mark) -> None:
    session.merge(OffsetRow(run=run, file=file, offset=new.offset, seq=new.seq))


def offsets(session: Session) -> dict[tuple[str, str], int]:
    """Bytes read, by run and file."""
    rows = session.execute(select(OffsetRow.run, OffsetRow.file, OffsetRow.offset))
    return {(run, file): offset for run, file, offset in rows}
