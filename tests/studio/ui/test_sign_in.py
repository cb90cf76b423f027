"""Coming in: by a link, by a password, from an address inside; and what stays closed until then."""

from __future__ import annotations

import httpx
from playwright.sync_api import Browser, Page, expect

from tests.studio.ui.conftest import Site


def test_a_page_leads_to_the_sign_in_and_back(chromium: Browser, site: Site) -> None:
    site.rewarm("studio", "password", "admin", "--stdin", text="correct horse battery\n")
    page = chromium.new_context().new_page()
    page.goto(f"{site.url}/?x=1")
    assert "/sign-in?next=" in page.url
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("wrong horse battery")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).not_to_be_empty()
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".rw-page")
    assert page.url == f"{site.url}/?x=1"
    page.context.close()


def test_without_a_session_there_are_no_pages_and_no_sockets(site: Site) -> None:
    assert httpx.get(f"{site.url}/", headers={"Accept": "text/html"}).status_code == 303
    assert httpx.get(f"{site.url}/_nicegui_ws/socket.io/?EIO=4&transport=polling").status_code == 401
    policy = httpx.get(f"{site.url}/sign-in").headers["content-security-policy"]
    assert "unsafe" not in policy


def test_signing_out_ends_the_session(page: Page, site: Site) -> None:
    page.get_by_role("button", name="admin").click()
    page.get_by_text("Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(f"{site.url}/")
    assert "/sign-in" in page.url


def test_the_api_says_itself_what_it_does_not_have(page: Page, site: Site) -> None:
    answer = page.request.get(f"{site.url}/api/v1/nothing")
    assert answer.status == 404 and answer.json()["what"] == "not found"
