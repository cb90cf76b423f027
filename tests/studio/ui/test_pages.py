"""Every page over a workspace where people have worked: it opens, fits a phone, passes axe in both themes, and takes no
text for HTML, whoever wrote it where."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from rewarm.client import Client
from rewarm.core.errors import UserError
from rewarm.core.events import EventLog
from rewarm.core.workspace import Workspace
from rewarm.studio.service.messages import Message, as_mail
from tests.servers import Store
from tests.studio.run_files import new_run, write_events
from tests.studio.ui.conftest import Site, sign_in
from tests.studio.ui.lived_in import LivedIn, connect, documents, lines, move_in

HIT = "window.hit=1"
HOSTILE = [
    f"<script>{HIT}</script>",
    f"<SCRIPT SRC=data:text/javascript,{HIT}></SCRIPT>",
    f"<script type=module>{HIT}</script>",
    f"<scr<script>ipt>{HIT}</scr</script>ipt>",
    f"</script><script>{HIT}</script>",
    f"--></style></title></textarea><script>{HIT}</script>",
    f"</textarea><script>{HIT}</script>",
    f"]]><script>{HIT}</script>",
    f"`;{HIT};`",
    f"${{{HIT}}}",
    f"';{HIT};'",
    f'";{HIT};"',
    f"\\u003cscript\\u003e{HIT}\\u003c/script\\u003e",
    f"&lt;script&gt;{HIT}&lt;/script&gt;",
    f"&#60;img src=x onerror={HIT}&#62;",
    f"<img src=x onerror={HIT}>",
    f"<img src=x onerror={HIT}//",
    f"<IMG SRC=x OnErRoR='{HIT}'>",
    f"<img/src=x/onerror={HIT}>",
    f'"><img src=x onerror="{HIT}">',
    f"' onmouseover='{HIT}' x='",
    f'" autofocus onfocus="{HIT}" x="',
    f"<input autofocus onfocus={HIT}>",
    f'"><svg onload={HIT}>',
    f"<svg><script>{HIT}</script></svg>",
    f"<svg><animate onbegin={HIT} attributeName=x dur=1s>",
    f"<svg><a xlink:href='javascript:{HIT}'><text y=9>x</text></a></svg>",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={HIT}>",
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "<iframe src='javascript:parent.hit=1'>",
    f"<object data='javascript:{HIT}'>",
    "<embed src='data:text/html,<script>parent.hit=1</script>'>",
    f"<details open ontoggle={HIT}>",
    f"<video><source onerror={HIT}></video>",
    f"<body onload={HIT}>",
    f"<meta http-equiv=refresh content='0;url=javascript:{HIT}'>",
    f"<base href='javascript:{HIT}//'>",
    f"<a href='javascript:{HIT}'>x</a>",
    f"javascript:{HIT}",
    f'[x](javascript:{HIT})![x](x"onerror={HIT})',
    f"{{{{constructor.constructor('{HIT}')()}}}}",
    "{{$el.ownerDocument.defaultView.hit=1}}",
    f"<div v-html=\"'x'\" @vue:mounted='{HIT}' :x='{HIT}'>",
    f"<style>@import 'javascript:{HIT}';*{{background:url(javascript:{HIT})}}</style>",
]
GRAVE = ("serious", "critical")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


@pytest.fixture(scope="module")
def lived_in(site: Site, store: Store, tmp_path_factory: pytest.TempPathFactory) -> LivedIn:
    """A workspace with everything in it, and hostile text in everything that takes text."""
    connect(site, store)
    store.put("law/part-1.jsonl", lines([*HOSTILE, *documents("vi", 20)]))
    for number, text in enumerate(HOSTILE):
        store.put(f"hostile/{number}{text.replace('/', '∕')}.jsonl", lines([text]))
    texts = {"law": [*documents("vi", 300), *HOSTILE], "english": documents("en", 200), "packages": HOSTILE}
    made = move_in(site, tmp_path_factory.mktemp("scratch"), texts, card="\n\n".join(HOSTILE))
    client = Client(site.url, site.rewarm("studio", "token").strip())
    for number, text in enumerate(HOSTILE):
        _say_everywhere(client, number, text, made.succeeded)
    _write_into_files(site, made)
    live = new_run(Workspace(site.home), "live")
    write_events(live, {1: 3.0, 2: 2.5})
    made.live = live.id
    return made


def _say_everywhere(client: Client, number: int, text: str, run: str) -> None:
    """Put the text into every string of the API that anybody may fill; some refuse it."""
    recipe = f"name: x\nbase_model: 'x{number}'\ndata: {{sources: [{{name: a, path: b}}]}}\n# {text}\n"
    webhook = {"name": "x", "url": "https://example.com/", "every_run": False}
    for method, path, body in (
        ("post", "/pipelines", {"name": text[:90], "recipe": recipe}),
        ("post", "/pipelines", {"name": f"hostile-{number}", "description": text, "recipe": recipe}),
        ("post", "/tokens", {"name": text}),
        ("post", "/users", {"name": text[:60], "role": "viewer"}),
        ("post", "/users", {"name": f"user{number}", "role": "viewer", "email": f"{text}@example.com"}),
        ("post", "/uploads", {"text": text[:90], "file": "x.jsonl", "bytes": 9}),
        ("post", "/uploads", {"text": "hostile", "file": f"{text[:200]}.jsonl", "bytes": 9}),
        ("post", "/connections", {"name": text[:60], "connection": {"kind": "http"}}),
        ("post", "/connections", {"name": f"web-{number}", "connection": {"kind": "http", "endpoint": text}}),
        ("put", "/models/legal-vi@1/tags", {text[:60]: text, "note": text}),
        ("put", f"/models/legal-vi/aliases/{quote(text[:60], safe='')}", {"version": 1}),
        ("put", "/webhooks", {**webhook, "name": text[:60]}),
        ("put", "/webhooks", {**webhook, "name": f"hook{number}", "url": f"https://example.com/{text}"}),
        ("post", f"/runs/{run}/stop", {"reason": text}),
        ("put", "/settings/folders", {"readable": [f"/{text}"]}),
        ("post", "/runs", {"recipe": recipe, "overrides": [f"name={text}"]}),
    ):
        with contextlib.suppress(UserError):
            getattr(client, method)(path, body)


def _write_into_files(site: Site, made: LivedIn) -> None:
    """What an engine, a data set or a person with a shell may leave in the workspace's files."""
    workspace = Workspace(site.home)
    run = new_run(workspace)
    run.recipe.write_text("name: tiny\n" + "".join(f"# {text}\n" for text in HOSTILE), encoding="utf-8")
    run.log.write_text("\n".join(HOSTILE) + "\n", encoding="utf-8")
    write_events(run, {step: 3.0 / step for step in range(1, 40)})
    log = EventLog(run.events, 1)
    log.stage = HOSTILE[0]
    for number, text in enumerate(HOSTILE):
        log.warning(text)
        log.metric(40 + number, 1, {f"eval/{text}": 1.0})
    log.state("failed", reason=" ".join(HOSTILE))
    log.close()
    (run.path / "process.json").unlink()
    page = f"/runs/{quote(run.id)}"
    made.others.update({f"hostile-{tab}": f"{page}?tab={tab}" for tab in ("events", "logs", "configuration")})
    made.others.update(
        {"hostile-run": page, "hostile-folder": "/data/connections/lake?uri=s3://corpora/hostile/",
         "hostile-file": "/data/connections/lake?uri=s3://corpora/law/part-1.jsonl",
         "hostile-model": "/models/small@1", "hostile-pipeline": "/pipelines/of/hostile-3"}
    )  # fmt: skip


