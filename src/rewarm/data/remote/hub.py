"""Data sets of a Hugging Face hub: ``hf://datasets/OWNER/NAME[@REVISION]/PATH``, read where they lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from rewarm.core.connections import HubConnection
from rewarm.core.errors import DataError
from rewarm.data.remote.place import PASSING, Entry, PassingError, Place
from rewarm.data.signature import Signature, UnsettledError


class HubPlace(Place):
    """A hub. A file's version is the hash of its content, so a new commit changes only what it touches."""

    redirects = 5  # the hub leads to where the bytes lie

    def __init__(self, connection: HubConnection | None) -> None:
        from huggingface_hub import constants, get_token  # half a second, and only hf:// needs it

        self.endpoint = (connection and connection.endpoint) or constants.ENDPOINT
        self.token = connection.token.get_secret_value() if connection else get_token()

    def ask(self, uri: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        name, revision, path = split(uri)
        url = f"{self.endpoint}/datasets/{name}/resolve/{quote(revision or 'main', safe='')}/{quote(path, safe='/~')}"
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
        elif code in ("RepoNotFound", "RevisionNotFound") or status in (401, 403):
            what = "the hub has no such data set or revision, or it is private"
            remedy = "compare the spelling; for a private one: rewarm connections add hf"
        else:
            return super().refused(uri, status, code)
        return UnsettledError(what, where=uri, remedy=remedy)

    def entries(self, uri: str, deep: bool) -> Iterator[Entry]:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            HTTPError,
            OfflineModeIsEnabled,
        )

        name, revision, path = split(uri)
        api = HfApi(self.endpoint, self.token or False)
        root = f"hf://datasets/{name}{'@' + revision if revision else ''}/"
        options: dict[str, Any] = {"repo_type": "dataset", "revision": revision}

        def found() -> list[Any]:
            try:
                if path:
                    named = api.get_paths_info(name, [path.rstrip("/")], **options)
                    if named and not hasattr(named[0], "tree_id"):
                        return list(named)
                return list(api.list_repo_tree(name, path.rstrip("/") or None, recursive=deep, **options))
            except OfflineModeIsEnabled:
                raise UnsettledError("HF_HUB_OFFLINE is set", where=uri, remedy="unset it") from None
            except EntryNotFoundError:
                return []
            except HFValidationError as error:
                raise DataError(str(error), where=uri, remedy="write hf://datasets/OWNER/NAME/PATH") from None
            except HfHubHTTPError as error:
                status = error.response.status_code
                if status in PASSING:
                    raise PassingError(f"HTTP {status}") from None
                raise self.refused(uri, status, error.response.headers.get("X-Error-Code", "")) from None
            except HTTPError as error:
                raise PassingError(type(error).__name__) from None

        items = self.patiently(uri, found)
        for item in items:
            if hasattr(item, "tree_id"):
                if not deep:
                    yield Entry(f"{root}{item.path}/", None)
            else:
                yield Entry(root + item.path, Signature(item.size, item.lfs.sha256 if item.lfs else item.blob_id))


def split(uri: str) -> tuple[str, str | None, str]:
    """Owner/name, revision and path of an hf:// URI.

    Raises:
        DataError: if it is none of a data set.
    """
    found = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", uri, re.DOTALL)
    if not found:
        raise DataError("this is no data set of a hub", where=uri, remedy="write hf://datasets/OWNER/NAME/PATH")
    return found[1], found[2] and found[2].replace("%2F", "/"), found[3] or ""
