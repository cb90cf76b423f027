"""Points of metrics: each once for a run, a name and a step; read whole where they are few, else in buckets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from rewarm.studio.store.tables import PointRow, SeriesRow

MACHINE = ""
"""The machine's samples, where a run's id would stand."""
SYSTEM = "system/"
"""Names of samples begin so: their steps are seconds since 1970, and no training takes them back."""
Point = tuple[str, int, int, float]
"""Name, step, tokens, value."""


class Bucket(NamedTuple):
    """What lies between two steps, with step and tokens of its first point; a single point is one value thrice."""

    step: int
    tokens: int
    min: float
    mean: float
    max: float
    points: int


def add_points(session: Session, run: str, points: Iterable[Point]) -> None:
    """Keep these points; of those with one name and step the last one."""
    last = {(name, step): (tokens, value) for name, step, tokens, value in points}
    if not last:
        return
    ids = _numbers(session, run, {name for name, _ in last})
    rows = [{"series": ids[name], "step": step, "tokens": t, "value": v} for (name, step), (t, v) in last.items()]
    replace(session, PointRow, rows)


def drop_points(session: Session, run: str, above: int) -> None:
    """Forget the points of a training behind the step ``above``; samples of the machine stay."""
    ids = select(SeriesRow.id).where(SeriesRow.run == run, ~SeriesRow.name.startswith(SYSTEM))
    session.execute(delete(PointRow).where(PointRow.series.in_(ids), PointRow.step > above))


def forget_points(session: Session, run: str, before: int) -> None:
    """Forget the points of a run before a step."""
    ids = select(SeriesRow.id).where(SeriesRow.run == run)
    session.execute(delete(PointRow).where(PointRow.series.in_(ids), PointRow.step < before))


def numbers(session: Session, run: str) -> dict[str, int]:
    """The metrics of a run and the numbers of their series, by name."""
    return dict(session.connection().execute(_NUMBERS, {"run": run}).all())  # .all(): a result looks like a mapping


def number(session: Session, run: str, name: str) -> int | None:
    """The number of one metric's series."""
    return session.connection().execute(_NUMBER, {"run": run, "name": name}).scalar()


def last_points(session: Session, run: str) -> list[Point]:
    """The last point of each metric of a run, by name."""
    connection = session.connection()
    metrics = connection.execute(_NUMBERS, {"run": run}).all()
    newest = ((name, connection.execute(_NEWEST, {"series": number}).first()) for name, number in metrics)
    return [(name, *row) for name, row in newest if row is not None]


def series(
    session: Session, number: int, begin: int | None = None, end: int | None = None, buckets: int = 500
) -> list[Bucket]:
    """Points with ``begin <= step <= end``: each where they are at most ``buckets``, else put together to so many."""
    ends = {"begin": -(2**63) if begin is None else begin, "end": 2**63 - 1 if end is None else end}
    within = {"series": number, **ends}
    points = session.connection().execute(_FIRST, {**within, "limit": buckets + 1}).all()
    if len(points) <= buckets:
        return [Bucket(step, tokens, value, value, value, 1) for step, tokens, value in points]
    last = session.connection().execute(_LAST, within).one()[0]
    return [
        bucket for low, high in _cuts(points[0][0], last, buckets) for bucket in _bucket(session, number, low, high)
    ]


def page(session: Session, number: int, after: int | None, size: int = 10_000) -> list[tuple[int, int, float]]:
    """``(step, tokens, value)`` of the next points behind the step ``after``."""
    rows = _points(number).order_by(PointRow.step).limit(size)
    return list(session.execute(rows if after is None else rows.where(PointRow.step > after)))


def _points(number: int | BindParameter[int]) -> Any:
    return select(PointRow.step, PointRow.tokens, PointRow.value).where(PointRow.series == number)


def _cuts(first: int, last: int, buckets: int) -> Iterator[tuple[int, int]]:
    """Equal ranges ``low <= step < high`` from ``first`` to ``last``, both within."""
    edges = [first + (last + 1 - first) * i // buckets for i in range(buckets + 1)]
    return ((low, high) for low, high in itertools.pairwise(edges) if low < high)


def _bucket(session: Session, number: int, low: int, high: int) -> list[Bucket]:
    # A range of the key at a time: both databases add it up as they read it. GROUP BY would sort a million rows first.
    row = session.connection().execute(_SUMS, {"series": number, "low": low, "high": high}).one()
    return [Bucket(row[0], row[1], float(row[2]), float(row[3]), float(row[4]), row[5])] if row[5] else []


def _sums() -> Any:
    within = (
        PointRow.series == bindparam("series"), PointRow.step >= bindparam("low"), PointRow.step < bindparam("high")
    )  # fmt: skip
    first = (
        select(column).where(*within).order_by(PointRow.step).limit(1) for column in (PointRow.step, PointRow.tokens)
    )
    value = PointRow.value
    figures = (func.min(value), func.avg(value), func.max(value), func.count())
    return select(*(query.correlate(None).scalar_subquery() for query in first), *figures).where(*within)


# Built once: to build a query takes longer than to ask it.
_SUMS = _sums()
_NUMBERS = select(SeriesRow.name, SeriesRow.id).where(SeriesRow.run == bindparam("run")).order_by(SeriesRow.name)
_NUMBER = _NUMBERS.with_only_columns(SeriesRow.id).where(SeriesRow.name == bindparam("name")).order_by(None)
_NEWEST = _points(bindparam("series")).order_by(PointRow.step.desc()).limit(1)
_WITHIN = _points(bindparam("series")).where(PointRow.step.between(bindparam("begin"), bindparam("end")))
_FIRST = _WITHIN.order_by(PointRow.step).limit(bindparam("limit"))
_LAST = _WITHIN.order_by(PointRow.step.desc()).limit(1)


def _numbers(session: Session, run: str, names: set[str]) -> dict[str, int]:
    """The numbers of a run's series; those that are new are made."""
    known = numbers(session, run)
    if missing := sorted(names - known.keys()):
        new = insert_into(session, SeriesRow).on_conflict_do_nothing(index_elements=["run", "name"])
        session.execute(new, [{"run": run, "name": name} for name in missing])
        known = numbers(session, run)
    return known


def replace(session: Session, table: type[Any], rows: list[dict[str, Any]]) -> None:
    """Add whole rows, in place of those that have their keys."""
    new, key = insert_into(session, table), table.__table__.primary_key.columns.keys()
    changed = {name: new.excluded[name] for name in rows[0] if name not in key}
    session.execute(new.on_conflict_do_update(index_elements=key, set_=changed), rows)


def insert_into(session: Session, table: type[Any]) -> Any:
    """An INSERT that can say what happens ``on_conflict``; both databases have it, each with words of its own."""
    return (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(table)
