"""The Studio's pages in a real Chromium: how soon they can be used, a point is seen, charts are drawn; many tabs.

A real ``rewarm studio`` process on loopback, its runs files that are written here. In turn: the first page in a browser
with nothing cached, and again with; a live run's points from being logged to standing in the chart; ten runs of 100,000
points in one chart, drawn and zoomed; then open tabs (the page fetched, its socket held, as a browser does) on pages
that keep themselves up to date, while other pages are opened one after another.

    python benchmarks/pages.py [--quick] [--json [PATH]]

Needs Debian's chromium, which takes part of the machine itself. No peer is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder: its tokenize.py would hide the standard library's

import argparse
import asyncio
import json
import os
import platform
import random
import re
import statistics
import tempfile
import time
import uuid
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psutil
import websockets
from benchmarks.studio import serve
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from tests.studio.ui.conftest import CHROMIUM

from rewarm.core.events import EventLog
from rewarm.core.run import Run, claim, create_run
from rewarm.core.workspace import Workspace
from rewarm.studio.background import ship
from rewarm.studio.context import OWNER, Studio, open_studio
from rewarm.studio.service import accounts
from rewarm.studio.store import points

COOKIE = "rewarm_session"
USABLE = "window.did_handshake && document.querySelector('.rw-page h1') !== null"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of all: half a minute")
    parser.add_argument("--json", nargs="?", const="-", metavar="PATH", help="write the figures as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Workspace(Path(scratch)), 10 if arguments.quick else 1)
    figures["machine"] = f"{psutil.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    for name, value in figures.items():
        print(f"{name:28}{value}")
    if arguments.json == "-":
        print(json.dumps(figures, indent=2))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure(workspace: Workspace, scale: int) -> dict[str, Any]:
    studio = open_studio(workspace)
    accounts.first_link(studio)
    many = [_ended_run(studio, number, 100_000 // scale) for number in range(10)]
    live = create_run(workspace, "live", "name: live\n", [], Path("/"))
    with serve(workspace, None) as (address, _, process):
        secret = accounts.sign_in_by_link(studio, accounts.new_link(studio, OWNER, "admin").url.partition("#key=")[2])[
            1
        ]
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            figures = {"browser": browser.version, **first_pages(browser, address, secret, 3 if scale > 1 else 10)}
            context = signed_in(browser, address, secret)
            figures |= live_points(context.new_page(), address, live, 20 // scale + 1)
            figures |= charts(context.new_page(), address, many)
            browser.close()
        figures |= asyncio.run(tabs(address, secret, many, 100 // scale, 60 / scale))
        figures["server_mb"] = round(process.memory_full_info().uss / 1e6)
    studio.database.close()
    return figures


def _ended_run(studio: Studio, number: int, count: int) -> str:
    """A run with ``count`` points of a loss in the store."""
    run = create_run(studio.workspace, f"long-{number}", f"name: long-{number}\n", [], Path("/"))
    log = EventLog(run.events, 1)
    for state in ("starting", "running", "failed"):
        log.state(state)
    log.close()
    ship.ship_all(studio)
    chance = random.Random(number)
    for first in range(1, count, 50_000):
        steps = range(first, min(count + 1, first + 50_000))
        some = [("train/loss", step, step, 2 + number / 10 + 3 / step**0.3 + chance.gauss(0, 0.1)) for step in steps]
        with studio.database.write() as session:
            points.add_points(session, run.id, some)
    return run.id


def signed_in(browser: Browser, address: str, secret: str) -> BrowserContext:
    """A browser of its own, with nothing cached."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": COOKIE, "value": secret, "url": address}])
    return context


def first_pages(browser: Browser, address: str, secret: str, rounds: int) -> dict[str, Any]:
    """Seconds from asking for the overview until it stands there and answers."""
    cold, warm = [], []
    for _ in range(rounds):
        context = signed_in(browser, address, secret)
        page = context.new_page()
        cold.append(_open(page, address))
        warm.append(_open(page, address))
        context.close()
    return {"first_page_s": round(statistics.median(cold), 2), "first_page_worst_s": round(max(cold), 2),
            "next_page_s": round(statistics.median(warm), 2)}  # fmt: skip


def _open(page: Page, address: str) -> float:
    begin = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(USABLE)
    return time.perf_counter() - begin


