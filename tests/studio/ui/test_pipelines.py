"""Create Pipeline in the browser: every step, the reference's block pasted, a draft that survives, and a start."""

from __future__ import annotations

import json

from playwright.sync_api import Browser, Page, expect

from tests.studio.ui.conftest import Site, sign_in

BLOCK = {"batch_size": 8, "epochs": 2, "learning_rate": 5e-5, "finetuning_type": "full", "lora_rank": 16}


def follow(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_timeout(400)


def test_a_pipeline_is_made_through_all_steps_and_started(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/pipelines/new")
    page.get_by_text("A new language").click()
    follow(page, "Next")
    expect(page.get_by_label("Folder, file or address").first).to_have_value("uploads/new-language.jsonl")
    follow(page, "Next")
    page.get_by_role("tab", name="Advanced").click()
    page.get_by_role("textbox", name="Advanced").fill(json.dumps(BLOCK))
    follow(page, "Apply")
    expect(page.get_by_text("hyperparameters.lora_rank has no effect")).to_be_visible()
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_label("batch_size")).to_have_value("8")
    page.get_by_label("epochs").fill("0")
    expect(page.get_by_text("hyperparameters.epochs:").first).to_be_visible()
    page.get_by_label("epochs").fill("3")
    expect(page.get_by_text("The recipe is sound.")).to_be_visible()
    page.reload()
    expect(page.get_by_label("epochs")).to_have_value("3")
    follow(page, "Next", "Next")
    page.get_by_label("Pipeline", exact=True).fill("first")
    page.wait_for_timeout(1000)
    follow(page, "Save the pipeline")
    expect(page.get_by_role("heading", name="first")).to_be_visible()
    expect(page.get_by_text("epochs: 3")).to_be_visible()
    follow(page, "Start")
    page.wait_for_url("**/runs/*")
    page.goto(f"{site.url}/pipelines")
    expect(page.get_by_role("link", name="first")).to_be_visible()


def test_a_viewer_is_offered_nothing_that_is_refused(page: Page, chromium: Browser, site: Site) -> None:
    page.goto(f"{site.url}/settings?tab=users")
    page.get_by_role("textbox", name="User").fill("vera")
    page.get_by_role("combobox", name="Role").first.click()
    page.get_by_role("option", name="viewer").click()
    follow(page, "Add a user")
    expect(page.get_by_text("sign-in#key=")).to_be_visible()
    vera = sign_in(chromium, site, "vera")
    vera.goto(f"{site.url}/pipelines/new")
    expect(vera.get_by_text("this needs the role editor")).to_be_visible()
    vera.goto(f"{site.url}/data")
    expect(vera.get_by_role("button", name="Create connection")).to_have_count(0)
    vera.goto(f"{site.url}/settings?tab=users")
    expect(vera.get_by_role("link", name="Users")).to_have_count(0)
    vera.context.close()
