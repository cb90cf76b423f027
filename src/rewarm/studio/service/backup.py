"""The whole workspace as one file, and back: ``FILE.tar.zst``, with the SHA-256 of every file in it.

A backup is taken while runs go on: the database as one state of it, each file as it was at one moment; what a run
deletes meanwhile (an old checkpoint) is left out as a whole. It is read as a stream, and nothing of it is seen under
its name before all of it was compared with its hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

import orjson
import zstandard

import rewarm
from rewarm.core.errors import Conflict, DataError, NotFound, ResourceError, UserError
from rewarm.core.manifest import to_json
from rewarm.core.storage import TEMPORARY, is_disk_full, locked, require_space, sync, sync_folder
from rewarm.core.workspace import Workspace

Progress = Callable[[str, float, float, str], None]
"""``(what, done, total, unit)``, as the terminal's bars take it."""
DATABASE = "rewarm.db"
_DUMP = "database.dump"
_HEADER, _MANIFEST = ".rewarm-backup/header.json", ".rewarm-backup/manifest.json"
_LEFT_OUT = {"locks", "cache", "backups", "secret.key", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"}
_BLOCK = 1 << 20
_LARGEST_HEADER = 1 << 16  # bytes of a long name; tarfile takes it into memory whole
_LARGEST_LIST = 1 << 28
_SLACK = 1 << 30  # bytes by which a workspace may grow while it is read
KEPT_DAYS = 7


# --- the archive ---


def back_up(
    workspace: Workspace,
    target: Path,
    *,
    database_url: str | None = None,
    checkpoints: bool = True,
    secrets: bool = False,
    progress: Progress = lambda what, done, total, unit: None,
) -> dict[str, Any]:
    """Write the workspace into ``target``, which appears once whole; returns ``{files, bytes, left_out, database}``.

    Raises:
        Conflict: if ``target`` is there.
        ResourceError: if the disk has too little room.
    """
    if target.exists():
        raise Conflict("is there already", where=target, remedy="choose another name")
    if not workspace.root.is_dir():
        raise NotFound("there is no workspace", where=workspace.root, remedy="set REWARM_HOME")
    beside = target.parent / f"{TEMPORARY}{target.name}-{uuid.uuid4().hex[:8]}"
    copy = target.parent / f"{TEMPORARY}{target.name}-database-{uuid.uuid4().hex[:8]}"
    try:
        named = {} if (name := _copy_of_database(workspace, database_url, copy)) is None else {name: copy}
        named |= {"secret.key": workspace.secret_key} if secrets and workspace.secret_key.exists() else {}
        named |= {path.relative_to(workspace.root).as_posix(): path for path in _files(workspace.root, checkpoints)}
        with beside.open("xb") as raw:
            done = _write_archive(workspace, raw, named, progress)
            raw.flush()
            os.fsync(raw.fileno())
        os.link(beside, target)  # unlike a rename, it refuses a file that came meanwhile
        sync(target.parent)
        return done
    except FileExistsError:
        raise Conflict("is there already", where=target, remedy="choose another name") from None
    except OSError as error:
        if is_disk_full(error):
            raise ResourceError("the disk is full", where=target.parent, remedy="choose another disk") from None
        raise
    finally:
        beside.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)


def _files(root: Path, checkpoints: bool) -> Iterator[Path]:
    """What belongs to a backup; links are left out, as nobody knows where they lead on another computer."""
    for base, folders, names in os.walk(root):
        here = Path(base)
        folders[:] = sorted(name for name in folders if not name.startswith(TEMPORARY))
        if here == root:
            folders[:] = [name for name in folders if name not in _LEFT_OUT]
            names = [name for name in names if name not in _LEFT_OUT]
        elif not checkpoints and here.parent.parent == root and here.parent.name == "runs":
            folders[:] = [name for name in folders if name != "checkpoints"]
        for name in sorted(names):
            if not name.startswith(TEMPORARY) and (here / name).is_file() and not (here / name).is_symlink():
                yield here / name


