"""The Studio under load: users who browse, points that come in, long series, many runs, starts that collide.

A real ``rewarm studio`` process over a workspace of its own, asked over HTTP; its runs are files that are written here.
In turn: how soon the server answers and what it holds while idle; how long the index of all runs takes to be made
from the folders, and the query of their list; a series of a million points; users who each ask once a second (the
list, a run, its metrics, a series, its log, models); points that several runs write into their records at the wanted
rate, all of which must be in the store afterwards, once; simultaneous starts of one pipeline, of which one may count.

    python benchmarks/studio.py [--quick] [--json [PATH]] [--database-url postgresql://...]

No peer is measured: servers that record runs keep no runs of their own, and those that do start them in another way.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder: its tokenize.py would hide the standard library's

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import re
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil

from rewarm.core.events import EventLog
from rewarm.core.run import Run, claim, create_run
from rewarm.core.workspace import Workspace
from rewarm.studio.background import ship
from rewarm.studio.context import OWNER, Role, Studio, User, open_studio
from rewarm.studio.service import accounts, metrics, pipelines, runs
from rewarm.studio.store import points
from rewarm.studio.store.accounts import user_named

METRICS = ("train/loss", "train/lr", "train/grad_norm", "perf/tokens_per_second")
PAGES = (
    "runs?limit=50",
    "runs/{run}",
    "runs/{run}/metrics",
    "runs/{run}/metrics/train/loss",
    "runs/{run}/log",
    "models",
)
WRITERS = 5
RECIPE = "name: starts\nbase_model: none/none\ndata: {sources: [{name: text, path: s3://nowhere/text}]}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of all: half a minute")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; SQLite when not given")
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(Run(Path(arguments.write[0])), float(arguments.write[1]), float(arguments.write[2]))
        return
    scale = 10 if arguments.quick else 1
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch))
        figures = measure(workspace, arguments.database_url, scale)
    figures["machine"] = f"{psutil.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    for name, value in figures.items():
        print(f"{name:34}{value}")
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure(workspace: Workspace, database_url: str | None, scale: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"peer": "none measured", "database": "PostgreSQL" if database_url else "SQLite"}
    with serve(workspace, database_url) as (_, seconds, process):
        time.sleep(10 / scale)
        figures |= {"start_s": seconds, "idle_mb": round(process.memory_full_info().uss / 1e6)}
    studio = open_studio(workspace, database_url)
    figures |= many_runs(studio, 10_000 // scale)
    figures |= long_series(studio, 1_000_000 // scale)
    accounts.add_user(studio, OWNER, "bench", Role.editor)
    with studio.database.read() as session:
        user = User(user_named(session, "bench").id, "bench", Role.editor)  # type: ignore[union-attr]
    headers = {"Authorization": f"Bearer {accounts.add_token(studio, user, 'bench', Role.editor).token}"}
    with serve(workspace, database_url) as (address, seconds, process):
        figures["start_with_runs_s"] = seconds
        ids = [run.id for run in runs.list_runs(studio, OWNER, limit=50)]
        before = sum(process.cpu_times()[:2])
        figures |= asyncio.run(browse(address, headers, ids, 200 // scale, 60 / scale))
        asked = sum(figures["browse_answers"].values())
        figures["browse_cpu_ms"] = round(1000 * (sum(process.cpu_times()[:2]) - before) / asked, 1)
        figures |= points_in(studio, 5000 / scale, 60 / scale)
        figures |= asyncio.run(collide(studio, address, headers))
        figures["server_mb"] = round(process.memory_full_info().uss / 1e6)
    studio.database.close()
    return figures


@contextlib.contextmanager
def serve(workspace: Workspace, database_url: str | None) -> Iterator[tuple[str, float, psutil.Process]]:
    """``rewarm studio`` on a free port: its address, the seconds until it answered, its process."""
    command = [sys.executable, "-m", "rewarm", "studio", "--port", "0", "--no-browser"]
    environment = {**os.environ, "REWARM_HOME": str(workspace.root)}
    if database_url:
        environment["REWARM_DATABASE_URL"] = database_url
    started = time.perf_counter()
    with (workspace.root / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    assert server.stdout
    try:
        found = re.search(r"http://[\d.:]+", server.stdout.readline())
        if not found:
            raise SystemExit(f"the server did not start:\n{(workspace.root / 'server.log').read_text()[-2000:]}")
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{found[0]}/health").status_code == 200:
                    break
            time.sleep(0.01)
        yield found[0], round(time.perf_counter() - started, 2), psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(30)


def many_runs(studio: Studio, count: int) -> dict[str, Any]:
    """Folders of runs that have ended, without the flushing that real ones do."""
    for n in range(count):
        folder = studio.workspace.runs / f"20260101T{n:06d}-run-{n % 65536:04x}"
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text("name: run\n")
        (folder / "launch.json").write_text('{"overrides": [], "folder": "/"}')
        log = [{"kind": "state", "state": "starting"}, {"kind": "state", "state": "running"}]
        log += [
            {"kind": "metric", "step": s, "tokens": s, "values": dict.fromkeys(METRICS, 1 / s)} for s in range(1, 6)
        ]
        log.append({"kind": "state", "state": "failed", "reason": "it was not meant to end well"})
        head = {"v": 1, "attempt": 1, "time": 1767225600.0, "stage": "train"}
        lines = [json.dumps({**head, "seq": seq, **event}) + "\n" for seq, event in enumerate(log, 1)]
        (folder / "events.jsonl").write_text("".join(lines))
        (folder / "log.txt").write_text("a line of text\n" * 200)
    begin = time.perf_counter()
    ship.ship_all(studio)
    made = time.perf_counter() - begin
    lists = timed(lambda: runs.list_runs(studio, OWNER, limit=100), 50)
    texts = timed(lambda: runs.list_runs(studio, OWNER, text="ff", limit=100), 20)
    look = timed(lambda: ship.ship_all(studio), 3)
    return {"runs": count, "index_made_s": round(made, 1), "look_ms": look, "list_ms": lists, "list_by_text_ms": texts}


def long_series(studio: Studio, count: int) -> dict[str, Any]:
    run = create_run(studio.workspace, "long", "name: long\n", [], Path("/"))
    chance = random.Random(0)
    begin = time.perf_counter()
    for first in range(1, count, 50_000):
        some = [("train/loss", step, step, chance.random()) for step in range(first, min(count + 1, first + 50_000))]
        with studio.database.write() as session:
            points.add_points(session, run.id, some)
    added = time.perf_counter() - begin
    whole = timed(lambda: metrics.series(studio, OWNER, [run.id], "train/loss", None, None, 500), 9)
    part = timed(lambda: metrics.series(studio, OWNER, [run.id], "train/loss", count // 3, count // 2, 500), 9)
    return {"points": count, "points_added_per_s": round(count / added), "series_ms": whole, "series_sixth_ms": part}


def timed(work: Callable[[], object], times: int) -> float:
    """Milliseconds, the median."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return round(1000 * statistics.median(taken), 1)


