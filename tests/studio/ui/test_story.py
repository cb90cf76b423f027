"""The whole story in a real browser: from the first start and a bucket of Vietnamese text to a better model on disk.

Real parts all the way: server, Chromium, SeaweedFS, a mail server, the engine. In the middle the server is killed and
started again while the run goes on, the tab is closed and another opened, and a second user looks on.
"""

from __future__ import annotations

import re
import tarfile
import time
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from playwright.sync_api import Browser, Page, expect
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.core.run import list_runs
from rewarm.core.workspace import Workspace
from tests.pipeline.conftest import make_model
from tests.recipe.conftest import REFERENCE_JSON
from tests.servers import KEY, SECRET, Inbox, Store, free_port
from tests.studio.ui.conftest import Site, sign_in
from tests.studio.ui.lived_in import documents, lines

IGNORED = ("checkpoint_steps", "eval_steps", "zero_stage", "lora_alpha", "pref_loss", "simpo_gamma")


@pytest.fixture(scope="module")
def bucket(store: Store) -> Store:
    store.put("law/vi-1.jsonl", lines(documents("vi", 60)))
    store.put("english/en-1.jsonl", lines(documents("en", 60)))
    store.put("english/watched.jsonl", lines(documents("en", 20, seed=1)))
    return store


@pytest.fixture(scope="module")
def mail() -> Controller:
    server = Controller(Inbox(), hostname="127.0.0.1", port=free_port())
    server.start()
    yield server
    server.stop()


def press(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_timeout(300)


def first_sign_in(chromium: Browser, site: Site) -> Page:
    """By the link that the first start printed, which works once."""
    link = re.search(r"http://\S+#key=\S+", (site.home / "server.txt").read_text())
    assert link is not None
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(30_000)
    page.goto(link[0])
    page.get_by_role("button").click()
    expect(page.get_by_text("Nothing has run here yet.")).to_be_visible()
    other = chromium.new_page()
    other.goto(link[0])
    other.get_by_role("button").click()
    expect(other.get_by_role("alert")).not_to_be_empty()
    other.close()
    return page


def allow_and_set_mail(page: Page, site: Site, store: Store, mail: Controller) -> None:
    """What an administrator sets: hosts inside, and the mail server."""
    page.goto(f"{site.url}/settings?tab=rules")
    hosts = f"{store.address.removeprefix('http://')}\nlocalhost:{mail.port}"
    page.get_by_label("Hosts beyond public ones that it may connect to").fill(hosts)
    page.get_by_role("button", name="Save").first.click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    page.goto(f"{site.url}/settings?tab=mail")
    for field, value in {"host": "localhost", "port": str(mail.port), "sender": "rewarm@example.com"}.items():
        page.get_by_label(field, exact=True).fill(value)
    page.get_by_label("starttls").click()
    page.get_by_role("option", name="false").click()
    press(page, "Save")
    expect(page.get_by_text("Saved.")).to_be_visible()


def connect(page: Page, site: Site, store: Store) -> None:
    """A connection, the folder behind it, the first documents of a file."""
    page.goto(f"{site.url}/data")
    press(page, "Create connection")
    dialog = page.get_by_role("dialog")
    for label, value in {
        "Name": "lake", "Endpoint URL": store.address, "Access key": KEY, "Secret key": SECRET,
    }.items():  # fmt: skip
        dialog.get_by_label(label).fill(value)
    press(page, "Save")
    page.wait_for_url("**/data/connections/lake*")
    page.get_by_label("Address").fill("s3://corpora/law/")
    press(page, "Open")
    page.get_by_text("vi-1.jsonl").click()
    expect(page.get_by_text(documents("vi", 1)[0][:60])).to_be_visible()


def choose(page: Page, label: str, option: str, nth: int = 0) -> None:
    page.get_by_label(label, exact=True).nth(nth).click()
    page.get_by_role("option", name=option, exact=True).click()
    page.wait_for_timeout(300)


def create(page: Page, site: Site) -> None:
    """Every step of *Create Pipeline*; a reload in the middle loses nothing."""
    page.goto(f"{site.url}/pipelines/new")
    page.get_by_text("Blank").click()
    press(page, "Next")
    choose(page, "Base model", "small@1")
    for _ in ("replay", "watched"):  # the button for replay goes when there is one
        page.get_by_role("button", name="Add").nth(1).click()
        page.wait_for_timeout(300)
    texts = {"law": "law/vi-1.jsonl", "english": "english/en-1.jsonl", "watched": "english/watched.jsonl"}
    for number, (name, path) in enumerate(texts.items()):
        page.get_by_label("Name", exact=True).nth(number).fill(name)
        page.get_by_label("Folder, file or address").nth(number).fill(f"s3://corpora/{path}")
        choose(page, "Connection", "lake", number)
    press(page, "Next")
    page.get_by_role("tab", name="Advanced").click()
    page.get_by_role("textbox", name="Advanced").fill(REFERENCE_JSON)
    press(page, "Apply")
    for field in IGNORED:
        expect(page.get_by_text(f"hyperparameters.{field} has no effect")).to_be_visible()
    page.reload()
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_label("batch_size")).to_have_value("8")
    page.get_by_label("epochs").fill("0")
    expect(page.get_by_text("hyperparameters.epochs:").first).to_be_visible()
    for field, value in {"epochs": "1", "batch_size": "4", "max_sequence_length": "128"}.items():
        page.get_by_label(field, exact=True).fill(value)
    page.locator(".q-item__label", has_text="Training runtime").click()
    page.get_by_label("gradient_accumulation_steps").fill("1")
    page.locator(".q-item__label", has_text=re.compile("^Others$")).click()
    page.get_by_label("logging_steps").fill("1")
    expect(page.get_by_text("The recipe is sound.")).to_be_visible()
    press(page, "Next")
    page.get_by_label("email").fill("mai@example.com")
    press(page, "Next")
    page.get_by_label("Pipeline", exact=True).fill("legal-vi")
    page.wait_for_timeout(1000)
    press(page, "Save the pipeline")
    expect(page.get_by_role("heading", name="legal-vi")).to_be_visible()


