"""The Model Hub: versions, files, aliases, tags, and models on their way in and out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field

from rewarm.hub.aliases import Alias, Demands
from rewarm.hub.transfer import archive, archive_size
from rewarm.studio.api.access import Administrator, Editor, Limit, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import models, transfers
from rewarm.studio.service.models import Graph, VersionDetail, VersionView
from rewarm.studio.service.transfers import Transfer

router = routes("", "models")
Reference = Annotated[str, Path(examples=["legal-vi@3"], description="name@n, or name@alias")]
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "the range that was asked for"},
    304: {"description": "it is what If-None-Match names"},
    416: {"description": "there is no such range"},
}


class Target(BaseModel):
    version: int = Field(ge=1, lt=2**63, examples=[3])


class Import(BaseModel):
    source: str = Field(max_length=300, examples=["HuggingFaceTB/SmolLM2-135M"], description="hub id, or uploads/NAME")
    name: str = Field(max_length=100, examples=["smollm2"])


class Push(BaseModel):
    hub_id: str = Field(max_length=200, examples=["our-team/legal-vi"])
    connection: str | None = Field(
        None, pattern="^[A-Za-z0-9][A-Za-z0-9-]{2,63}$", description="of kind hf; huggingface when unset"
    )
    public: bool = False


class Gguf(BaseModel):
    type: Literal["f32", "f16", "bf16", "q8_0"] = "f16"


@router.get("/models")
def list_versions(
    studio: TheStudio, user: Viewer, text: str = "", after: str | None = None, limit: Limit = 100
) -> list[VersionView]:
    """Versions, the newest first; go on behind the last one with ``after``."""
    return models.list_versions(studio, user, text=text, after=after, limit=limit)


@router.post("/models/imports", status_code=202, responses=documented(404))
def import_model(studio: TheStudio, user: Editor, asked: Import) -> Transfer:
    """Make a hub model, or an uploaded folder or archive, a version: safetensors only, and no code of its own."""
    return transfers.import_model(studio, user, asked.source, asked.name)


@router.get("/models/{reference}", responses=documented(404))
def show(studio: TheStudio, user: Viewer, reference: Reference) -> VersionDetail:
    """A version: card, files with checksums, lineage, report's headline, and what uses it."""
    return models.show(studio, user, reference)


@router.delete("/models/{reference}", status_code=204, responses=documented(404, 409))
def delete(studio: TheStudio, user: Editor, reference: Reference, confirm: str) -> None:
    """Delete a version that nothing uses; ``confirm`` is name@n once more."""
    models.delete(studio, user, reference, confirm)


@router.get("/models/{reference}/lineage", responses=documented(404))
def lineage(studio: TheStudio, user: Viewer, reference: Reference) -> Graph:
    """What the version was made of, and what was made of it."""
    return models.graph(studio, user, reference)


@router.get("/models/{reference}/files/{name:path}", response_class=Response, responses=_BYTES | documented(404))
def file(
    studio: TheStudio,
    user: Viewer,
    reference: Reference,
    name: str,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A file, whole or a range of it; its ETag is its SHA-256."""
    path, sha256 = models.file_of(studio, user, reference, name)
    tag = f'"{sha256}"'
    if if_none_match and tag in [each.strip() for each in if_none_match.split(",")]:
        return Response(status_code=304, headers={"ETag": tag})
    return FileResponse(path, headers={"ETag": tag}, filename=path.name, media_type="application/octet-stream")


@router.get(
    "/models/{reference}/archive",
    response_class=Response,
    responses={200: {"content": {"application/x-tar": {}}}, **documented(404)},
)
def whole(studio: TheStudio, user: Viewer, reference: Reference) -> Response:
    """All files as one tar file, made while it is sent."""
    version = models.version_of(studio, user, reference)
    headers = {
        "Content-Length": str(archive_size(version)),
        "Content-Disposition": f'attachment; filename="{version.name}-{version.number}.tar"',
    }
    return StreamingResponse(archive(version), headers=headers, media_type="application/x-tar")


@router.put("/models/{reference}/tags", responses=documented(404))
def tag(studio: TheStudio, user: Editor, reference: Reference, tags: dict[str, str]) -> dict[str, str]:
    """Replace the version's tags."""
    return models.tag(studio, user, reference, tags)


@router.get("/models/{name}/aliases", responses=documented(404))
def list_aliases(studio: TheStudio, user: Viewer, name: str) -> dict[str, Alias]:
    """What the model's aliases mean, and what they demand."""
    return models.list_aliases(studio, user, name)


@router.put("/models/{name}/aliases/{alias}", responses=documented(404, 409))
def point(studio: TheStudio, user: Editor, name: str, alias: str, target: Target) -> Alias:
    """Let the alias mean a version; refused where the version's report does not show what the alias demands."""
    return models.point(studio, user, name, alias, target.version)


@router.delete("/models/{name}/aliases/{alias}", status_code=204, responses=documented(404))
def unpoint(studio: TheStudio, user: Editor, name: str, alias: str) -> None:
    """Let the alias mean nothing."""
    models.unpoint(studio, user, name, alias)


@router.put("/models/{name}/gates/{alias}", responses=documented(404))
def demand(studio: TheStudio, user: Administrator, name: str, alias: str, demands: Demands) -> Alias:
    """Set what the alias demands of a version's report."""
    return models.demand(studio, user, name, alias, demands)


@router.post("/models/{reference}/push", status_code=202, responses=documented(404))
def push(studio: TheStudio, user: Editor, reference: Reference, asked: Push) -> Transfer:
    """Put a version on a hub, with the token of a connection."""
    return transfers.push(studio, user, reference, asked.hub_id, asked.connection, asked.public)


@router.post("/models/{reference}/gguf", status_code=202, responses=documented(404))
def export_gguf(studio: TheStudio, user: Editor, reference: Reference, asked: Gguf) -> Transfer:
    """Convert a version to GGUF, where llama.cpp's converter is installed."""
    return transfers.export_gguf(studio, user, reference, asked.type)


@router.get("/transfers")
def list_transfers(
    studio: TheStudio, user: Viewer, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[Transfer]:
    """Imports, pushes and exports, the newest first."""
    return transfers.list_transfers(studio, user, limit)


@router.get("/transfers/{id}", responses=documented(404))
def show_transfer(studio: TheStudio, user: Viewer, id: str) -> Transfer:
    """How far it is, or how it ended."""
    return transfers.show(studio, user, id)


@router.get("/transfers/{id}/file", response_class=Response, responses=_BYTES | documented(404))
def transfer_file(studio: TheStudio, user: Viewer, id: str) -> Response:
    """The file that an export made."""
    path = transfers.file_of(studio, user, id)
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")
