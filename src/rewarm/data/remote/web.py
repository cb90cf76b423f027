"""Single files of any web server, by their address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from rewarm.core.connections import WebConnection
from rewarm.core.errors import DataError
from rewarm.data.remote.place import Entry, Place
from rewarm.data.signature import LockedError, Signature


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

    def refused(self, uri: str, status: int, code: str) -> DataError:
        if status == 401 and self._connection:
            what = "the server does not accept the token of the connection"
            return LockedError(what, where=uri, remedy="rewarm connections add gives it another one")
        return super().refused(uri, status, code)

    def entries(self, uri: str, deep: bool) -> Iterator[Entry]:
        yield Entry(uri, self.signature(uri))
