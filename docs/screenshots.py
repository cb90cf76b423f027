"""Pictures of every page, from a Studio with real content: a base model, texts, an S3 server, runs that ended and live.

    python docs/screenshots.py FOLDER LAW.jsonl [--only NAME...] [--variants en-light-1280 ...]

Each page at 1280 and 390 pixels, light and dark, in English and Vietnamese, into FOLDER/pictures, of which some stand
in docs/pictures; the workspace stays in FOLDER and serves again the next time. Needs the test dependencies and Debian's
chromium. LAW.jsonl is the quickstart's (``rewarm quickstart`` leaves it in its folder).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import argparse
import itertools
import time
from collections.abc import Iterable
from functools import partial

import orjson
from playwright.sync_api import Browser, Page, sync_playwright
from tests.servers import Store, free_port, serving_store
from tests.studio.ui.conftest import CHROMIUM, Site, sign_in
from tests.studio.ui.lived_in import LivedIn, connect, move_in, start_long

from rewarm.cli.quickstart import write_english
from rewarm.core.run import list_runs
from rewarm.core.workspace import Workspace
from rewarm.studio.ui.words import say

VARIANTS = ["-".join(parts) for parts in itertools.product(("en", "vi"), ("light", "dark"), ("1280", "390"))]
EMPTY = ("/", "/data", "/pipelines", "/runs", "/compare", "/models", "/playground", "/sign-in")


def _to_step(number: int, page: Page, language: str) -> None:
    page.locator(".q-stepper__tab").nth(number).click()  # the draft remembers where it was left
    page.wait_for_timeout(1000)


def _write(page: Page, language: str) -> None:
    page.get_by_label(say(language, "playground.prompt")).fill("Điều 15. Quyền và nghĩa vụ của")
    page.get_by_role("button", name=say(language, "playground.write"), exact=True).click()
    page.wait_for_function("document.querySelectorAll('.rw-written')[1].innerText.length > 120", timeout=90_000)


SCENES = {"wizard-training": partial(_to_step, 2), "wizard-review": partial(_to_step, 4), "playground": _write}
"""What is done on a page before its picture is taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("law", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="names of pages")
    parser.add_argument("--variants", nargs="*", default=VARIANTS)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "s3").mkdir(exist_ok=True)
    with serving_store(folder / "s3") as store, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        site = _site(folder / "home")
        empty = _site(folder / "empty")
        try:
            made = _content(site, store, folder, arguments.law)
            made.live = start_long(site)
            time.sleep(20)  # it gets a curve
            paths = made.paths()
            paths["wizard-review"] = paths["wizard-training"]
            _shoot(browser, site, paths.items(), arguments)
            _shoot(browser, empty, ((f"empty{path.replace('/', '-')}", path) for path in EMPTY), arguments)
        finally:
            for run in list_runs(Workspace(site.home)):
                run.request_stop()
            site.stop()
            empty.stop()


def _site(home: Path) -> Site:
    home.mkdir(exist_ok=True)
    site = Site(home, free_port())
    site.start()
    return site


def _content(site: Site, store: Store, folder: Path, law: Path) -> LivedIn:
    connect(site, store)
    kept = folder / "made.json"
    if kept.is_file():
        return LivedIn(**orjson.loads(kept.read_bytes()))
    write_english(folder)
    lines = law.read_bytes().splitlines(keepends=True)
    for number in range(4):
        store.put(f"law/part-{number + 1}.jsonl", b"".join(lines[number * 50 : (number + 1) * 50]))
    texts = {"law": lines[:1200], "english": (folder / "python-en.jsonl").read_bytes().splitlines()}
    texts["packages"] = (folder / "packages-en.jsonl").read_bytes().splitlines()
    told = {name: [orjson.loads(line)["text"] for line in some] for name, some in texts.items()}
    made = move_in(site, folder, told, epochs=2)
    kept.write_bytes(orjson.dumps(made))
    return made


def _shoot(browser: Browser, site: Site, paths: Iterable[tuple[str, str]], arguments: argparse.Namespace) -> None:
    page = sign_in(browser, site)
    page.set_default_timeout(120_000)
    chosen = [(name, path) for name, path in paths if not arguments.only or name in arguments.only]
    for variant in arguments.variants:
        language, theme, width = variant.split("-")
        cookies = {"rewarm_language": language, "rewarm_theme": theme}
        page.context.add_cookies([{"name": name, "value": value, "url": site.url} for name, value in cookies.items()])
        page.set_viewport_size({"width": int(width), "height": 844})
        for name, path in chosen:
            page.goto(site.url + path)
            page.wait_for_selector("h1")
            page.wait_for_function("[...document.querySelectorAll('figure')].every((figure) => figure.dataset.drawn)")
            if name in SCENES:
                SCENES[name](page, language)
                page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_timeout(500)
            page.screenshot(
                timeout=120_000, path=arguments.folder / "pictures" / f"{name}-{variant}.png", full_page=True
            )
    page.context.close()


if __name__ == "__main__":
    main()
