"""Files that users send: piece by piece, of any size that the disk holds, and whole or not there.

An upload grows in ``unfinished/ID/`` and is its uploader's alone. Once its length, its hash and its first documents are
right it becomes ``uploads/TEXT/FILE``, in one step; a recipe names ``uploads/TEXT``. Nothing is ever unpacked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from pydantic import BaseModel, Field

from rewarm.core.errors import Conflict, DataError, Forbidden, NotFound, ResourceError, UserError
from rewarm.core.manifest import to_json
from rewarm.core.storage import free_bytes, locked, remove_folder, sha256_file, sync, write_file
from rewarm.data.files import FORMATS, PACKED, promises_documents
from rewarm.recipe.recipe import Recipe
from rewarm.studio.context import Role, Studio, User
from rewarm.studio.service.connections import Preview
from rewarm.studio.service.engine import Busy, ask
from rewarm.studio.service.uses import Users, users
from rewarm.studio.store.audit import note

ABANDONED_SECONDS = 3 * 86400.0
MOST_UNFINISHED = 100
"""Of one user."""
_SPARE = 1 << 30
_LOOKED_AT, _SECONDS = 100, 30.0  # records, and how long a sound reader may take for them
_ABOUT = ".upload.json"


class Upload(BaseModel):
    """A file on its way."""

    id: str = Field(examples=["9f86d081884c7d65"])
    text: str = Field(examples=["law"])
    file: str = Field(examples=["2025.jsonl.gz"])
    bytes: int = Field(description="that the file has", examples=[104857600])
    offset: int = Field(description="bytes that are here; the next piece begins there", examples=[8388608])
    created: float = Field(examples=[1767225600.0])


class UploadedFile(BaseModel):
    """A file that is here whole."""

    name: str = Field(examples=["2025.jsonl.gz"])
    bytes: int = Field(examples=[104857600])
    sha256: str
    by: str = Field(examples=["ana"])
    time: float = Field(examples=[1767225600.0])


class UploadedText(BaseModel):
    """A folder of uploaded files."""

    text: str = Field(examples=["law"])
    path: str = Field(description="what a recipe names it by", examples=["uploads/law"])
    bytes: int
    files: list[UploadedFile]


class UploadedTextDetail(UploadedText):
    used_by: Users


# ---- on their way ----


def begin(studio: Studio, user: User, text: str, file: str, size: int) -> Upload:
    """Make room for a file of ``size`` bytes that is to be ``uploads/TEXT/FILE``.

    Raises:
        UserError: for a name that cannot be one. Conflict: if that file is there. ResourceError: without space for it.
    """
    user.check(Role.editor)
    text, file = _text_name(text), _file_name(file)
    if _final(studio, text, file).exists():
        raise Conflict(
            "there is a file of that name", where=f"{text}/{file}", remedy="delete it, or name this one anew"
        )
    mine = listed(studio, user)
    if len(mine) >= MOST_UNFINISHED:
        raise Conflict(f"{len(mine)} uploads are unfinished", remedy="finish or delete some of them")
    pending = sum(u.bytes - u.offset for u, _ in _unfinished(studio))
    _root(studio).mkdir(parents=True, exist_ok=True, mode=0o700)
    if (free := free_bytes(_root(studio)) - pending - _SPARE) < size:
        raise ResourceError(
            f"the file has {size / 1e9:.2f} GB, and there is space for {max(0, free) / 1e9:.2f} GB",
            remedy="free some space, or read it from a store by a connection",
        )
    id = secrets.token_hex(16)
    folder = _root(studio) / id
    folder.mkdir(mode=0o700)
    (folder / file).touch(mode=0o600)
    about = {"text": text, "file": file, "bytes": size, "created": time.time(), "user": user.id, "by": user.name}
    write_file(folder / _ABOUT, to_json(about))  # last: with it, the upload is there
    return find(studio, user, id)


def listed(studio: Studio, user: User) -> list[Upload]:
    """One's own uploads that are unfinished, the oldest first."""
    return sorted((u for u, about in _unfinished(studio) if about["user"] == user.id), key=lambda u: u.created)


def find(studio: Studio, user: User, id: str) -> Upload:
    """One's own upload ``id``. Raises ``NotFound``, also for somebody else's."""
    if re.fullmatch(r"[0-9a-f]{32}", id):
        for upload, about in _unfinished(studio, id):
            if about["user"] == user.id:
                return upload
    raise NotFound("there is no such upload", where=id[:100], remedy="begin it anew")


def _unfinished(studio: Studio, name: str = "*") -> Iterator[tuple[Upload, dict[str, Any]]]:
    for folder in _root(studio).glob(name):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # damaged, or just finished: it is none
            yield _read(folder)