@pytest.fixture(scope="module")
def opened(chromium: Browser, site: Site, lived_in: LivedIn) -> Iterator[Page]:
    page = sign_in(chromium, site, viewport={"width": 1280, "height": 800})
    yield page
    page.context.close()


HOSTILE_PAGES = ("run", "events", "logs", "configuration", "folder", "file", "model", "pipeline")
NAMES = [*LivedIn(*[""] * 4).paths(), *(f"hostile-{name}" for name in HOSTILE_PAGES)]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_accessible_fits_a_phone_and_runs_nothing_of_the_data(
    opened: Page, site: Site, lived_in: LivedIn, name: str
) -> None:
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.set_viewport_size({"width": 1280, "height": 800})
    opened.goto(site.url + {**lived_in.paths(), **lived_in.others}[name])
    opened.wait_for_selector(".rw-page h1")
    opened.wait_for_function("!document.querySelector('.q-btn .q-spinner')")  # a button at work is pale
    opened.wait_for_timeout(500)
    bad = {}
    for _ in range(2):
        found = Axe().run(opened, options=RULES).response["violations"]
        bad |= {(opened.evaluate("document.documentElement.dataset.theme"), v["id"]): v["nodes"][0]["html"][:200]
                for v in found if v["impact"] in GRAVE}  # fmt: skip
        opened.evaluate("turnTheme()")
        opened.wait_for_timeout(400)  # until colours have changed
    assert bad == {}
    opened.set_viewport_size({"width": 390, "height": 800})
    opened.wait_for_function("document.documentElement.scrollWidth <= 390")  # charts follow the window a moment later
    frames = [frame.evaluate("window.hit") for frame in opened.frames]
    assert frames == [None] * len(frames) and faults == []


