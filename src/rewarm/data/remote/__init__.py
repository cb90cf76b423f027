"""Files that lie elsewhere: ``s3://``, ``hf://`` and ``http(s)://``, listed, read and cached."""

from __future__ import annotations

import io
import os
import re
from functools import lru_cache
from typing import BinaryIO, cast

from rewarm.core.errors import Unreachable, UserError
from rewarm.core.workspace import Workspace
from rewarm.data.remote.cache import BlockCache
from rewarm.data.remote.file import RemoteFile
from rewarm.data.remote.place import Entry, Place
from rewarm.data.signature import Signature

_MAGIC = re.compile(r"[*?\[]")
_ADDRESS = re.compile(r"(s3|hf)://|https?://([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?([/?]|$)")
_MARKS = re.compile(r"(?s)\*\*/|\*\*|\[\[\]|\[(?:![^\\\[\]^]+|[^!\\\[\]^][^\\\[\]^]*)\]|.")


def is_remote(uri: str) -> bool:
    return uri.startswith(("s3://", "hf://", "http://", "https://"))


def browse(uri: str, connection: str | None) -> list[Entry]:
    """The file ``uri``, or what lies in that folder directly, or the files that match that pattern.

    Raises:
        DataError: if the server refuses, or cannot be reached.
    """
    found = list(place_of(uri, connection).entries(uri, deep=False))
    return found or ([Entry(*item) for item in matches(uri, connection).items()] if has_magic(uri) else [])


def page(uri: str, connection: str | None, after: str | None, most: int) -> tuple[list[Entry], str | None]:
    """Up to ``most`` entries of a folder, behind the mark ``after``; and the mark to go on behind, if there is more."""
    return place_of(uri, connection).page(uri, after, most)


def hurry(uri: str, connection: str | None) -> str:
    """The address; its server is asked three times and not for half a minute, because somebody waits."""
    place_of(uri, connection).patience = 3
    return uri


def files(uri: str, connection: str | None) -> dict[str, Signature]:
    """The file ``uri``, or those below that folder that are not hidden, with their signatures."""
    found = place_of(uri, connection).entries(uri, deep=True)
    return {e.uri: e.signature for e in found if e.signature and "/." not in e.uri[len(uri.rstrip("/")) :]}


def matches(pattern: str, connection: str | None) -> dict[str, Signature]:
    """The files that a glob pattern matches, and all those below folders that it matches."""
    fixed = pattern[: _MAGIC.search(pattern).start()]  # type: ignore[union-attr]  # there is one
    try:
        wanted = re.compile(_translated(pattern))
    except re.error:  # such as [z-a]
        return {}
    below = files(fixed[: fixed.rindex("/") + 1], connection)
    return {uri: known for uri, known in below.items() if wanted.match(uri)}


def has_magic(uri: str) -> bool:
    """Whether it may be a glob pattern; an address on the web is none, whatever it holds."""
    return uri.startswith(("s3://", "hf://")) and _MAGIC.search(uri) is not None


def _translated(pattern: str) -> str:
    """A glob pattern as a regular expression for the URI of a file that matches, or lies below what matches."""
    words = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]", "[[]": r"\["}

    def word(found: re.Match[str]) -> str:
        mark = found[0]
        if mark in words or len(mark) == 1:
            return words.get(mark) or re.escape(mark)
        return f"[^{mark[2:-1]}]" if mark[1] == "!" else mark

    return "(?s)" + _MARKS.sub(word, pattern) + "(?:/|$)"


def signature(uri: str, connection: str | None) -> Signature:
    """Size and version of a remote file, asked of its server."""
    return place_of(uri, connection).signature(uri)


def open_remote(uri: str, connection: str | None, known: Signature) -> BinaryIO:
    """A remote file, to be read as it was when it had the signature ``known``."""
    file = RemoteFile(place_of(uri, connection), uri, known, _cache())
    return cast(BinaryIO, io.BufferedReader(file, 1 << 17))


def place_of(uri: str, connection: str | None) -> Place:
    """The server that a URI names, through the connection of that name; another object once that was changed.

    Raises:
        UserError: if it is no URI, or one with a secret in it; if there is no such connection, or it
            leads to servers of another kind.
        Unreachable: if the connection was there and is gone: it may be on its way to another key.
    """
    from rewarm.core.connections import HUB, check_uri  # pydantic: a tenth of a second, and local files need none

    check_uri(uri)
    if not _ADDRESS.match(uri):
        remedy = "write s3://BUCKET/FOLDER, hf://datasets/OWNER/NAME or https://HOST/FILE"
        raise UserError("this is no address on a server", where=uri, remedy=remedy)
    workspace = Workspace.default()
    path = workspace.connections / f"{connection or HUB}.json"
    written = path.stat().st_mtime_ns if path.is_file() else 0
    key = uri.partition("://")[0].replace("https", "http"), connection, workspace
    before = _places.get(key)
    if before is not None and before[0] == written:
        return before[1]
    if before is not None and connection is not None and not written:
        raise Unreachable(f"connection {connection!r} was removed", where=uri, remedy="rewarm connections add")
    place = _place(*key)
    place.accepted = before is not None and before[1].accepted  # of a new key with a mistake in it, too, a run waits
    _places[key] = written, place
    return place


_places: dict[tuple[str, str | None, Workspace], tuple[int, Place]] = {}


def _place(kind: str, name: str | None, workspace: Workspace) -> Place:
    from rewarm.core.connections import S3Connection, WebConnection, hub_connection, load_connection

    if kind == "hf":
        from rewarm.data.remote.hub import HubPlace  # each of the three imports what only it needs

        return HubPlace(hub_connection(workspace, name))
    known = load_connection(workspace, name) if name else None
    if kind == "s3" and isinstance(known, S3Connection):
        from rewarm.data.remote.s3 import S3Place

        return S3Place(known)
    if kind == "http" and (known is None or isinstance(known, WebConnection)):
        from rewarm.data.remote.web import WebPlace

        return WebPlace(known)
    if known is None:
        raise UserError("s3:// needs a connection", remedy="rewarm connections add s3 NAME; then connection: NAME")
    raise UserError(f"connection {name!r} is of kind {known.kind}", remedy=f"name one of kind {kind}")


def _cache() -> BlockCache:
    limit = os.environ.get("REWARM_CACHE_BYTES")
    return _cache_of(Workspace.default(), int(limit) if limit else None)


_cache_of = lru_cache(lambda workspace, limit: BlockCache(workspace.cache, limit))
