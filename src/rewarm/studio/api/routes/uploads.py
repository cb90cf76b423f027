"""Uploads, piece by piece; and the texts that they become."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from rewarm.core.errors import UserError
from rewarm.studio.api.access import Editor, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import uploads as verbs
from rewarm.studio.service.connections import Preview
from rewarm.studio.service.uploads import Part, Upload, UploadedFile, UploadedText, UploadedTextDetail
from rewarm.studio.service.uses import Users

router = routes("/uploads", "uploads")
texts = routes("/texts", "uploads")

_BLOCK = 1 << 20
_SILENT_SECONDS = 60
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}  # fmt: skip  # noqa: E501
File = Annotated[str | None, Query(max_length=255, description="one of its files; all when unset")]


class NewUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(max_length=100, description="the folder that the file belongs to", examples=["law"])
    file: str = Field(max_length=255, examples=["2025.jsonl.gz"])
    bytes: int = Field(ge=1, le=2**50, examples=[104857600])


class Hash(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$", description="of the whole file, where it is known")


@router.get("")
def list_uploads(studio: TheStudio, user: Editor) -> list[Upload]:
    """One's own uploads that are unfinished."""
    return verbs.listed(studio, user)


@router.post("", status_code=201, responses=documented(409))
def begin(studio: TheStudio, user: Editor, body: NewUpload) -> Upload:
    """Announce a file. Then PUT its bytes in pieces of any size, and finish with its hash."""
    return verbs.begin(studio, user, body.text, body.file, body.bytes)


@router.get("/{upload}", responses=documented(404))
def show(upload: str, studio: TheStudio, user: Editor) -> Upload:
    """How far an upload has come."""
    return verbs.find(studio, user, upload)


@router.put("/{upload}", responses=documented(404, 409), openapi_extra=_BODY)
async def append(
    upload: str, request: Request, studio: TheStudio, user: Editor, offset: Annotated[int, Query(ge=0, le=2**50)]
) -> Upload:
    """Send the bytes from ``offset`` on. What arrived of a piece that was cut off stays."""
    part = await run_in_threadpool(verbs.open_part, studio, user, upload, offset)
    try:
        await _receive(request, part)
    finally:
        part.close()
    return await run_in_threadpool(verbs.find, studio, user, upload)


async def _receive(request: Request, part: Part) -> None:
    """Write the body as it comes, in blocks; who sends nothing for a minute is not waited for."""
    stream, waiting = request.stream(), bytearray()
    try:
        while True:
            async with asyncio.timeout(_SILENT_SECONDS):
                block = await anext(stream, b"")
            waiting += block
            if len(waiting) >= _BLOCK or not block:
                await run_in_threadpool(part.write, bytes(waiting))
                waiting.clear()
            if not block:
                return
    except TimeoutError:
        raise UserError(f"nothing came for {_SILENT_SECONDS} s", remedy="go on from where it has come to") from None
    except ClientDisconnect:
        part.write(bytes(waiting))


@router.post("/{upload}/finish", responses=documented(404, 409))
def finish(upload: str, studio: TheStudio, user: Editor, body: Hash) -> UploadedFile:
    """Check length, hash and first documents; then the file is one of its text."""
    return verbs.finish(studio, user, upload, body.sha256)


@router.delete("/{upload}", status_code=204, responses=documented(404, 409))
def abandon(upload: str, studio: TheStudio, user: Editor) -> Response:
    """Give up an upload that is not finished."""
    verbs.abandon(studio, user, upload)
    return Response(status_code=204)


@texts.get("")
def list_texts(studio: TheStudio, user: Viewer) -> list[UploadedText]:
    """The texts that were uploaded; a recipe names one by its ``path``."""
    return verbs.texts(studio, user)


@texts.get("/{text}", responses=documented(404))
def show_text(text: str, studio: TheStudio, user: Viewer) -> UploadedTextDetail:
    """The files of a text, and who uses it."""
    return verbs.show_text(studio, user, text)


@texts.get("/{text}/preview", responses=documented(404))
def preview_text(
    text: str,
    studio: TheStudio,
    user: Viewer,
    file: File = None,
    documents: Annotated[int, Query(ge=1, le=20)] = 3,
    text_column: Annotated[str | None, Query(max_length=200)] = None,
) -> Preview:
    """The first documents of a text."""
    return verbs.preview_text(studio, user, text, file, documents, text_column)


@texts.delete("/{text}", responses=documented(404, 409))
def delete_text(
    text: str,
    studio: TheStudio,
    user: Editor,
    file: File = None,
    used: Annotated[bool, Query(description="also where a pipeline names it")] = False,
) -> Users:
    """Delete a text or one of its files, never while a live run reads it; the answer is who used it."""
    return verbs.delete_text(studio, user, text, file, used)