@pytest.mark.parametrize(
    "address", ["/runs/{}", "/compare?run={0},{0}", "/runs/{run}?tab={}", "/data/connections/{}", "/data/texts/{}",
                "/data/datasets/{}", "/data/connections/lake?uri={}", "/pipelines/of/{}", "/pipelines/new?edit={}",
                "/pipelines/new?base_model={}", "/models/{}", "/playground?model={}", "/settings?tab={}", "/{}"],
)  # fmt: skip
def test_an_address_runs_nothing(opened: Page, site: Site, lived_in: LivedIn, address: str) -> None:
    for text in HOSTILE[::15]:
        opened.goto(site.url + address.format(quote(text, safe=""), run=lived_in.succeeded))
        opened.wait_for_timeout(200)
        assert opened.evaluate("window.hit") is None, text


def test_a_mail_runs_nothing(chromium: Browser) -> None:
    """Shown without any policy, as a careless mail program would."""
    message = Message(1, "failed", "Rewarm: x has failed", HOSTILE, "http://127.0.0.1/runs/x", {"time": 0.0})
    part = as_mail(message, "rewarm@example.com", "mai@example.com").get_body(("html",))
    assert part is not None
    page = chromium.new_page()
    page.set_content(part.get_content())
    page.wait_for_timeout(500)
    assert page.evaluate("window.hit") is None
    assert all(text in page.inner_text("body") for text in HOSTILE[:3])
    page.close()


def test_the_policy_stops_what_would_slip_through(opened: Page, site: Site) -> None:
    """Should markup of somebody else ever get into a page, its handlers and scripts still do not run."""
    opened.goto(site.url)
    opened.wait_for_selector(".rw-page h1")
    opened.evaluate(
        "(texts) => { for (const text of texts) document.body.insertAdjacentHTML('beforeend', text); }", HOSTILE
    )
    opened.evaluate(f"document.body.append(Object.assign(document.createElement('script'), {{textContent: '{HIT}'}}))")
    opened.wait_for_timeout(500)
    assert opened.evaluate("window.hit") is None
    opened.goto(site.url)


def test_a_run_is_followed_live(opened: Page, site: Site, lived_in: LivedIn) -> None:
    """Two tabs agree, and neither is reloaded."""
    opened.set_viewport_size({"width": 1280, "height": 800})
    run = new_run(Workspace(site.home), "live")
    write_events(run, {1: 3.0, 2: 2.5})
    other = opened.context.new_page()
    for page in (opened, other):
        page.goto(f"{site.url}/runs/{run.id}")
        expect(page.get_by_text("running", exact=True).first).to_be_visible()
        expect(page.locator("figure[data-last='2']").first).to_be_visible()
    with opened.expect_request(re.compile("/stream[?]after=[1-9]")):  # and what the store has does not come again
        opened.reload()
    expect(opened.locator("figure[data-last='2']").first).to_be_visible()
    _look(opened, False)  # a tab in the background holds no connection
    write_events(run, {3: 2.2})
    expect(other.locator("figure[data-last='3']").first).to_be_visible()
    assert opened.locator("figure[data-last='2']").count()
    _look(opened, True)
    expect(opened.locator("figure[data-last='3']").first).to_be_visible()
    write_events(run, {4: 2.0}, "failed")
    for page in (opened, other):
        expect(page.locator("figure[data-last='4']").first).to_be_visible()
        expect(page.get_by_text("failed", exact=True).first).to_be_visible(timeout=10_000)
    other.close()


def _look(page: Page, at: bool) -> None:
    """Tell the page that somebody looks at it, or no longer does."""
    hidden = "Object.defineProperty(document, 'hidden', {configurable: true, value: %s})" % ("false" if at else "true")
    page.evaluate(f"() => {{ {hidden}; document.dispatchEvent(new Event('visibilitychange')); }}")


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