def last_step(page: Page) -> int:
    """The newest point that the first chart shows."""
    return int(page.locator("figure").first.get_attribute("data-last") or 0)


def wait_for_step(page: Page, step: int, seconds: float = 90) -> int:
    until = time.monotonic() + seconds
    while (found := last_step(page)) < step:
        assert time.monotonic() < until, f"step {step} never came, the chart is at {found}"
        page.wait_for_timeout(100)
    return found


def follow(page: Page, site: Site) -> Page:
    """Metrics move by themselves; the server is killed; the tab is closed: the run goes on. Returns another tab."""
    page.locator("figure").first.wait_for(timeout=90_000)
    wait_for_step(page, wait_for_step(page, 1) + 2)
    run = list_runs(Workspace(site.home))[-1]
    before = run.process()
    site.stop(kill=True)
    assert run.alive()
    other = page.context.new_page()
    page.close()
    site.start()
    assert run.process() == before
    other.goto(f"{site.url}/runs/{run.id}")
    other.locator("figure").first.wait_for()
    wait_for_step(other, 5)
    expect(other.get_by_text("succeeded", exact=True).first).to_be_visible(timeout=240_000)
    return other


@pytest.mark.timeout(900)
def test_from_a_bucket_of_text_to_a_better_model(
    chromium: Browser, site: Site, bucket: Store, mail: Controller, tmp_path: Path
) -> None:
    make_model(tmp_path / "small", documents("vi", 200), positions=2048)
    page = first_sign_in(chromium, site)
    site.rewarm("models", "import", str(tmp_path / "small"), "--name", "small")
    allow_and_set_mail(page, site, bucket, mail)
    connect(page, site, bucket)
    create(page, site)
    press(page, "Start")
    page.wait_for_url("**/runs/*")
    page = follow(page, site)
    _mailed(page, site, mail.handler)
    page.get_by_role("link", name="Report").click()
    expect(page.frame_locator("iframe").get_by_text("Forgetting").first).to_be_visible()
    _played(page, site)
    _loads(page, site, tmp_path)
    _viewer(page, chromium, site)


def _mailed(page: Page, site: Site, inbox: Inbox) -> None:
    until = time.monotonic() + 30
    while not inbox.mails and time.monotonic() < until:
        page.wait_for_timeout(200)
    (mail,) = inbox.mails
    assert mail["To"] == "mai@example.com" and mail["Subject"] == "Rewarm: legal-vi has succeeded"
    assert page.url.split("?")[0] in mail.get_body(("plain",)).get_content()


def _played(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/playground?model=legal-vi@1")
    page.get_by_label("Text to go on with").fill(documents("vi", 1)[0][:40])
    page.get_by_label("Tokens").fill("12")
    press(page, "Write")
    for name in ("Base", "Result"):
        expect(page.get_by_role("region", name=name).locator("p").first).to_have_text(
            re.compile(".{45}"), timeout=60_000
        )


def _loads(page: Page, site: Site, folder: Path) -> None:
    page.goto(f"{site.url}/models")
    page.get_by_role("link", name="legal-vi@1").click()
    expect(page.get_by_role("heading", name="Before and after").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    with tarfile.open(download.value.path()) as archive:
        archive.extractall(folder / "model", filter="data")
    (found,) = (folder / "model").rglob("model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(found.parent)
    ids = AutoTokenizer.from_pretrained(found.parent)("Điều 1.", return_tensors="pt")["input_ids"]
    assert model(ids).logits.isfinite().all()


def _viewer(page: Page, chromium: Browser, site: Site) -> None:
    """A second user sees the same, and is offered nothing that would be refused."""
    page.goto(f"{site.url}/settings?tab=users")
    page.get_by_role("textbox", name="User").fill("vera")
    page.get_by_role("combobox", name="Role").first.click()
    page.get_by_role("option", name="viewer").click()
    press(page, "Add a user")
    expect(page.get_by_text("sign-in#key=")).to_be_visible()
    vera = sign_in(chromium, site, "vera")
    vera.get_by_role("link", name=re.compile("legal-vi")).first.click()
    expect(vera.get_by_text("succeeded", exact=True).first).to_be_visible()
    for name in ("Delete", "Resume", "Clone"):
        expect(vera.get_by_role("button", name=name)).to_have_count(0)
    vera.goto(f"{site.url}/pipelines/new")
    expect(vera.get_by_text("this needs the role editor")).to_be_visible()
    vera.goto(f"{site.url}/data")
    expect(vera.get_by_role("button", name="Create connection")).to_have_count(0)
    vera.goto(f"{site.url}/settings?tab=users")
    expect(vera.get_by_role("link", name="Users")).to_have_count(0)
    vera.context.close()
