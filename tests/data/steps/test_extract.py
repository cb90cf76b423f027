"""Text out of markup: what a reader sees of a page, without what stands around it."""

from __future__ import annotations

import pytest

from rewarm.data.steps import Drop
from tests.data.steps.conftest import applied

PAGE = """<!DOCTYPE html><html><head><title>T</title><style>p {}</style></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/b">Next</a></li></ul></nav>
<main><h1>Tiêu đề</h1><p>Một &amp; hai<br>ba.</p><pre>def f():
    return 1</pre><script>bad()</script><p>Câu thứ hai.</p></main>
<footer>Copyright</footer></body></html>"""


def test_the_main_content_of_a_page() -> None:
    text = applied(PAGE, "extract")
    assert isinstance(text, str)
    assert text.splitlines()[0] == "Tiêu đề"
    assert "Một & hai\nba." in text and "def f():\n    return 1" in text and "Câu thứ hai." in text
    assert not any(word in text for word in ("Home", "Copyright", "bad()", "p {}", "<"))


def test_everything_on_a_page_when_asked_for() -> None:
    text = applied(PAGE, "extract", main_content=False)
    assert isinstance(text, str) and "Home" in text and "bad()" not in text


def test_what_is_no_page_is_left_alone_unless_told_otherwise() -> None:
    text = "In HTML, <p> begins a paragraph & <br> breaks a line."
    assert applied(text, "extract") == text
    assert applied("<p>a &lt; b</p>", "extract", markup="html") == "a < b"


def test_markdown() -> None:
    source = (
        "# Title\n\nSome *text* with `code` and a [link](http://x).\n\n- one\n- two\n\n```py\ndef f():\n    x\n```\n"
    )
    text = applied(source, "extract", markup="markdown")
    assert isinstance(text, str)
    assert "Title\n\nSome text with code and a link." in text and "• one" in text and "def f():\n    x" in text


def test_a_page_without_text_is_dropped() -> None:
    assert applied("<html><body><nav>Home</nav></body></html>", "extract") == Drop("no text left")


@pytest.mark.parametrize(("depth", "kept"), [(512, True), (513, False), (100_000, False)])
def test_a_page_nested_deeper_than_browsers_read_is_dropped(depth: int, kept: bool) -> None:
    page = "<!doctype html>" + "<div>" * depth + "<p>text<br><img>" * 3 + "</div>" * depth
    assert applied(page, "extract", main_content=False) == (
        "text\n\ntext\n\ntext" if kept else Drop("nested too deep", depth)
    )
