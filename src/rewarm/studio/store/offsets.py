"""How far the files of runs were read into the store."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from rewarm.studio.store.points import insert_into
from rewarm.studio.store.tables import OffsetRow


class Mark(NamedTuple):
    """Bytes that were read of a file, and a checksum of the last of them."""

    offset: int = 0
    tail: int = 0


def mark(session: Session, run: str, file: str) -> Mark:
    """How far this file was read."""
    row = session.execute(
        select(OffsetRow.offset, OffsetRow.tail).where(OffsetRow.run == run, OffsetRow.file == file)
    ).first()
    return Mark(*row) if row else Mark()


def set_mark(session: Session, run: str, file: str, new: Mark) -> None:
    row = insert_into(session, OffsetRow).values(run=run, file=file, **new._asdict())
    session.execute(row.on_conflict_do_update(index_elements=["run", "file"], set_=new._asdict()))


def offsets(session: Session) -> dict[tuple[str, str], int]:
    """Bytes read, by run and file."""
    rows = session.execute(select(OffsetRow.run, OffsetRow.file, OffsetRow.offset))
    return {(run, file): offset for run, file, offset in rows}