def _read(folder: Path) -> tuple[Upload, dict[str, Any]]:
    about = orjson.loads((folder / _ABOUT).read_bytes())
    offset = (folder / about["file"]).stat().st_size
    return Upload(id=folder.name, offset=offset, **{k: about[k] for k in ("text", "file", "bytes", "created")}), about


class Part:
    """Where a piece of an upload is written to; held by one request at a time."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file, self._left = file, left

    def write(self, block: bytes) -> None:
        if len(block) > self._left:
            raise UserError("these are more bytes than the file was said to have", remedy="begin the upload anew")
        self._left -= len(block)
        self._file.write(block)

    def close(self) -> None:
        self._file.close()


def open_part(studio: Studio, user: User, id: str, offset: int) -> Part:
    """Go on with an upload at ``offset``, which must be as far as it has come.

    Raises:
        Conflict: if it has come to another byte, or another request writes to it.
    """
    upload = find(studio, user, id)
    file = _held(_root(studio) / id / upload.file)
    here = os.fstat(file.fileno()).st_size
    if here != offset:
        file.close()
        raise Conflict(f"the next byte is {here}", where="offset", remedy="go on from there")
    return Part(file, upload.bytes - here)


def _held(path: Path) -> BinaryIO:
    """The file to append to, with a lock on it as long as it is open."""
    file = path.open("ab", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Conflict("another request writes to this upload", remedy="wait until it has ended") from None
    return file


def finish(studio: Studio, user: User, id: str, sha256: str | None) -> UploadedFile:
    """Make an upload a file of its text. Without a hash (browsers make none of large files) its length is checked.

    Raises:
        Conflict: if bytes are missing, or by now there is a file of that name.
        DataError: if it is not what was sent, or its first records hold no document.
    """
    upload = find(studio, user, id)
    path = _root(studio) / id / upload.file
    with _held(path):
        if (here := path.stat().st_size) != upload.bytes:
            raise Conflict(f"{upload.bytes - here} bytes are missing", where="offset", remedy=f"go on at {here}")
        sync(path)
        here_is = sha256_file(path)
        if sha256 is not None and here_is != sha256.lower():
            raise DataError("these are not the bytes that were sent (SHA-256)", where=upload.file, remedy="begin anew")
        _require_documents(studio, path)
        final = _final(studio, upload.text, upload.file)
        found = UploadedFile(name=upload.file, bytes=upload.bytes, sha256=here_is, by=user.name, time=time.time())
        with _alone(studio):
            if final.exists():
                raise Conflict("by now there is a file of that name", where=f"{upload.text}/{upload.file}")
            write_file(_record(final), to_json(found.model_dump()))
            path.rename(final)
            sync(final.parent)
    shutil.rmtree(path.parent, ignore_errors=True)
    _noted(studio, user, "upload", f"{upload.text}/{upload.file}", bytes=upload.bytes, sha256=found.sha256)
    return found


def _require_documents(studio: Studio, path: Path) -> None:
    """A process of its own reads them: what breaks a reader must not break the server."""
    try:
        found = ask(studio.workspace, ["data", "preview", str(path), f"--documents={_LOOKED_AT}"], _SECONDS)[
            "documents"
        ]
    except Busy:
        raise
    except UserError as error:
        what = error.what.replace(str(path), path.name).removeprefix(f"{path.name}: ")
        raise DataError(what, where=path.name, remedy=error.remedy) from None
    if not any("text" in item for item in found):
        reason = f" ({found[0]['rejected']})" if found else ""
        raise DataError(f"its first {len(found)} records hold no document{reason}", where=path.name, remedy=_REMEDY)


def abandon(studio: Studio, user: User, id: str) -> None:
    """Delete an upload that is not finished."""
    upload = find(studio, user, id)
    with _held(_root(studio) / id / upload.file):
        shutil.rmtree(_root(studio) / id, ignore_errors=True)


def sweep(studio: Studio, older_than: float = ABANDONED_SECONDS) -> None:
    """Delete the uploads that got nothing for so many seconds."""
    for folder in _root(studio).glob("*"):
        with contextlib.suppress(FileNotFoundError, Conflict):
            newest = max(item.stat().st_mtime for item in (folder, *folder.iterdir()))
            if time.time() - newest >= older_than:
                shutil.rmtree(folder, ignore_errors=True)


# ---- finished ----


def texts(studio: Studio, user: User) -> list[UploadedText]:
    """All texts that were uploaded, by name."""
    folder = studio.workspace.root / "uploads"
    found = [
        _text(path)
        for path in sorted(folder.glob("*"))
        if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
    ]
    return [text for text in found if text.files]


def _text(folder: Path) -> UploadedText:
    files = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            size = path.stat().st_size
            files.append(_known(path) or UploadedFile(name=path.name, bytes=size, sha256="", by="", time=0.0))
    return UploadedText(
        text=folder.name, path=f"uploads/{folder.name}", bytes=sum(file.bytes for file in files), files=files
    )


def _known(path: Path) -> UploadedFile | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        return UploadedFile.model_validate_json(_record(path).read_bytes())
    return None


def show_text(studio: Studio, user: User, text: str) -> UploadedTextDetail:
    """A text, and the pipelines and live runs that read it."""
    found = _text(_folder(studio, text))
    return UploadedTextDetail(**found.model_dump(), used_by=_users(studio, text))


def preview_text(
    studio: Studio, user: User, text: str, file: str | None = None, documents: int = 3, text_column: str | None = None
) -> Preview:
    """The first documents of a text, or of one of its files."""
    folder = _folder(studio, text)
    path = folder if file is None else _existing(folder, file)
    column = [f"--text-column={text_column}"] if text_column else []
    found = ask(studio.workspace, ["data", "preview", f"--documents={documents}", *column, "--", str(path)])
    return Preview(file=Path(found["file"]).name, documents=found["documents"])


def delete_text(studio: Studio, user: User, text: str, file: str | None = None, used: bool = False) -> Users:
    """Delete a text, or one of its files.

    Raises:
        Conflict: while a live run reads it; or if a pipeline names it, unless ``used``.
    """
    user.check(Role.editor)
    folder = _folder(studio, text)
    path = None if file is None else _existing(folder, file)
    found = _users(studio, text)
    found.refuse("text", found.runs, used)
    with _alone(studio):
        if path is None:
            if not folder.exists():  # somebody else was here
                raise NotFound("there is no such text", where=text)
            remove_folder(folder)
        else:
            path.unlink(missing_ok=True)
            _record(path).unlink(missing_ok=True)
    _noted(studio, user, "delete", text if file is None else f"{text}/{file}", **found.model_dump())
    return found


def _users(studio: Studio, text: str) -> Users:
    folder = studio.workspace.root / "uploads" / text

    def uses(recipe: Recipe) -> bool:
        paths = [Path(path) for each in recipe.texts if getattr(each, "generate", None) is None for path in each.paths]
        return any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in paths)

    return users(studio, text, uses)


# ---- names ----

_REMEDY = f"send files that end in {', '.join(FORMATS)}, or one of these and {', '.join(PACKED)}"


def _text_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        what = "a text's name starts with a letter or digit and has only these, _ and -, at most 100"
        raise UserError(what, where="text", remedy="name it so")
    return name


def _file_name(name: str) -> str:
    """A name that is one file's on every system, and no other's that looks like it."""
    name = unicodedata.normalize("NFC", name)
    plain = (
        name.isprintable() and not set(name) & set('/\\:*?"<>|[]%;~') and name == unicodedata.normalize("NFKC", name)
    )
    if not plain or not name.strip() or name[0] in ". -" or name[-1] in ". " or len(name.encode()) > 200:
        what = (
            "a file's name is a word with an ending, without marks that mean something in paths, of 200 bytes at most"
        )
        raise UserError(what, where="file", remedy="rename it, such as law-2025.jsonl")
    if not promises_documents(name, "auto"):
        raise DataError("its name does not promise documents", where="file", remedy=_REMEDY)
    return name


def _root(studio: Studio) -> Path:
    return studio.workspace.root / "unfinished"


def _folder(studio: Studio, text: str) -> Path:
    path = studio.workspace.root / "uploads" / text
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", text) and path.is_dir() and not path.is_symlink():
        return path
    raise NotFound("there is no such text", where=text[:100])


def _existing(folder: Path, file: str) -> Path:
    for path in folder.iterdir():  # a name of the listing, and nothing that is made of one
        if path.name == file and not file.startswith("."):
            if path.is_symlink():
                raise Forbidden("this is a link", where=file[:100])
            return path
    raise NotFound("there is no such file", where=file[:100])


def _final(studio: Studio, text: str, file: str) -> Path:
    return studio.workspace.root / "uploads" / text / file


def _record(final: Path) -> Path:
    return final.parent / f".{final.name}.json"


def _alone(studio: Studio) -> contextlib.AbstractContextManager[None]:
    return locked(studio.workspace.root / "locks" / "uploads.lock", "the folder of uploads", wait=lambda: None)


def _noted(studio: Studio, user: User, action: str, name: str, **detail: Any) -> None:
    with studio.database.write() as session:
        note(session, time.time(), user.name, action, f"text/{name}", detail)
