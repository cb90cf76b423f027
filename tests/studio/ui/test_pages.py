"""Every page over a workspace with a run: it opens, fits a phone, passes axe, and takes no text of ours for HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from rewarm.core.workspace import Workspace
from tests.studio.run_files import new_run, write_events
from tests.studio.ui.conftest import Site, sign_in

HOSTILE = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><svg onload=window.hit=1>',
    "javascript:window.hit=1",
    "{{constructor.constructor('window.hit=1')()}}",
    "<a href='javascript:window.hit=1'>x</a>",
    "</textarea><script>window.hit=1</script>",
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "${window.hit=1}",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.hit=1>",
]
PATHS = [
    *("/", "/runs", "/runs/{run}", "/compare?run={run},{other}", "/data", "/pipelines", "/pipelines/new", "/models"),
    *(f"/runs/{{run}}?tab={tab}" for tab in ("system", "logs", "events", "checkpoints", "report", "configuration")),
    *("/playground", "/settings"),
    *(f"/settings?tab={tab}" for tab in ("users", "mail", "webhooks", "storage", "rules", "audit")),
]
GRAVE = ("serious", "critical")
RULES = {"runOnly": ["wcag2a", "wcag2aa"]}


@pytest.fixture(scope="module")
def runs(site: Site) -> list[str]:
    """Two runs that failed, whose texts are hostile wherever anybody may write."""
    made = []
    for _ in range(2):
        run = new_run(Workspace(site.home))
        run.recipe.write_text("name: tiny\n" + "".join(f"# {text}\n" for text in HOSTILE), encoding="utf-8")
        write_events(run, {step: 3.0 / step for step in range(1, 40)}, "failed")
        run.log.write_text("\n".join(HOSTILE) + "\n", encoding="utf-8")
        made.append(run.id)
    return made


@pytest.fixture(scope="module")
def opened(chromium: Browser, site: Site, runs: list[str]) -> Iterator[Page]:
    page = sign_in(chromium, site, viewport={"width": 1280, "height": 800})
    yield page
    page.context.close()


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_accessible_fits_a_phone_and_runs_nothing_of_the_data(
    opened: Page, site: Site, runs: list[str], path: str
) -> None:
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.set_viewport_size({"width": 1280, "height": 800})
    opened.goto(site.url + path.format(run=runs[0], other=runs[1]))
    opened.wait_for_selector(".rw-page h1")
    opened.wait_for_timeout(300)
    found = Axe().run(opened, options=RULES)
    bad = [
        (v["id"], v["nodes"][0]["html"][:200])
        for v in found.response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert bad == []
    opened.set_viewport_size({"width": 390, "height": 800})
    opened.wait_for_timeout(200)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.evaluate("window.hit") is None and faults == []


def test_a_run_is_followed_live(opened: Page, site: Site) -> None:
    opened.set_viewport_size({"width": 1280, "height": 800})
    run = new_run(Workspace(site.home), "live")
    write_events(run, {1: 3.0, 2: 2.5})
    opened.goto(f"{site.url}/runs/{run.id}")
    expect(opened.get_by_text("running", exact=True).first).to_be_visible()
    expect(opened.locator("figure").first).to_be_visible()
    write_events(run, {3: 2.0}, "failed")
    expect(opened.get_by_text("failed", exact=True).first).to_be_visible(timeout=10_000)


def test_what_is_not_there_says_so(opened: Page, site: Site) -> None:
    opened.goto(f"{site.url}/runs/20200101T000000-none-0000")
    expect(opened.get_by_text(re.compile("there is no such run"))).to_be_visible()


def test_the_language_is_chosen_and_stays(opened: Page, site: Site) -> None:
    opened.goto(f"{site.url}/")
    opened.get_by_role("button", name="Language").click()
    opened.get_by_text("Tiếng Việt").click()
    expect(opened.get_by_role("heading", name="Tổng quan")).to_be_visible()
    opened.goto(f"{site.url}/runs")
    expect(opened.get_by_role("heading", name="Các lần chạy")).to_be_visible()
    opened.context.clear_cookies(name="rewarm_language")