async def browse(address: str, headers: dict[str, str], ids: list[str], users: int, seconds: float) -> dict[str, Any]:
    """Users who ask once a second each, at moments of their own."""
    taken: dict[str, list[float]] = {}
    answers: Counter[int] = Counter()
    until = time.perf_counter() + seconds

    def page(chance: random.Random) -> tuple[str, str]:
        path = chance.choice(PAGES)
        return path, path.format(run=chance.choice(ids))

    async def user(client: httpx.AsyncClient, seed: int) -> None:
        chance = random.Random(seed)
        await asyncio.sleep(chance.random())
        while (begin := time.perf_counter()) < until:
            kind, path = page(chance)
            answers[(await client.get(f"/api/v1/{path}")).status_code] += 1
            taken.setdefault(kind, []).append(time.perf_counter() - begin)
            await asyncio.sleep(max(0.0, 1 - (time.perf_counter() - begin)))

    limits = httpx.Limits(max_connections=users, max_keepalive_connections=users)
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30, limits=limits) as client:
        await asyncio.gather(*(user(client, seed) for seed in range(users)))
    every = [seconds for some in taken.values() for seconds in some]
    cuts = statistics.quantiles(every, n=100)
    p50, p95, p99 = (round(1000 * cuts[n - 1], 1) for n in (50, 95, 99))
    medians = {path: round(1000 * statistics.median(some), 1) for path, some in sorted(taken.items())}
    figures = {"browsing_users": users, "browse_requests_per_s": round(len(every) / seconds, 1)}
    figures |= {"browse_p50_ms": p50, "browse_p95_ms": p95, "browse_p99_ms": p99}
    return figures | {"browse_medians_ms": medians, "browse_answers": dict(answers)}


