"""Create Pipeline in the browser: every step, the reference's block pasted, a draft that survives, and a start."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.pipeline.conftest import make_bench
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


def test_the_steps_say_what_a_run_takes_and_where_it_differs(page: Page, site: Site, tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    recipe = bench.recipe.read_text().replace("hyperparameters:\n", "hyperparameters:\n  lora_rank: 16\n")
    recipe = recipe.replace("  learning_rate", "  finetuning_type: full\n  learning_rate").replace(
        "path: ", f"path: {tmp_path}/"
    )
    page.goto(f"{site.url}/pipelines/new")
    page.get_by_text("A new language").click()
    follow(page, "Next")
    page.get_by_text("Open base models").click()
    page.get_by_role("cell", name="Qwen/Qwen3-0.6B-Base", exact=True).click()
    expect(page.get_by_label("Base model")).to_have_value(re.compile("Qwen/Qwen3-0.6B-Base"))
    follow(page, "Next")
    page.get_by_role("tab", name="Advanced").click()
    page.get_by_role("textbox", name="Advanced").fill(recipe.replace("./model", str(tmp_path / "model")))
    follow(page, "Apply")
    page.get_by_role("tab", name="Form").click()
    page.get_by_text("LoRA", exact=True).click()
    expect(page.locator(".rw-ignored")).to_have_text(re.compile('has no effect: finetuning_type is "full"'))
    follow(page, "Estimate tokens, memory, time")
    figures = page.locator('[aria-label="What the run takes"]')
    for line in (r"Tokens to train on~ [\d.]+ k", r"Updates~ \d+", r"Memory~ [\d.]+ MB", r"Disk~ [\d.]+ MB"):
        expect(figures).to_contain_text(re.compile(line), timeout=90_000)
    follow(page, "Next", "Next")
    different = page.locator('[aria-label="Different from the template"]')
    expect(different).to_contain_text("hyperparameters.epochs")
    expect(different).not_to_contain_text("data.replay.share")  # the same in both
    follow(page, "Begin anew")


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
