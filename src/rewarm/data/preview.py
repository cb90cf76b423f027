"""What a person wants to see of texts before anything is built of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from rewarm.core.errors import DataError
from rewarm.data import remote
from rewarm.data.documents import Document, read_documents
from rewarm.data.files import list_files

SHOWN = 2000
"""Characters of a document."""


def preview(
    paths: Sequence[str], connection: str | None = None, *, documents: int = 3, text_column: str | None = None
) -> dict[str, Any]:
    """``{file, documents}``: the first file that ``paths`` name, and its first records.

    Each is ``{text, url}`` or ``{rejected}``.

    Raises:
        DataError: if no file there promises documents, or it cannot be read.
    """
    listing = list_files([remote.hurry(p, connection) if remote.is_remote(p) else p for p in paths], "auto", connection)
    if not listing.files:
        raise DataError(
            f"no file there promises documents ({len(listing.ignored)} do not)",
            where=", ".join(paths),
            remedy="name a file, or see what is there with: rewarm connections browse",
        )
    file = listing.file(listing.files[0], connection)
    items = itertools.islice(read_documents(file, text_column=text_column), documents)
    return {"file": file.uri, "documents": [_shown(item) for item in items]}


def _shown(item: Any) -> dict[str, Any]:
    if isinstance(item, Document):
        return {"text": item.text[:SHOWN], "url": item.url}
    return {"rejected": item.reason}
