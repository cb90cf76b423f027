"""What Create Pipeline says of a recipe on the way: what has no effect, what a run takes, where it differs."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.pipeline.conftest import make_bench
from tests.studio.ui.conftest import Site


def press(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_timeout(400)


def test_the_steps_say_what_a_run_takes_and_where_it_differs(page: Page, site: Site, tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    recipe = bench.recipe.read_text().replace("hyperparameters:\n", "hyperparameters:\n  lora_rank: 16\n")
    recipe = recipe.replace("  learning_rate", "  finetuning_type: full\n  learning_rate").replace(
        "path: ", f"path: {tmp_path}/"
    )
    page.goto(f"{site.url}/pipelines/new")
    page.get_by_text("A new language").click()
    press(page, "Next")
    page.get_by_text("Open base models").click()
    page.get_by_role("cell", name="Qwen/Qwen3-0.6B-Base", exact=True).click()
    expect(page.get_by_role("combobox", name="Base model")).to_have_value(re.compile("Qwen/Qwen3-0.6B-Base"))
    press(page, "Next")
    page.get_by_role("tab", name="Advanced").click()
    page.get_by_role("textbox", name="Advanced").fill(recipe.replace("./model", str(tmp_path / "model")))
    press(page, "Apply")
    page.get_by_role("tab", name="Form").click()
    page.get_by_text("LoRA", exact=True).click()
    expect(page.locator(".rw-ignored")).to_have_text(re.compile('has no effect: finetuning_type is "full"'))
    figures = page.locator('[aria-label="What the run takes"]')
    for line in (r"Tokens to train on~ [\d.]+ k", r"Updates~ \d+", r"Memory~ [\d.]+ MB", r"Disk~ [\d.]+ MB"):
        expect(figures).to_contain_text(re.compile(line), timeout=90_000)
    press(page, "Next", "Next")
    different = page.locator('[aria-label="Different from the template"]')
    expect(different).to_contain_text("hyperparameters.epochs")
    expect(different).not_to_contain_text("data.replay.share")  # the same in both
    press(page, "Begin anew")
