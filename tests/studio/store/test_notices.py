"""The outbox on both databases: one row for each telling, one sender for each row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from rewarm.studio.store import notices, usage
from rewarm.studio.store.database import Database
from rewarm.studio.store.tables import RunRow


def test_a_notice_is_told_once_and_sent_by_one(database: Database) -> None:
    with database.write() as session:
        session.add(RunRow(id="r", name="r", state="failed", attempt=2, created=1.0, changed=50.0))
    with database.read() as session:
        assert [row.id for row in notices.untold(session, ["failed"], 0.0)] == ["r"]
        assert not notices.untold(session, ["failed"], 60.0) and not notices.untold(session, ["lost"], 0.0)
    for _ in range(2):
        with database.write() as session:
            notices.add(session, "r", 2, "failed", "why", ["mailto:a@b.c", "mailto:a@b.c", "webhook:x"], 100.0)
    with database.read() as session:
        assert not notices.untold(session, ["failed"], 0.0)
        ids = notices.due(session, 100.0)
        assert len(ids) == 2 and not notices.due(session, 99.0)

    def claim(_: int) -> bool:
        with database.write() as session:
            return notices.claim(session, ids[0], 100.0, 200.0) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1
    with database.write() as session:
        notices.settle(session, ids[0], sent=101.0, next_time=None, error=None)
        assert notices.sent_since(session, "mailto:a@b.c", 50.0) == (1, 101.0)
        assert notices.due(session, 1000.0) == ids[1:]
        assert notices.again(session, ids[1], 1000.0) is None  # it is due: somebody may be sending it
        assert (again := notices.again(session, ids[0], 1000.0)) is not None and again.id == ids[0]
    with database.write() as session:
        notices.add(session, "r", 3, "lost", None, [""], 100.0)  # nobody is to be told
        assert sorted(notices.due(session, 1e9)) == sorted(ids)
        assert len(notices.notices(session, "r", None, 10)) == 2
        assert [row.id for row in notices.notices(session, None, ids[1], 10)] == ids[:1]


def test_sizes_and_usage_add_up(database: Database) -> None:
    with database.write() as session:
        usage.put_sizes(session, {("run", "a"): 10, ("run", "b"): 30, ("checkpoint", "a/1"): 5}, 1.0)
        usage.put_sizes(session, {("run", "a"): 20}, 2.0)
        usage.drop_sizes(session, [("checkpoint", "a/1")])
        for run, month, cost in (("a", "2026-01", 1.0), ("b", "2026-02", 2.0), ("c", "2026-02", 4.0)):
            facts = {"pipeline": "p", "user": "ana", "device_seconds": 3600.0, "joules": 1.0, "currency": "EUR"}
            usage.put_usage(session, [{"run": run, "month": month, "cost": cost, **facts}], {("run", run): 1})
    with database.read() as session:
        assert usage.totals(session) == {"run": (2, 50)}
        assert [row.name for row in usage.largest(session, "run", 10)] == ["b", "a"]
        assert usage.measured(session) == {("run", "a"): 2.0, ("run", "b"): 1.0}
        assert usage.usage(session, "month", None) == [
            ("2026-02", "EUR", 2, 7200.0, 2.0, 6.0), ("2026-01", "EUR", 1, 3600.0, 1.0, 1.0)
        ]  # fmt: skip
        assert usage.usage(session, "user", "2026-01") == [("ana", "EUR", 1, 3600.0, 1.0, 1.0)]
