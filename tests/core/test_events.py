"""The record of a run survives what kills its writer."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from rewarm.core.events import EventLog, metrics, read_events


def test_round_trip_and_sequence_over_attempts(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventLog(path, attempt=1)
    first.stage = "train"
    first.state("running")
    first.metric(1, 100, {"train/loss": 0.1 + 0.2})
    first.close()
    second = EventLog(path, attempt=2)
    second.metric(1, 100, {"train/loss": 0.5})
    second.close()
    events = [event for event, _ in read_events(path)]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert [event["attempt"] for event in events] == [1, 1, 2]
    assert events[1]["values"]["train/loss"] == 0.1 + 0.2  # to the last bit
    assert events[1]["stage"] == "train"
    assert metrics(iter(events)) == {"train/loss": [(1, 100, 0.5)]}  # the last one wins


def test_a_torn_line_is_no_event_and_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, 1)
    log.warning("whole")
    log.close()
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":2,"ki')
    assert len(list(read_events(path))) == 1
    log = EventLog(path, 2)
    log.warning("next")
    log.close()
    assert [orjson.loads(line)["seq"] for line in path.read_bytes().splitlines()] == [1, 2]


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, 1)
    log.warning("one")
    [(_, offset)] = read_events(path)
    log.warning("two")
    log.close()
    [(event, _)] = read_events(path, offset)
    assert event["message"] == "two"
    assert list(read_events(tmp_path / "none")) == []


def test_unknown_kind_is_a_bug(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", 1)
    with pytest.raises(ValueError, match="unknown kind"):
        log.write("guess")
    log.close()