def live_points(page: Page, address: str, run: Run, count: int) -> dict[str, Any]:
    """Seconds from the return of ``EventLog.metric`` until the chart has drawn the point."""
    claim(run)
    log, taken = EventLog(run.events, 1), []
    log.state("starting")
    log.state("running")
    log.metric(1, 100, {"train/loss": 3.0})
    page.goto(f"{address}/runs/{quote(run.id)}")
    page.locator("figure[data-last='1']").wait_for()
    for step in range(2, count + 2):
        time.sleep(random.random())  # not in step with the loops of the server
        log.metric(step, step * 100, {"train/loss": 3 / step})
        begin = time.perf_counter()
        page.wait_for_function(f"document.querySelector('figure').dataset.last === '{step}'", polling=20)
        taken.append(time.perf_counter() - begin)
    log.state("failed", reason="it was not meant to end well")
    log.close()
    return {"live_point_s": round(statistics.median(taken), 2), "live_point_worst_s": round(max(taken), 2)}


DRAWN = "Number(document.querySelector('figure').dataset.drawn ?? 0)"
FRAME = (
    "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(performance.now()))))"
)


def charts(page: Page, address: str, runs: list[str]) -> dict[str, Any]:
    """Ten runs in one chart: until it is drawn; after a drag, until the next frame, and until finer points come."""
    page.goto(f"{address}/compare?run={quote(','.join(runs), safe=',')}", wait_until="commit")
    page.wait_for_function("document.querySelector('figure') !== null", polling=10)
    begin = time.perf_counter()
    page.wait_for_function(f"{DRAWN} > 0", polling=10)
    drawn = time.perf_counter() - begin
    box = page.locator("figure canvas").first.bounding_box()
    assert box
    frames, finer = [], []
    for share in (0.6, 0.5, 0.4):
        before = page.evaluate(DRAWN)
        x, y = box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + box["width"] * share, y, steps=5)
        page.mouse.up()
        begin = time.perf_counter()
        page.evaluate(FRAME)
        frames.append(time.perf_counter() - begin)
        page.wait_for_function(f"{DRAWN} > {before}", polling=10)
        finer.append(time.perf_counter() - begin)
    return {"chart_drawn_s": round(drawn, 2), "zoom_frame_ms": round(1000 * max(frames)),
            "zoom_finer_points_s": round(max(finer), 2)}  # fmt: skip


async def tabs(address: str, secret: str, runs: list[str], count: int, seconds: float) -> dict[str, Any]:
    """Open tabs that stay open, and meanwhile a page opened every half second: how long each took to come."""
    paths = ["/", "/runs", "/models", "/data", "/pipelines", *(f"/runs/{quote(run)}" for run in runs)]
    taken: list[float] = []
    async with httpx.AsyncClient(base_url=address, cookies={COOKIE: secret}, timeout=60) as client:
        held = [await _tab(client, address, secret, paths[number % len(paths)]) for number in range(count)]
        readers = [asyncio.create_task(_hold(socket)) for socket in held]
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            begin = time.perf_counter()
            (await client.get(random.choice(paths))).raise_for_status()
            taken.append(time.perf_counter() - begin)
            await asyncio.sleep(max(0.0, 0.5 - taken[-1]))
        for reader in readers:
            reader.cancel()
        received = await asyncio.gather(*readers, return_exceptions=True)
        lost = sum(isinstance(end, Exception) for end in received)
        for socket in held:
            await socket.close()
    cuts = statistics.quantiles(taken, n=100)
    return {
        "open_tabs": count,
        "tabs_lost": lost,
        "page_p50_ms": round(1000 * cuts[49]),
        "page_p95_ms": round(1000 * cuts[94]),
    }


async def _tab(client: httpx.AsyncClient, address: str, secret: str, path: str) -> Any:
    """What a browser does with a page: fetch it, open its socket."""
    text = (await client.get(path)).raise_for_status().text
    client_id, message = (
        re.search(r"client_id'?\"?: ['\"]([\w-]+)", text),
        re.search(r"next_message_id'?\"?: (\d+)", text),
    )
    assert client_id and message, text[-2000:]
    query = {"client_id": client_id[1], "next_message_id": message[1], "implicit_handshake": "true", "EIO": 4}
    query |= {"tab_id": str(uuid.uuid4()), "document_id": str(uuid.uuid4()), "transport": "websocket"}
    target = f"{address.replace('http', 'ws', 1)}/_nicegui_ws/socket.io/?{urlencode(query)}"
    socket = await websockets.connect(
        target, additional_headers={"Cookie": f"{COOKIE}={secret}"}, origin=address, max_size=None, ping_interval=None
    )
    await socket.recv()
    await socket.send("40")
    answer = await socket.recv()
    assert str(answer).startswith("40"), answer
    return socket


async def _hold(socket: Any) -> None:
    """Answer the server's pings, as a browser does."""
    async for message in socket:
        if message == "2":
            await socket.send("3")


if __name__ == "__main__":
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    main()
