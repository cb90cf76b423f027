"""Data sets of a Hugging Face hub: ``hf://datasets/OWNER/NAME[@REVISION]/PATH``, read where they lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from rewarm.core.connections import HubConnection
from rewarm.core.errors import DataError, Unreachable
from rewarm.data.remote.place import QUESTION, Entry, Place, T
from rewarm.data.signature import LockedError, Signature, UnsettledError


class HubPlace(Place):
    """A hub. A file's version is the hash of its content, so a new commit changes only what it touches."""

    redirects, spread = 5, True  # the hub leads to where the bytes lie

    def __init__(self, connection: HubConnection | None) -> None:
        from huggingface_hub import constants, get_token  # half a second, and only hf:// needs it

        self.endpoint = (connection and connection.endpoint) or constants.ENDPOINT
        self.token = connection.token.get_secret_value() if connection else get_token()

    def ask(self, uri: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            raise UnsettledError("HF_HUB_OFFLINE is set", where=uri.partition(QUESTION)[0], remedy="unset it")
        uri, _, question = uri.partition(QUESTION)
        name, revision, path = split(uri)
        at = f"{quote(revision or 'main', safe='')}/{quote(path, safe='/~')}"
        url = f"{self.endpoint}/datasets/{name}/resolve/{at}"
        if question:
            url = f"{self.endpoint}/api/datasets/{name}/tree/{at.rstrip('/')}?{question}"
        return url, {**headers, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}

    def version(self, headers: Mapping[str, str]) -> str:
        return (headers.get("X-Linked-Etag") or headers.get("ETag", "")).removeprefix("W/").strip('"')

    def refused(self, uri: str, status: int, code: str) -> DataError:
        name, _, _ = split(uri)
        if code == "GatedRepo":
            what = "this data set is gated: its owner asks for accepted terms, and for a token to prove it"
            remedy = (
                f"accept them at {self.endpoint}/datasets/{name}, then rewarm connections add hf (or hf auth login)"
            )
        elif code in ("RepoNotFound", "RevisionNotFound") or status == 403 or (status == 401 and not self.token):
            what = "the hub has no such data set or revision, or it is private"
            remedy = "compare the spelling; for a private one: rewarm connections add hf"
        elif status == 401 and self.token:
            remedy = "rewarm connections add hf"
            return LockedError("the hub does not accept this token", where=uri, remedy=remedy)
        else:
            return super().refused(uri, status, code)
        return UnsettledError(what, where=uri, remedy=remedy)

    def entries(self, uri: str, deep: bool) -> Iterator[Entry]:
        name, revision, path = split(uri)
        root = f"hf://datasets/{name}{'@' + revision.replace('/', '%2F') if revision else ''}/"
        question: str | None = f"recursive={str(deep).lower()}"
        while question is not None:
            asked = f"{root}{path.rstrip('/')}{QUESTION}{question}"
            page = _if_there(lambda asked=asked: self.whole(asked, _page))  # type: ignore[misc]
            if page is None:  # no such folder: it may be a file
                known = _if_there(lambda: self.signature(uri)) if path and not path.endswith("/") else None
                yield from [Entry(uri, known)] if known else []
                return
            items, question = page
            for item in items:
                if item["type"] == "file":
                    version = item["lfs"]["oid"] if item.get("lfs") else item["oid"]
                    yield Entry(root + item["path"], Signature(item["size"], version))
                elif not deep:
                    yield Entry(f"{root}{item['path']}/", None)


def _if_there(ask: Callable[[], T]) -> T | None:
    """What the hub answers; None where it says that there is no such thing."""
    try:
        return ask()
    except (UnsettledError, Unreachable):
        raise
    except DataError:
        return None


def _page(answer: bytes, headers: Mapping[str, str]) -> tuple[list[dict[str, Any]], str | None]:
    """The entries of a listing, and what to ask for the next ones."""
    try:
        items = orjson.loads(answer)
    except orjson.JSONDecodeError:
        items = None
    if not isinstance(items, list):
        raise UnsettledError("the server does not answer like a hub", remedy="correct the endpoint of the connection")
    following = re.search(r'<([^>]*)>; *rel="next"', headers.get("Link", ""))
    return items, following and urlsplit(following[1]).query


def split(uri: str) -> tuple[str, str | None, str]:
    """Owner/name, revision and path of an hf:// URI.

    Raises:
        DataError: if it is none of a data set.
    """
    found = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", uri, re.DOTALL)
    if not found:
        raise DataError("this is no data set of a hub", where=uri, remedy="write hf://datasets/OWNER/NAME/PATH")
    return found[1], found[2] and found[2].replace("%2F", "/"), found[3] or ""