def _write_archive(workspace: Workspace, raw: IO[bytes], named: dict[str, Path], progress: Progress) -> dict[str, Any]:
    total, done = sum(_size(path) for path in named.values()), 0
    files: dict[str, dict[str, Any]] = {}
    gone: set[str] = set()
    compressor = zstandard.ZstdCompressor(level=3, threads=-1, write_checksum=True)
    with compressor.stream_writer(raw, closefd=False) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        header = {"schema": 1, "rewarm": rewarm.__version__, "created": time.time(), "bytes": total}
        _add_bytes(archive, _HEADER, to_json(header))
        for name, path in named.items():
            progress("back up", done, total, "bytes")
            try:
                files[name] = _add_file(archive, name, path)
                done += files[name]["bytes"]
            except FileNotFoundError:
                gone.add(_whole(workspace.root, PurePosixPath(name)))
        left_out = sorted(gone)
        _add_bytes(archive, _MANIFEST, orjson.dumps({"files": files, "left_out": left_out}))
    progress("back up", done, done, "bytes")
    database = next((name for name in (DATABASE, _DUMP) if name in files), None)
    return {"files": len(files), "bytes": done, "left_out": left_out, "database": database}


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _whole(root: Path, name: PurePosixPath) -> str:
    """What is no longer whole without the file ``name``: the outermost folder that went with it, or it alone."""
    for folder in list(reversed(name.parents))[2:]:
        version = folder.parts[0] == "models" and len(folder.parts) == 3
        if not (root / folder).exists() or (version and not (root / folder / "manifest.json").exists()):
            return str(folder)
    return str(name)


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(data), int(time.time())
    archive.addfile(entry, io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> dict[str, Any]:
    """As long as it is when it is opened: a record that grows meanwhile ends there."""
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime = facts.st_size, int(facts.st_mtime)
        source = _Hashing(file)
        try:
            archive.addfile(entry, source)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno is None:  # it became shorter
                raise ResourceError("changed while it was read", where=path, remedy="back up again") from None
            raise
    return {"bytes": facts.st_size, "sha256": source.hash.hexdigest()}


class _Hashing:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


def restore(
    workspace: Workspace,
    source: Path,
    *,
    database_url: str | None = None,
    progress: Progress = lambda what, done, total, unit: None,
) -> dict[str, Any]:
    """Make the workspace what the backup ``source`` holds; returns ``{files, bytes, left_out, secrets}``.

    Nothing is there under its name before every file has its hash. A restore that was killed is begun anew, or, where
    all had been compared, brought to its end.

    Raises:
        Conflict: if the workspace is not empty.
        DataError: if the backup is damaged, cut, or none.
        ResourceError: if the disk has too little room.
    """
    root = workspace.root
    root.mkdir(parents=True, exist_ok=True)
    staging = root / f"{TEMPORARY}restore"
    with locked(root / f"{TEMPORARY}restore.lock", "this workspace"):
        whole, kept = staging / _MANIFEST, staging / _HEADER
        if not (whole.exists() and kept.read_bytes() == to_json(_header(source))):
            if any(not item.name.startswith(TEMPORARY) for item in root.iterdir()):
                remedy = "set REWARM_HOME to an empty folder; the database alone: rewarm restore --database"
                raise Conflict("the workspace is not empty", where=root, remedy=remedy)
            shutil.rmtree(staging, ignore_errors=True)
            try:
                _read_archive(source, staging, progress)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
        done = orjson.loads(whole.read_bytes())
        if (dump := staging / _DUMP).exists():
            if database_url is None:
                remedy = "give --database-url postgresql://USER:PASSWORD@HOST/NAME of an empty database"
                raise UserError("this backup holds a PostgreSQL database", where=source, remedy=remedy)
            _pg("pg_restore", database_url, "--no-owner", "--single-transaction", "--exit-on-error", str(dump))
            dump.unlink()
        for item in sorted(staging.iterdir()):
            if item.name != whole.parent.name:
                item.rename(root / item.name)
        sync(root)
        shutil.rmtree(staging)
    (root / f"{TEMPORARY}restore.lock").unlink(missing_ok=True)
    files = done["files"]
    total = sum(entry["bytes"] for entry in files.values())
    return {"files": len(files), "bytes": total, "left_out": done["left_out"], "secrets": "secret.key" in files}


class _Entry(tarfile.TarInfo):
    """An entry whose long names are bounded: tarfile takes them into memory whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError("a header is too large")
        return super()._proc_member(archive)  # type: ignore[misc]


def _read_archive(source: Path, staging: Path, progress: Progress) -> None:
    """Write the backup's files into ``staging``, compare them, and only then its manifest."""
    files: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] = {}
    with _opened(source) as archive:
        header = _list(archive, archive.next(), _HEADER, source)
        require_space(staging, header["bytes"], "the backup's content")
        done, most = 0, 2 * header["bytes"] + _SLACK
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            progress("restore", done, header["bytes"], "bytes")
            if entry.name == _MANIFEST:
                manifest = _list(archive, entry, _MANIFEST, source)
                break
            done += entry.size
            if not entry.isreg() or entry.name in files or done > most:
                raise _damaged(source)
            files[entry.name] = _take(archive, entry, staging / _inside(entry.name, source))
    if files != manifest.get("files"):
        raise _damaged(source)
    for name in manifest["left_out"]:
        shutil.rmtree(staging / _inside(name, source), ignore_errors=True)
    staging.mkdir(exist_ok=True)
    sync_folder(staging)
    (staging / _MANIFEST).parent.mkdir()
    (staging / _HEADER).write_bytes(to_json(header))
    (staging / _MANIFEST).write_bytes(orjson.dumps(manifest))
    sync(staging / _MANIFEST)