def points_in(studio: Studio, rate: float, seconds: float) -> dict[str, Any]:
    """Runs that write their records, each a process of its own; when all points of the last are in the store."""
    writing = [create_run(studio.workspace, f"writer{n}", "name: writer\n", [], Path("/")) for n in range(WRITERS)]
    per_writer = rate / WRITERS / len(METRICS)
    begin = time.perf_counter()
    arguments = [[str(run.path), str(per_writer), str(seconds)] for run in writing]
    children = [
        subprocess.Popen([sys.executable, __file__, "--write", *some], stdout=subprocess.PIPE, text=True)
        for some in arguments
    ]
    slowest = max(float(child.communicate()[0]) for child in children)
    took = time.perf_counter() - begin
    wanted = {run.id: sum(len(p) for p in in_record(run).values()) for run in writing}
    ended = time.perf_counter()
    stored: dict[str, int] = {}
    while stored != wanted and time.perf_counter() - ended < 60:
        time.sleep(0.1)
        stored = {run.id: in_store(studio, run) for run in writing}
    return {
        "points_in_per_s": round(sum(wanted.values()) / took),
        "points_in": sum(wanted.values()),
        "points_lost": sum(wanted.values()) - sum(stored.values()),
        "points_late_s": round(time.perf_counter() - ended, 1),
        "event_write_p99_ms": slowest,
    }


def write(run: Run, rate: float, seconds: float) -> None:
    """Be a run that writes ``rate`` metric events a second; prints the 99th percentile of a write, in ms."""
    claim(run)
    log, step, taken = EventLog(run.events, 1), 0, []
    log.state("starting")
    log.state("running")
    begin = time.perf_counter()
    while (now := time.perf_counter() - begin) < seconds:
        while step < now * rate:
            step += 1
            before = time.perf_counter()
            log.metric(step, step * 1000, dict.fromkeys(METRICS, 1 / step))
            taken.append(time.perf_counter() - before)
        time.sleep(0.005)
    log.state("failed", reason="it was not meant to end well")
    print(round(1000 * statistics.quantiles(taken, n=100)[98], 3))


def in_record(run: Run) -> dict[str, list[tuple[int, int, float]]]:
    from rewarm.core.events import metrics, read_events

    return metrics(event for event, _ in read_events(run.events))


def in_store(studio: Studio, run: Run) -> int:
    """Points of a run; each counts once, for name and step are its key."""
    total = 0
    with studio.database.read() as session:
        for number in points.numbers(session, run.id).values():
            total += sum(bucket.points for bucket in points.series(session, number, buckets=1))
    return total


async def collide(studio: Studio, address: str, headers: dict[str, str]) -> dict[str, Any]:
    """Fifty who start one pipeline in the same moment."""
    pipelines.create(studio, OWNER, name="starts", recipe=RECIPE)
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as client:
        asked = [client.post("/api/v1/pipelines/starts/runs", json={}) for _ in range(50)]
        answers = Counter(answer.status_code for answer in await asyncio.gather(*asked))
    made = [path for path in studio.workspace.runs.iterdir() if "-starts-" in path.name]
    for path in made:
        Run(path).request_stop()
    return {"starts_answers": dict(answers), "starts_runs_made": len(made)}


if __name__ == "__main__":
    main()
