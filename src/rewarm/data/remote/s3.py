"""Objects of an S3 server: ``s3://BUCKET/KEY``, the key as it is, prefixes as folders.

Requests are signed by botocore and sent like those to any other server, so that retries and the
check of each answer are the same for all of them.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from rewarm.core.connections import S3Connection
from rewarm.core.errors import DataError, UserError
from rewarm.data.remote.place import QUESTION, Entry, PassingError, Place
from rewarm.data.signature import LockedError, Signature, UnsettledError

_WORDS = {
    "InvalidAccessKeyId": "the server does not know this access key",
    "SignatureDoesNotMatch": "the secret key is not the one of this access key (or the endpoint is wrong)",
    "AccessDenied": "this access key may not read it",
    "ExpiredToken": "the key has expired",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "the bucket lies in another region or at another endpoint",
    "AuthorizationHeaderMalformed": "the region of the connection is wrong",
}
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
"""What is wrong with the key itself, rather than with what it may do."""
_PAGE = 1000
_REMEDY = "rewarm connections add gives it another key; for another endpoint or region: rewarm connections rm first"


class S3Place(Place):
    """An S3 server, or one bucket's own address."""

    def __init__(self, connection: S3Connection) -> None:
        try:
            from botocore.auth import S3SigV4Auth
            from botocore.credentials import Credentials
        except ImportError:
            raise UserError("s3:// needs the extra s3", remedy="pip install 'rewarm[s3]'") from None
        self.endpoint = connection.endpoint or f"https://s3.{connection.region}.amazonaws.com"
        keys = Credentials(connection.access_key, connection.secret_key.get_secret_value())
        self._signer = S3SigV4Auth(keys, "s3", connection.region)

    def ask(self, uri: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        from botocore.awsrequest import AWSRequest

        uri, _, question = uri.partition(QUESTION)
        bucket, key = split(uri)
        own = (urlsplit(self.endpoint).hostname or "").startswith(f"{bucket}.") and bucket
        path = "/" + quote(key, safe="/~") if own or not bucket else f"/{bucket}/" + quote(key, safe="/~")
        request = AWSRequest("GET", f"{self.endpoint}{path}{'?' if question else ''}{question}")
        self._signer.add_auth(request)
        return request.url, {**headers, **dict(request.headers.items())}

    def condition(self, signature: Signature) -> dict[str, str]:
        return {"If-Match": f'"{signature.version}"'}

    def refused(self, uri: str, status: int, code: str) -> DataError:
        if code in _WORDS:
            return (LockedError if code in _KEYS else UnsettledError)(_WORDS[code], where=uri, remedy=_REMEDY)
        if status in (401, 403):
            return UnsettledError(_WORDS["AccessDenied"], where=uri, remedy=_REMEDY)
        return super().refused(uri, status, code)

    def entries(self, uri: str, deep: bool) -> Iterator[Entry]:
        bucket, key = split(uri)
        if uri != "s3://" and not re.fullmatch(r"[A-Za-z0-9][\w.-]{1,254}", bucket):
            raise DataError(f"no bucket can be named {bucket!r}", where=uri, remedy="write s3://BUCKET/FOLDER")
        if not bucket:
            names = self.whole("s3://", _xml).findall("Buckets/Bucket/Name")
            yield from (Entry(f"s3://{name.text}/", None) for name in names)
            return
        if key and not key.endswith("/"):
            # of all keys that begin with this one, it is itself the first
            if (first := next(self._pages(bucket, key, "", 1), None)) and first.uri == uri:
                yield first
                return
            key += "/"
        yield from self._pages(bucket, key, "" if deep else "/")

    def page(self, uri: str, after: str | None, most: int) -> tuple[list[Entry], str | None]:
        bucket, key = split(uri)
        if not bucket or (after is None and key and not key.endswith("/")):
            found = super().page(uri, None, most)  # the buckets; a file, or a folder by its bare name
            return found if found[1] is None or not bucket else self.page(uri + "/", None, most)
        return self._page(bucket, key if key.endswith("/") or not key else f"{key}/", "/", min(most, _PAGE), after)

    def _pages(self, bucket: str, prefix: str, delimiter: str, most: int | None = None) -> Iterator[Entry]:
        following: str | None = None
        while True:
            found, following = self._page(bucket, prefix, delimiter, most or _PAGE, following)
            yield from found
            if following is None or most:
                return

    def _page(
        self, bucket: str, prefix: str, delimiter: str, most: int, after: str | None
    ) -> tuple[list[Entry], str | None]:
        """One answer of the server, and its token for the next."""
        question = {"list-type": "2", "prefix": prefix, "max-keys": str(most), "encoding-type": "url"}
        question |= {"delimiter": delimiter} if delimiter else {}
        question |= {"continuation-token": after} if after else {}
        where, found = f"s3://{bucket}/", []
        page = self.whole(f"{where}{QUESTION}{urlencode(sorted(question.items()), quote_via=quote)}", _xml)
        for item in page.findall("Contents"):
            key, etag = unquote_plus(item.findtext("Key", "")), item.findtext("ETag", "").strip('"')
            if not key.endswith("/"):  # the mark of an empty folder
                found.append(Entry(where + key, Signature(int(item.findtext("Size", "0")), etag)))
        folders = page.findall("CommonPrefixes/Prefix")
        found += [Entry(where + unquote_plus(item.text or ""), None) for item in folders]
        following = page.findtext("NextContinuationToken") if page.findtext("IsTruncated") == "true" else None
        return found, following or None


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _xml(answer: bytes, headers: Mapping[str, str]) -> ET.Element:
    """A listing, its elements without the namespace."""
    try:
        return ET.fromstring(re.sub(rb' xmlns="[^"]*"', b"", answer, count=1))
    except ET.ParseError:
        if re.match(rb"\s*(<\?xml[^>]*>\s*)?<List", answer):
            raise PassingError("a cut listing") from None
        raise DataError("the server does not answer like S3", remedy=_REMEDY) from None