def _header(source: Path) -> dict[str, Any]:
    """What a backup says of itself first. Raises ``DataError`` where it is none."""
    with _opened(source) as archive:
        return _list(archive, archive.next(), _HEADER, source)


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    """The archive as a stream. Raises ``DataError`` for whatever is wrong with it while it is read."""
    try:
        with (
            source.open("rb") as raw,
            zstandard.ZstdDecompressor().stream_reader(raw) as plain,
            tarfile.open(fileobj=plain, mode="r|", bufsize=_BLOCK, tarinfo=_Entry) as archive,
        ):
            yield archive
    except FileNotFoundError:
        raise NotFound("there is no such file", where=source) from None
    except (tarfile.TarError, zstandard.ZstdError, EOFError, orjson.JSONDecodeError, KeyError, TypeError):
        raise _damaged(source) from None


def _damaged(source: Path) -> DataError:
    return DataError("this backup is damaged or cut", where=source, remedy="take another one")


def _list(archive: tarfile.TarFile, entry: tarfile.TarInfo | None, name: str, source: Path) -> dict[str, Any]:
    found = archive.extractfile(entry) if entry and entry.name == name and 0 < entry.size < _LARGEST_LIST else None
    value = orjson.loads(found.read()) if found else None
    if not isinstance(value, dict):
        raise DataError("is no backup of Rewarm's", where=source, remedy="make one with: rewarm backup FILE")
    return value


def _inside(name: str, source: Path) -> Path:
    """``name`` as a path below the workspace. Raises ``DataError`` where it leads elsewhere."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\0" in name or str(pure) != name:
        raise DataError("names a file outside the workspace", where=f"{source}: {name[:200]!a}", remedy="do not use it")
    return Path(*pure.parts)


def _take(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, left, found = hashlib.sha256(), entry.size, archive.extractfile(entry)
    assert found is not None
    mode = 0o600 if path.name == "secret.key" else 0o644
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        while left and (block := found.read(min(left, _BLOCK))):
            digest.update(block)
            file.write(block)
            left -= len(block)
    if left:
        raise tarfile.ReadError("a file is cut")
    os.utime(path, (entry.mtime, entry.mtime))
    return {"bytes": entry.size, "sha256": digest.hexdigest()}


# --- the database alone ---


def _copy_of_database(workspace: Workspace, url: str | None, target: Path) -> str | None:
    """One state of the database, written to the new file ``target``; the name that it has in a backup."""
    if url is not None and url.startswith("postgres"):
        _pg("pg_dump", url, "--format=custom", f"--file={target}")
        return _DUMP
    source = workspace.root / DATABASE
    if not source.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
        _check_copy(target)
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        if "full" in str(error):
            raise ResourceError("the disk is full", where=target.parent, remedy="free some space") from None
        remedy = "rewarm restore --database takes the newest copy that is whole"
        raise DataError(f"the database is damaged: {error}", where=source, remedy=remedy) from None
    sync(target)
    return DATABASE


def _check_copy(path: Path) -> None:
    """Raises ``sqlite3.DatabaseError`` where the file is damaged."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        if (found := connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)


