"""The record of a run survives what kills its writer."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from rewarm.core.errors import DataError
from rewarm.core.events import TRAINING_FROM, EventLog, all_events, last_events, metrics, read_events


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


def test_zeros_after_a_power_cut_end_the_record_and_are_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, 1)
    log.state("running")
    log.close()
    with path.open("ab") as file:
        file.write(b"\0" * 40 + b"\n" + b'{"kind":"state","seq":3,"state":"failed"}\n')
    assert [event["state"] for event, _ in read_events(path)] == ["running"]
    log = EventLog(path, 2)
    log.state("lost")
    log.close()
    assert [event["seq"] for event, _ in read_events(path)] == [1, 2]
    assert path.with_suffix(".damaged").read_bytes().startswith(b"\0")


def test_an_illegal_move_is_a_bug(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, 1)
    log.state("running")
    log.state("succeeded")
    log.close()
    log = EventLog(path, 2)
    with pytest.raises(ValueError, match="from succeeded to lost"):
        log.state("lost")
    log.close()


def test_points_behind_the_step_that_training_went_on_from_are_dropped(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", 1)
    for step in (0, 1, 2, 3):
        log.metric(step, 10 * step, {"loss": float(step)})
    log.result(TRAINING_FROM, 1)
    log.metric(2, 20, {"loss": 7.0})
    log.close()
    found = metrics(event for event, _ in read_events(log.path))
    assert found == {"loss": [(0, 0, 0.0), (1, 10, 1.0), (2, 20, 7.0)]}


def test_the_last_events_reach_back_to_a_state(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", 1)
    log.state("running")
    for _ in range(100):
        log.warning("x" * 50)
    log.close()
    assert last_events(log.path, 300)[0]["kind"] == "state"
    log = EventLog(log.path, 1)
    log.state("succeeded")
    log.close()
    assert 1 <= len(last_events(log.path, 300)) < 5


WHOLE = b'{"v":1,"seq":9,"attempt":1,"time":1.0,"stage":"train","kind":'
NO_EVENTS = [
    b"garbage\n", b"null\n", b"{}\n", b"\xff\xfe\n", WHOLE + b'"state"}\n', WHOLE + b'"state","state":"exploded"}\n',
    WHOLE + b'"guess"}\n', WHOLE + b'"metric","step":1,"tokens":"x","values":{}}\n', WHOLE + b'"progress","done":1}\n',
    WHOLE + b'"result","name":"stage","value":{}}\n', b'{"seq":"9","kind":"state","state":"running"}\n',
]  # fmt: skip


@pytest.mark.parametrize("line", NO_EVENTS)
def test_a_line_that_is_no_event_is_named_and_repaired(tmp_path: Path, line: bytes) -> None:
    log = EventLog(tmp_path / "events.jsonl", 1)
    assert not log.was_damaged
    log.state("running")
    log.close()
    with log.path.open("ab") as file:
        file.write(line)
    for read in (all_events, last_events):
        with pytest.raises(DataError, match=r"events\.jsonl:2: is no event") as caught:
            list(read(log.path))
        assert "rewarm resume" in str(caught.value)
    log = EventLog(log.path, 2)
    log.close()
    assert log.was_damaged and log.last_state == "running"
    assert len(list(all_events(log.path))) == 1
    assert log.path.with_suffix(".damaged").read_bytes() == line


def test_a_line_without_its_end_is_no_damage(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", 1)
    log.state("running")
    log.close()
    with log.path.open("ab") as file:
        file.write(b'{"v":1,"se')
    assert len(list(all_events(log.path))) == len(last_events(log.path)) == 1


def test_each_event_is_echoed_once_it_is_written(tmp_path: Path) -> None:
    heard: list[object] = []
    log = EventLog(tmp_path / "events.jsonl", 1, heard.append)
    log.state("running")
    log.warning("low")
    log.close()
    assert heard == list(all_events(log.path))
