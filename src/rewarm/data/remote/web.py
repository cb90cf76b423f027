"""Single files of any web server, by their address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from rewarm.core.connections import WebConnection
from rewarm.data.remote.place import Entry, Place
from rewarm.data.signature import Signature


class WebPlace(Place):
    """Web servers. The token of a connection goes to its own server and to no other."""

    redirects = 5

    def __init__(self, connection: WebConnection | None) -> None:
        self._connection = connection

    def ask(self, uri: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        known, sent = self._connection, dict(headers)
        if known and urlsplit(known.endpoint)[:2] == urlsplit(uri)[:2]:
            sent["Authorization"] = f"Bearer {known.token.get_secret_value()}"
        return quote(uri, safe="%/:?#[]@!$&'()*+,;=~"), sent

    def version(self, headers: Mapping[str, str]) -> str:
        return headers.get("ETag") or headers.get("Last-Modified", "")

    def condition(self, signature: Signature) -> dict[str, str]:
        return {"If-Match": signature.version} if signature.version.startswith('"') else {}

    def entries(self, uri: str, deep: bool) -> Iterator[Entry]:
        yield Entry(uri, self.signature(uri))