def copies(workspace: Workspace) -> list[Path]:
    """The daily copies of the database, the newest first; last those of days to come, which a wrong clock has made."""
    now = time.time()
    there = (workspace.root / "backups").glob("database-*")
    return sorted(there, key=lambda path: (path.stat().st_mtime <= now, path.name), reverse=True)


def keep_copy(workspace: Workspace, url: str | None, now: float) -> Path | None:
    """Copy the database if the newest copy is a day old, and delete those older than a week; the new copy.

    Raises:
        UserError: where the database is damaged or cannot be copied; no copy is deleted then.
    """
    there = copies(workspace)
    if any(0 <= now - path.stat().st_mtime < 86_400 for path in there):  # a clock that was wrong leaves later ones
        return None
    folder = workspace.root / "backups"
    folder.mkdir(exist_ok=True)
    beside = folder / f"{TEMPORARY}{uuid.uuid4().hex[:8]}"
    try:
        if (name := _copy_of_database(workspace, url, beside)) is None:
            return None
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
        made = beside.rename(folder / f"database-{stamp}{Path(name).suffix}")
    finally:
        beside.unlink(missing_ok=True)
    for old in there:
        if now - old.stat().st_mtime > KEPT_DAYS * 86_400:
            old.unlink()
    return made


def restore_database(workspace: Workspace, source: Path | None = None, url: str | None = None) -> Path:
    """Put a copy of the database in its place, the newest that is whole or ``source``; returns the copy.

    What was there is kept beside, as ``rewarm.db.before-...``.

    Raises:
        UserError: while a Studio runs on this workspace.
        NotFound: if there is no whole copy.
    """
    with locked(workspace.root / "locks" / "studio.lock", "this workspace"):
        for copy in [source] if source else copies(workspace):
            if url is not None and url.startswith("postgres"):
                if copy.suffix == ".dump":
                    _pg("pg_restore", url, "--no-owner", "--clean", "--if-exists", "--single-transaction", str(copy))
                    return copy
            elif copy.suffix != ".dump" and _exchange(workspace, copy):
                return copy
    where = source or workspace.root / "backups"
    raise NotFound("there is no whole copy of the database", where=where, remedy="rewarm restore FILE, a whole backup")


def _exchange(workspace: Workspace, copy: Path) -> bool:
    beside = workspace.root / f"{TEMPORARY}{DATABASE}-{uuid.uuid4().hex[:8]}"
    try:
        shutil.copyfile(copy, beside)
        _check_copy(beside)
        sync(beside)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        for end in ("-wal", "-shm", ""):  # the database last: with it goes what belongs to it
            if (old := workspace.root / f"{DATABASE}{end}").exists():
                old.rename(workspace.root / f"{DATABASE}.before-{stamp}{end}")
        beside.rename(workspace.root / DATABASE)
        sync(workspace.root)
        return True
    except FileNotFoundError:
        raise NotFound("there is no such file", where=copy) from None
    except sqlite3.DatabaseError:
        return False
    finally:
        beside.unlink(missing_ok=True)


def _pg(program: str, url: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the database at ``url``; the password is not part of its command line.

    Raises:
        ResourceError: where it is not installed, or says that something is wrong.
    """
    parts = urlsplit(re.sub(r"^postgres\w*(\+\w+)?://", "postgresql://", url))
    environment = {**os.environ, "PGPASSWORD": unquote(parts.password)} if parts.password else dict(os.environ)
    place = parts.netloc.rpartition("@")[2]
    named = urlunsplit(parts._replace(netloc=f"{parts.username}@{place}" if parts.username else place))
    try:
        done = subprocess.run([program, f"--dbname={named}", *arguments], env=environment, capture_output=True)
    except FileNotFoundError:
        raise ResourceError(
            f"{program} is not installed here", remedy="install PostgreSQL's client programs (postgresql-client)"
        ) from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ResourceError(f"{program}: {lines[0] if lines else f'ended with code {done.returncode}'}")
