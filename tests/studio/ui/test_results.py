"""The pages over a real run: its report and checkpoints, its dataset, its model, and what may be done with them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from rewarm.core.network import allow
from rewarm.core.run import list_runs
from rewarm.core.workspace import Workspace
from tests.pipeline.conftest import make_bench
from tests.servers import BUCKET, Store
from tests.studio.ui.conftest import Site, sign_in

HOSTILE = "<img src=x onerror=window.hit=1>"
RECORD = re.compile(r"""[{\[]["']\w+["']:|\bNone\b|\bTrue\b|\bFalse\b""")
"""What a record looks like that was not made for people: JSON on a line, and Python's words."""


@pytest.fixture(scope="module")
def run(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a run that went through all stages; a step drops some of its documents."""
    bench = make_bench(tmp_path_factory.mktemp("bench"))
    text = bench.recipe.read_text().replace("data:\n", "data:\n  steps: [{kind: quality, min_words: 8}]\n")
    bench.recipe.write_text(text)
    site.rewarm("run", str(bench.recipe))
    shutil.copytree(bench.folder / "model", site.home / "uploads" / "elsewhere")
    return list_runs(Workspace(site.home))[-1].id


@pytest.fixture(scope="module")
def opened(chromium: Browser, site: Site, run: str) -> Iterator[Page]:
    page = sign_in(chromium, site, viewport={"width": 1280, "height": 900})
    yield page
    page.context.close()


@pytest.fixture
def page(opened: Page) -> Iterator[Page]:
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    assert faults == [] and opened.evaluate("window.hit") is None


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def rows(page: Page, title: str) -> Locator:
    return page.locator(f'.rw-table[aria-label="{title}"]')


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog").filter(visible=True)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_shown_as_a_record(page: Page, site: Site, run: str, width: int) -> None:
    dataset = next((site.home / "datasets").glob("[0-9a-f]*")).name
    page.set_viewport_size({"width": width, "height": 900})
    tabs = ("metrics", "events", "checkpoints", "data", "report", "configuration")
    paths = [*(f"/runs/{run}?tab={tab}" for tab in tabs), "/models/tiny@1", f"/data/datasets/{dataset}"]
    for path in [*paths, f"/compare?run={run}", "/settings?tab=audit", "/settings?tab=rules", "/"]:
        page.goto(site.url + path)
        page.wait_for_selector(".rw-page h1")
        page.wait_for_timeout(300)
        shown = page.locator(".rw-page").inner_text()
        assert RECORD.findall(shown) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.set_viewport_size({"width": 1280, "height": 900})


def test_a_report_is_a_table_and_is_computed_again(page: Page, site: Site, run: str) -> None:
    page.goto(f"{site.url}/runs/{run}?tab=report")
    expect(rows(page, "Before and after").locator("tbody tr")).to_have_count(3)
    press(page, "Compute again from the items")
    expect(page.get_by_text(re.compile("^3 rows computed again from"))).to_be_visible(timeout=60_000)
    told = site.home / "runs" / run / "results" / "evaluate.json"
    kept = told.read_bytes()
    told.write_bytes(kept.replace(b'"nll": 1', b'"nll": 2').replace(b'"nll":1', b'"nll":2'))
    try:
        press(page, "Compute again from the items")
        expect(page.get_by_text("is not what its items say").or_(page.get_by_text("damaged"))).to_be_visible(
            timeout=60_000
        )
    finally:
        told.write_bytes(kept)


def test_an_update_is_shown_as_the_model_reads_it(page: Page, site: Site, run: str) -> None:
    page.goto(f"{site.url}/runs/{run}?tab=data")
    expect(page.get_by_text(re.compile(r"^Update 1: \d+ tokens"))).to_be_visible(timeout=60_000)
    expect(page.locator(".rw-segment").first).to_contain_text(re.compile(r"(new|old) #\d+, tokens 0 to"))
    page.get_by_label("Step").fill("99999")
    expect(page.get_by_text("--step 99999")).to_be_visible()
    press(page, "Open")
    expect(page.get_by_text("there is no step 99999")).to_be_visible(timeout=60_000)


def test_training_goes_on_from_the_checkpoint_that_is_chosen(page: Page, site: Site, run: str) -> None:
    kept = sorted((site.home / "runs" / run / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    page.goto(f"{site.url}/runs/{run}?tab=checkpoints")
    page.get_by_role("combobox", name="Checkpoint").click()
    page.get_by_role("option", name=kept[0].name, exact=True).click()
    press(page, "Train on from it")
    expect(dialog(page).get_by_text(f"rewarm resume {run} --from {kept[0].name}")).to_be_visible()
    dialog(page).get_by_role("button", name="Resume").click()
    expect(page.get_by_text("succeeded", exact=True)).to_have_count(0, timeout=30_000)
    expect(page.get_by_text("succeeded", exact=True).first).to_be_visible(timeout=120_000)
    page.goto(f"{site.url}/runs/{run}?tab=events")
    expect(page.get_by_text(f"training from step: {kept[0].name[5:]}")).to_be_visible()


def test_two_results_are_compared_document_by_document(page: Page, site: Site, run: str) -> None:
    page.goto(f"{site.url}/compare")
    expect(page.get_by_text("rewarm compare base tiny@")).to_be_visible()
    press(page, "Compare")
    expect(rows(page, "Before and after").locator("tbody tr")).to_have_count(3, timeout=60_000)


def test_a_dataset_shows_where_documents_went(page: Page, site: Site, run: str) -> None:
    dataset = next((site.home / "datasets").glob("[0-9a-f]*")).name
    page.goto(f"{site.url}/data/datasets/{dataset}")
    drawing = page.get_by_role("img", name=re.compile(r"^new: .*documents in 400, quality: too few words \d+"))
    expect(drawing).to_have_attribute("data-drawn", "1")
    expect(rows(page, "Documents that rules dropped")).to_contain_text("quality: too few words")
    expect(page.get_by_text("tokenizer serves")).not_to_have_count(0)
    press(page, "Show two rows")
    expect(page.locator(".rw-segment").first).to_be_visible(timeout=60_000)


def test_a_version_gets_tags_an_alias_and_a_gate(page: Page, site: Site, run: str) -> None:
    page.goto(f"{site.url}/models/tiny@1")
    expect(page.locator(".rw-lineage svg path")).to_have_count(4)
    expect(page.locator(".rw-lineage a").filter(has_text=run)).to_have_attribute("href", f"/runs/{run}")
    press(page, "Tags")
    page.get_by_label("One a line").fill(f"language=vi\nnote={HOSTILE}")
    press(page, "Save")
    expect(page.get_by_text(f"note: {HOSTILE}")).to_be_visible()
    press(page, "Give it an alias")
    page.get_by_label("Alias, such as production").fill("production")
    expect(dialog(page).get_by_text("rewarm models alias tiny@1 production")).to_be_visible()
    dialog(page).get_by_text("What it demands", exact=True).last.click()
    page.get_by_label("Gain above").fill("99")
    press(page, "Set what it demands")
    expect(page.get_by_text("Saved.")).to_be_visible()
    press(page, "Set")
    expect(page.get_by_text(re.compile("where more than 99 % is demanded"))).to_be_visible()
    page.get_by_label("Gain above").fill("")
    press(page, "Set what it demands")
    page.wait_for_timeout(500)
    press(page, "Set")
    expect(page.locator(".rw-chip").filter(has_text="production")).to_be_visible()
    press(page, "Delete")
    expect(page.get_by_text("Used by: alias production").last).to_be_visible()


def test_files_come_alone_and_as_one_archive(page: Page, site: Site, run: str) -> None:
    page.goto(f"{site.url}/models/tiny@1")
    for link, name in (("config.json", "config.json"), (re.compile("Download all"), "tiny-1.tar")):
        with page.expect_download() as download:
            page.get_by_role("link", name=link, exact=True).click()
        assert download.value.suggested_filename == name and Path(download.value.path()).stat().st_size > 0


def test_a_model_is_imported_while_one_looks_on(page: Page, site: Site, run: str) -> None:
    page.goto(f"{site.url}/models")
    press(page, "Import a model")
    page.get_by_label("Hub id or uploads/NAME").fill("uploads/elsewhere")
    page.get_by_label("Name", exact=True).fill("brought")
    expect(dialog(page).get_by_text("rewarm models import uploads/elsewhere --name brought")).to_be_visible()
    dialog(page).get_by_role("button", name="Import a model").click()
    expect(page.locator(".rw-transfer").get_by_role("link", name="brought@1")).to_be_visible(timeout=120_000)
    expect(rows(page, "Model Hub").get_by_role("link", name="brought@1")).to_be_visible()
    page.goto(f"{site.url}/models/brought@1")
    press(page, "Export GGUF")
    expect(dialog(page).get_by_text("rewarm models gguf brought@1 brought-1-f16.gguf --type f16")).to_be_visible()
    press(page, "Cancel")
    press(page, "Push to a hub")
    expect(dialog(page).get_by_text("needs a connection of kind Hugging Face")).to_be_visible()
    press(page, "Cancel")
    press(page, "Delete")
    dialog(page).get_by_label("brought@1").fill("brought@1")
    dialog(page).get_by_role("button", name="Delete").click()
    page.wait_for_url("**/models")
    expect(rows(page, "Model Hub").get_by_role("link", name="brought@1")).to_have_count(0)


def test_a_bucket_opens_as_a_tree(page: Page, site: Site, run: str, store: Store) -> None:
    store.put(f"law/{HOSTILE}/a.txt", HOSTILE.encode())
    store.put("law/b.jsonl", b'{"text": "nhang trem", "url": "u"}\n')
    store.connect(Workspace(site.home), "lake")
    allow(Workspace(site.home), [store.address.partition("//")[2]])
    page.goto(f"{site.url}/data/connections/lake?uri=s3://{BUCKET}/")
    page.get_by_role("treeitem").filter(has_text="law/").click()
    page.get_by_text(f"{HOSTILE}/").click()
    page.get_by_text(re.compile(r"a\.txt")).click()
    expect(page.locator(".rw-preview .rw-code")).to_have_text(HOSTILE, timeout=60_000)
    page.get_by_text(re.compile(r"b\.jsonl")).click()
    expect(page.locator(".rw-preview .rw-code")).to_have_text("nhang trem", timeout=60_000)
