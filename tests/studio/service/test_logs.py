from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from rewarm.core.errors import NotFound
from rewarm.core.events import read_events
from rewarm.studio.background import ship
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import logs
from tests.studio.conftest import Client
from tests.studio.run_files import new_run, write_events


def test_a_log_by_the_piece_is_the_whole_log(studio: Studio) -> None:
    run = new_run(studio.workspace)
    text = "".join(f"{n}: tiếng Việt\n" for n in range(1000)) + "ohne Ende"
    run.log.write_text(text, encoding="utf-8")
    found, offset = "", 0
    while (piece := logs.log_piece(studio, OWNER, run.id, offset, 100)).text:
        assert len(piece.text.encode()) <= 100 and piece.offset == offset
        found, offset = found + piece.text, piece.next
    assert found == text and offset == piece.size
    tail = logs.log_piece(studio, OWNER, run.id, -30, 100)
    assert tail.text == "999: tiếng Việt\n" or tail.text.startswith("999")
    assert logs.log_piece(studio, OWNER, run.id, -(10**9), 100).offset == 0


def test_a_log_of_gigabytes_is_never_read_whole(studio: Studio) -> None:
    run = new_run(studio.workspace)
    with run.log.open("wb") as file:
        file.write(b"the beginning\n")
        os.truncate(file.fileno(), 5 << 30)  # holes take no space
        file.seek(5 << 30)
        file.write(b"\nthe end\n")
    assert logs.log_piece(studio, OWNER, run.id, -9, 100).text == "the end\n"
    middle = logs.log_piece(studio, OWNER, run.id, 2 << 30, 1 << 40)
    assert len(middle.text) == logs.MOST and middle.size > 5 << 30
    found = logs.search_log(studio, OWNER, run.id, "the end", offset=(5 << 30) - 100)
    assert [line.text for line in found.lines] == ["the end"] and found.next is None
    assert logs.search_log(studio, OWNER, run.id, "the END").next >> 28 == 1


def test_a_search_goes_on_where_it_stopped(studio: Studio) -> None:
    run = new_run(studio.workspace)
    run.log.write_text("".join(f"step {n}: {'LOSS' if n % 3 == 0 else 'lr'}\n" for n in range(90)))
    found, offset = [], 0
    while offset is not None:
        some = logs.search_log(studio, OWNER, run.id, "loss", offset, 7)
        found, offset = found + some.lines, some.next
    assert [line.text for line in found] == [f"step {n}: LOSS" for n in range(0, 90, 3)]
    data = run.log.read_bytes()
    assert all(data[line.offset :].startswith(line.text.encode()) for line in found)


def test_events_behind_a_number_are_found_by_halves(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PIECE", 256)
    run = new_run(studio.workspace)
    assert logs.events(studio, OWNER, run.id) == []
    write_events(run, dict.fromkeys(range(1, 300), 1.0))
    every = [event for event, _ in read_events(run.events)]
    assert logs.events(studio, OWNER, run.id, limit=1000) == every
    for after in (1, 2, 77, 150, 299, 300, 301, 10**12):
        assert logs.events(studio, OWNER, run.id, after, limit=3) == every[after:][:3]


def test_what_the_store_has_need_not_come_again(studio: Studio) -> None:
    run = new_run(studio.workspace)
    assert logs.shipped(studio, OWNER, run.id) == 0
    write_events(run, {1: 3.0, 2: 2.0, 3: 1.0})
    ship.ship_all(studio)
    last = [event["seq"] for event, _ in read_events(run.events)][-1]
    assert logs.shipped(studio, OWNER, run.id) == last > 3
    with run.events.open("ab") as file:
        file.write(orjson.dumps({"seq": last + 1}) + b"\n")
    assert logs.shipped(studio, OWNER, run.id) == last
    run.events.write_bytes(b"")
    assert logs.shipped(studio, OWNER, run.id) == 0


def test_over_the_web(studio: Studio, client: Client) -> None:
    run = new_run(studio.workspace)
    run.log.write_text("one\ntwo\n")
    write_events(run, {1: 1.0}, "succeeded")
    with client(Role.viewer) as web:
        base = f"/api/v1/runs/{run.id}"
        assert web.get(f"{base}/log", params={"offset": 4}).json()["text"] == "two\n"
        assert web.get(f"{base}/log/search", params={"text": "two"}).json()["lines"] == [{"offset": 4, "text": "two"}]
        download = web.get(f"{base}/log/download")
        assert download.text == "one\ntwo\n" and "attachment" in download.headers["content-disposition"]
        assert [event["seq"] for event in web.get(f"{base}/events", params={"after": 2}).json()] == [3, 4]
        stream = web.get(f"{base}/stream", params={"log": 0})
        names = re.findall(r"event: (\w+)\nid: ([\d-]+)\n", stream.text)
        assert names == [*[("event", f"{n}-0") for n in range(1, 5)], ("log", "4-8"), ("end", "4-8")]
        again = web.get(f"{base}/stream", headers={"Last-Event-ID": "3-4"}).text
        assert re.findall(r"id: ([\d-]+)", again) == ["4-4", "4-8", "4-8"]
        assert web.get(f"{base}/stream", headers={"Last-Event-ID": "x"}).status_code == 422
        for path in ("log", "log/search?text=a", "log/download", "events", "stream"):
            assert web.get(f"/api/v1/runs/none/{path}").status_code == 404, path


def test_who_listens_gets_all_once_though_the_line_breaks(studio: Studio) -> None:
    run = new_run(studio.workspace)
    run.log.write_text("")
    write_events(run, {1: 1.0})
    got: list[logs.Message] = []

    async def listen(count: int | None) -> None:
        last = got[-1] if got else logs.Message("", 0, 0, {})
        async for message in logs.follow(studio, OWNER, run.id, last.seq, last.offset):
            if message is not None:
                got.append(message)
            if count is not None and len(got) >= count:
                return

    async def whole() -> None:
        task = asyncio.create_task(listen(4))
        await asyncio.sleep(0.1)
        with run.log.open("a") as log:
            log.write("a line\n")
        await task
        task = asyncio.create_task(listen(None))
        await asyncio.sleep(0.1)
        write_events(run, dict.fromkeys(range(2, 2500), 1.0), "succeeded")
        await task

    asyncio.run(whole())
    events: list[dict[str, Any]] = [message.data for message in got if message.kind == "event"]
    assert events == [event for event, _ in read_events(run.events)]
    assert "".join(message.data["text"] for message in got if message.kind == "log") == "a line\n"
    assert got[-1].kind == "end" and got[-1].data == {"state": "succeeded"}


@pytest.mark.parametrize("verb", [logs.log_piece, logs.events, logs.log_file])
def test_a_run_that_is_not_there(studio: Studio, verb: Callable[..., Any]) -> None:
    for name in ("none", "../runs", "..", "a/b", "\0", "x" * 300):
        with pytest.raises(NotFound):
            verb(studio, OWNER, name)
    assert orjson.dumps(name)
