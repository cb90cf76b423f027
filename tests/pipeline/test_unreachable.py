"""A store that is away: the run says 'paused' and why, goes on by itself, and makes the same dataset."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rewarm.core import space
from rewarm.core.connections import load_connection, remove_connection, replace_secret, save_connection
from rewarm.core.errors import DataError, Stopped
from rewarm.core.events import EventLog, read_events
from rewarm.core.run import create_run
from rewarm.core.workspace import Workspace
from rewarm.data import workers
from rewarm.data.prepare import build_dataset
from rewarm.data.remote import place
from rewarm.pipeline import prepare
from rewarm.pipeline.execution import Execution, StopSignal, open_run, perform
from tests.pipeline.conftest import NEW, Bench, make_bench, sentences, write_jsonl
from tests.servers import BUCKET, Proxy, Reply, Store


class Here:
    """An engine in this process, whose pauses between two questions the test can shorten."""

    def __init__(self, cores: int, stop: Callable[[], bool]) -> None: ...

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, tasks: Sequence[dict[str, Any]], progress: Callable[[float], None]) -> Iterator[int]:
        for index, task in enumerate(tasks):
            workers.perform(task, lambda done: None)
            progress(sum(task["bytes"] for task in tasks[: index + 1]))
            yield index


@pytest.fixture
def proxy(store: Store) -> Iterator[Proxy]:
    made = Proxy(store.address)
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path, store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose new text lies in the store, behind the proxy."""
    for number in range(4):
        write_jsonl(tmp_path / "part.jsonl", sentences(100, number, NEW))
        store.put(f"away/{number}.jsonl", (tmp_path / "part.jsonl").read_bytes())
    source = f"{{name: new, path: s3://{BUCKET}/away, connection: store}}"
    made = make_bench(tmp_path, **{"{name: new, path: new.jsonl}": source})
    monkeypatch.setenv("REWARM_HOME", str(made.workspace.root))
    store.connect(Workspace.default(), endpoint=proxy.address)
    monkeypatch.setattr(place, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(space, "POLL_SECONDS", 0.05)
    return made


def attempt(bench: Bench) -> Execution:
    run = create_run(bench.workspace, "away", bench.recipe.read_text(), [], bench.folder)
    log = EventLog(run.events, 1)
    log.state("starting")
    log.state("running")
    return open_run(run, log, StopSignal(run))


def states(x: Execution) -> list[dict[str, Any]]:
    return [event for event, _ in read_events(x.run.events) if event["kind"] == "state"]


def wait_for_a_pause(x: Execution) -> str:
    until = time.monotonic() + 60
    while states(x)[-1]["state"] != "paused":
        assert time.monotonic() < until
        time.sleep(0.02)
    return str(states(x)[-1]["reason"])


@pytest.mark.parametrize(
    "engine", [Here, pytest.param(workers.Workers, marks=pytest.mark.nightly)]  # workers ask for twenty seconds
)  # fmt: skip
def test_a_store_that_goes_and_comes_back(
    bench: Bench, store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, engine: Any, tmp_path: Path
) -> None:
    x = attempt(bench)
    clean = build_dataset(x.recipe, bench.folder / "model", tmp_path / "clean", workers=1)
    bench.workspace.cache.rename(tmp_path / "old cache")
    monkeypatch.setattr(prepare, "build_dataset", partial(build_dataset, engine=engine))

    def gone(path: str, reply: Reply) -> Reply | None:
        if path.startswith(f"/{BUCKET}/away/2"):  # in the middle of pass 1
            proxy.fault = lambda path, reply: None
            store.stop()
            return None
        return reply

    proxy.fault = gone
    result: list[dict[str, Any]] = []
    run = threading.Thread(target=lambda: result.append(perform(x, prepare.PREPARE)))
    run.start()
    try:
        reason = wait_for_a_pause(x)
        assert "s3://" in reason and "fails" in reason
        proxy.fault = lambda path, reply: reply
        time.sleep(0.5)
        assert run.is_alive() and states(x)[-1]["state"] == "paused"  # it goes on waiting
    finally:
        store.start()
    run.join(120)
    seen = [event["state"] for event in states(x)]  # a server that starts lists its files before it can read them
    assert len(seen) >= 4 and seen == ["starting", "running"] + ["paused", "running"] * (len(seen) // 2 - 1)
    kinds = [event["kind"] for event, _ in read_events(x.run.events)]
    assert kinds[-1] != "state"  # it said so when the work went on, not when it was done
    assert result[0]["dataset"] == clean.hash


def test_a_key_that_expires_midway(
    bench: Bench, store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run waits, also through a mistake in the new key and a connection that is gone for a moment."""
    x = attempt(bench)
    clean = build_dataset(x.recipe, bench.folder / "model", tmp_path / "clean", workers=1)
    bench.workspace.cache.rename(tmp_path / "old cache")
    monkeypatch.setattr(prepare, "build_dataset", partial(build_dataset, engine=Here))
    store.stop()
    store.accept("AKIAGUEST", "first")
    store.start()
    workspace = bench.workspace
    remove_connection(workspace, "store")
    store.connect(workspace, endpoint=proxy.address, access_key="AKIAGUEST", secret_key="first")

    def expires(path: str, reply: Reply) -> Reply | None:
        if path.startswith(f"/{BUCKET}/away/2"):  # in the middle of pass 1
            proxy.fault = lambda path, reply: reply
            store.stop()
            store.accept("AKIANEW", "second")
            store.start()
            return None
        return reply

    proxy.fault = expires
    result: list[dict[str, Any]] = []
    run = threading.Thread(target=lambda: result.append(perform(x, prepare.PREPARE)))
    run.start()
    try:
        reason = wait_for_a_pause(x)
        assert "does not know this access key" in reason and "rewarm connections add" in reason
        replace_secret(workspace, "store", SecretStr("a mistake"), "AKIANEW")
        time.sleep(0.3)
        connection = load_connection(workspace, "store")
        remove_connection(workspace, "store")
        time.sleep(0.3)
        save_connection(workspace, "store", connection)
        time.sleep(0.3)
        assert run.is_alive() and states(x)[-1]["state"] == "paused"
        replace_secret(workspace, "store", SecretStr("second"))
        run.join(120)
    finally:
        store.stop()
        store.accept("", "")
        store.start()
    assert result[0]["dataset"] == clean.hash


def test_a_stop_ends_the_waiting(bench: Bench, proxy: Proxy) -> None:
    x = attempt(bench)
    proxy.fault = lambda path, reply: Reply(503, {}, b"")
    ended: list[BaseException] = []

    def work() -> None:
        try:
            perform(x, prepare.PREPARE)
        except Stopped as stopped:
            ended.append(stopped)

    run = threading.Thread(target=work)
    run.start()
    wait_for_a_pause(x)
    asked = time.monotonic()
    x.run.request_stop()
    run.join(30)
    assert ended and time.monotonic() - asked < 5


def test_a_wrong_key_and_a_missing_bucket_are_errors_at_once(bench: Bench, store: Store, proxy: Proxy) -> None:
    text = bench.recipe.read_text()
    store.connect(Workspace.default(), "wrong", endpoint=proxy.address, secret_key="wrong")
    for wrong in (text.replace("connection: store", "connection: wrong"), text.replace(BUCKET, "no-such-bucket")):
        bench.recipe.write_text(wrong)
        x = attempt(bench)
        with pytest.raises(DataError, match=r"secret key is not|no such"):
            perform(x, prepare.PREPARE)
        assert [event["state"] for event in states(x)] == ["starting", "running"]
