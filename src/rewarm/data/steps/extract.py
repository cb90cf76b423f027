"""Text out of HTML and Markdown.

HTML is read by Resiliparse: on help pages, manuals and books in four languages it was the only one of
eight extractors that left out the navigation at more than 20 MB/s (Trafilatura: 1, with tables and
headings lost). Its time for the main content grows with the square of the depth, so deeper pages than
a browser would show are dropped.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from rewarm.data.steps.rule import Apply, Drop, each
from rewarm.recipe.steps import Extract

VERSION = 1
CHANGES = True
MAX_DEPTH = 512
"""Elements within one another; browsers stop there too."""
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|meta)\b", re.I | re.S
)
_TAG = re.compile(r"<(/?)([a-zA-Z][\w:-]*)")
# never open, or closed by what follows them
_FLAT = re.compile(
    "area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr|p|li|d[dt]|t[drh]|thead|tbody|option"
)
NO_TEXT = "no text left"
TOO_DEEP = "nested too deep"


def build(step: Extract) -> Apply:
    from resiliparse.extract.html2text import extract_plain_text  # a compiled parser, only for those who ask for it

    if step.markup == "markdown":
        from markdown_it import MarkdownIt

        render = MarkdownIt("commonmark").enable("table").render

    def html(text: str, main_content: bool) -> str | Drop:
        if (depth := _depth(text)) > MAX_DEPTH:
            return Drop(TOO_DEEP, depth)
        found: str = extract_plain_text(text, main_content=main_content, alt_texts=False, links=False)
        return found.strip() or Drop(NO_TEXT)

    def apply(text: str) -> str | Drop:
        if step.markup == "markdown":
            return html(render(text), False)
        if step.markup == "auto" and not _HTML.match(text):
            return text
        return html(text, step.main_content)

    return each(apply)


def _depth(text: str) -> int:
    """The most elements within one another, or a little more."""
    depth = most = 0
    for found in _TAG.finditer(text):
        if not _FLAT.fullmatch(found[2].lower()):
            depth = max(0, depth - 1) if found[1] else depth + 1
            most = max(most, depth)
    return most


def facts(step: Extract) -> dict[str, Any]:
    libraries = ["resiliparse"] + ["markdown-it-py"] * (step.markup == "markdown")
    return {"libraries": {name: version(name) for name in libraries}}
