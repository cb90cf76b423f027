from __future__ import annotations

import math

from rewarm.studio.store import points
from rewarm.studio.store.database import Database

LOSS = [("train/loss", step, step * 10, math.sin(step)) for step in range(1, 10_001)]


def read(database: Database, name: str = "train/loss", **values: int) -> list[points.Bucket]:
    with database.read() as session:
        number = points.number(session, "a", name)
        assert number is not None
        return points.series(session, number, **values)


def test_a_point_is_kept_once_for_a_name_and_step(database: Database) -> None:
    for value in (1.0, 2.0):
        with database.write() as session:
            points.add_points(
                session, "a", [("train/loss", 1, 10, 0.0), ("train/loss", 1, 10, value), ("x", 1, 1, 5.0)]
            )
            points.add_points(session, "b", [("train/loss", 1, 10, 9.0)])
    assert read(database) == [points.Bucket(1, 10, 2.0, 2.0, 2.0, 1)]
    with database.read() as session:
        assert points.last_points(session, "a") == [("train/loss", 1, 10, 2.0), ("x", 1, 1, 5.0)]


def test_buckets_hold_all_points_and_keep_the_extremes(database: Database) -> None:
    with database.write() as session:
        points.add_points(session, "a", [*LOSS, ("train/loss", 5_000, 50_000, 99.0)])
    whole = read(database, buckets=100)
    assert len(whole) == 100 and sum(bucket.points for bucket in whole) == 10_000
    assert whole[0].step == 1 and whole[-1].tokens == 10 * whole[-1].step > 98_000
    assert max(bucket.max for bucket in whole) == 99.0
    assert min(bucket.min for bucket in whole) == min(point[3] for point in LOSS)
    total = sum(bucket.mean * bucket.points for bucket in whole)
    assert math.isclose(total, sum(point[3] for point in LOSS) - LOSS[4_999][3] + 99.0, rel_tol=1e-9)


def test_few_points_are_exact_at_any_zoom(database: Database) -> None:
    with database.write() as session:
        points.add_points(session, "a", LOSS)
    near = read(database, begin=4_000, end=4_099, buckets=100)
    assert [(b.step, b.tokens, b.mean) for b in near] == [point[1:] for point in LOSS[3_999:4_099]]
    assert read(database, begin=20_000, end=30_000) == []
    sparse = [("y", 2**40 * n, 0, float(n)) for n in range(30)]
    with database.write() as session:
        points.add_points(session, "a", sparse)
    assert sum(bucket.points for bucket in read(database, "y", buckets=7)) == 30


def test_a_training_that_was_given_up_is_forgotten_but_not_what_the_computer_did(database: Database) -> None:
    with database.write() as session:
        points.add_points(session, "a", [*LOSS[:10], ("system/cpu_percent", 1_700_000_000, 0, 50.0)])
        points.add_points(session, "b", LOSS[:10])
        points.drop_points(session, "a", above=4)
    with database.read() as session:
        last = points.last_points(session, "a")
        assert [point[:2] for point in last] == [("system/cpu_percent", 1_700_000_000), ("train/loss", 4)]
        assert points.last_points(session, "b")[0][1] == 10
