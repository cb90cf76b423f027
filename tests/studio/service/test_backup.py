"""A backup holds all that there is, is whole or refused, and brings a workspace back as it was."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from rewarm.core.errors import Conflict, DataError, NotFound, UserError
from rewarm.core.events import EventLog
from rewarm.core.storage import locked, remove_folder
from rewarm.core.workspace import Workspace
from rewarm.hub.models import publish
from rewarm.studio.context import OWNER, open_studio
from rewarm.studio.service import backup as verbs
from rewarm.studio.service.accounts import list_users
from tests.studio.run_files import new_run, write_events


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A run with two checkpoints, a version, a connection, a database, and what no backup holds."""
    made = Workspace(tmp_path / "home")
    run = new_run(made)
    write_events(run, {1: 2.5}, "failed")
    for step in (1, 2):
        folder = run.checkpoints / f"step-{step}"
        folder.mkdir(parents=True)
        for number in range(20):
            (folder / f"model-{number}.safetensors").write_bytes(os.urandom(3000))
    publish(made.models, "legal", lambda folder: (folder / "w.safetensors").write_bytes(b"w" * 5000) and None, {})
    for name in ("connections/store.json", "secret.key", "cache/ab/block", "uploads/tiếng Việt " + "x" * 120):
        (made.root / name).parent.mkdir(parents=True, exist_ok=True)
        (made.root / name).write_text(name)
    (run.path / ".tmp-half").write_text("half")
    (made.root / "link").symlink_to("/etc/passwd")
    studio = open_studio(made)
    from rewarm.studio.service.accounts import first_link

    first_link(studio)
    studio.database.close()
    return made


def content(workspace: Workspace) -> dict[str, bytes]:
    """What a backup is to bring back."""
    skipped = ("cache", "locks", "secret.key", "rewarm.db", "link", "backups", ".tmp-")
    found = {str(path.relative_to(workspace.root)): path for path in workspace.root.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes() for name, path in found.items() if not name.startswith(skipped) and ".tmp-" not in name
    }


def test_what_is_backed_up_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    target, there = tmp_path / "b.tar.zst", Workspace(tmp_path / "there")
    shown: list[float] = []
    done = verbs.back_up(workspace, target, progress=lambda what, at, total, unit: shown.append(at / total))
    assert done["left_out"] == [] and shown == sorted(shown) and shown[-1] == 1
    assert not list(tmp_path.glob(".tmp-*"))
    again = verbs.restore(there, target)
    assert content(there) == content(workspace) and again["files"] == done["files"] and not again["secrets"]
    assert not any((there.root / name).exists() for name in ("secret.key", "cache", "link"))
    assert not list(there.root.glob(".tmp-*"))
    studio = open_studio(there)
    assert [account.name for account in list_users(studio, OWNER)] == ["admin"]
    studio.database.close()
    with pytest.raises(Conflict, match="not empty"):
        verbs.restore(there, target)
    with pytest.raises(Conflict, match="there already"):
        verbs.back_up(workspace, target)


def test_checkpoints_stay_out_and_the_key_comes_in_where_asked(workspace: Workspace, tmp_path: Path) -> None:
    there = Workspace(tmp_path / "there")
    verbs.back_up(workspace, tmp_path / "b", checkpoints=False, secrets=True)
    assert verbs.restore(there, tmp_path / "b")["secrets"]
    assert there.secret_key.read_text() == "secret.key" and there.secret_key.stat().st_mode & 0o777 == 0o600
    assert not list(there.runs.glob("*/checkpoints")) and list(there.runs.glob("*/events.jsonl"))


def test_runs_go_on_meanwhile(workspace: Workspace, tmp_path: Path) -> None:
    """A record grows, a checkpoint goes half-way, the database is written to: the backup is whole all the same."""
    (run,) = (verbs.Path(path) for path in workspace.runs.iterdir())
    log = EventLog(run / "events.jsonl", 2)
    database = sqlite3.connect(workspace.root / "rewarm.db")
    calls = iter(range(10_000))

    def goes_on(what: str, done: float, total: float, unit: str) -> None:
        log.metric(next(calls), 1, {"train/loss": 1.0})
        database.execute("UPDATE users SET created = created + 1")  # its writer does not wait for us, nor we for it
        database.commit()
        if done > 10_000 and (run / "checkpoints/step-1").exists():
            remove_folder(run / "checkpoints/step-1")

    done = verbs.back_up(workspace, tmp_path / "b", progress=goes_on)
    log.close()
    database.close()
    assert done["left_out"] == [f"runs/{run.name}/checkpoints/step-1"]
    there = Workspace(tmp_path / "there")
    verbs.restore(there, tmp_path / "b")
    copy = there.runs / run.name
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["step-2"]
    assert (run / "events.jsonl").read_bytes().startswith((copy / "events.jsonl").read_bytes())
    assert len(list((copy / "checkpoints/step-2").iterdir())) == 20


def test_a_damaged_or_cut_archive_is_refused_and_leaves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    verbs.back_up(workspace, tmp_path / "b")
    data, there = (tmp_path / "b").read_bytes(), Workspace(tmp_path / "there")
    step = len(data) // 12
    bad = [data[:at] for at in range(0, len(data), step)]
    bad += [data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :] for at in range(5, len(data), step)]
    bad += [zstandard.compress(b"x" * 100_000), b"no archive"]
    refused = 0
    for number, each in enumerate(bad):
        (tmp_path / "bad").write_bytes(each)
        try:
            verbs.restore(there, tmp_path / "bad")
        except UserError:
            refused += 1
        else:  # a bit of the frame that changes nothing
            assert content(there) == content(workspace)
            shutil.rmtree(there.root)
            continue
        assert not [item for item in there.root.iterdir() if not item.name.endswith(".lock")], number
    assert refused >= len(bad) - 2
    with pytest.raises(NotFound):
        verbs.restore(there, tmp_path / "nowhere")
    verbs.restore(there, tmp_path / "b")
    assert content(there) == content(workspace)


def archive_of(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    header = tarfile.TarInfo(".rewarm-backup/header.json")
    text = b'{"schema": 1, "bytes": 10}'
    header.size = len(text)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for entry, data in [(header, text), *entries]:
            archive.addfile(entry, io.BytesIO(data))
    path.write_bytes(zstandard.compress(plain.getvalue()))


def entry(name: str, size: int = 1, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, link
    return made


@pytest.mark.parametrize(
    "bad",
    [
        entry("../canary"),
        entry("/tmp/canary"),
        entry("runs/../../canary"),
        entry("runs//x"),
        entry("./x"),
        entry("link", 0, tarfile.SYMTYPE, "/etc/passwd"),
        entry("link", 0, tarfile.LNKTYPE, "rewarm.db"),
        entry("fifo", 0, tarfile.FIFOTYPE),
        entry("device", 0, tarfile.CHRTYPE),
        entry("folder", 0, tarfile.DIRTYPE),
        entry("n" * 100_000),
    ],
    ids=lambda made: made.name[:12] + made.type.decode(),
)
def test_s14_nothing_leads_out_of_the_workspace(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    archive_of(tmp_path / "bad", [(bad, b"x" * bad.size)])
    there = Workspace(tmp_path / "a" / "there")
    with pytest.raises(DataError):
        verbs.restore(there, tmp_path / "bad")
    assert not list(tmp_path.rglob("canary")) and not [x for x in there.root.iterdir() if x.suffix != ".lock"]


def test_s14_a_bomb_is_refused_at_once(tmp_path: Path) -> None:
    zeros, began = io.BytesIO(b"\0"), time.monotonic()
    zeros.read = lambda size=-1: b"\0" * max(0, size)  # type: ignore[method-assign]
    with (tmp_path / "bomb").open("wb") as raw, zstandard.ZstdCompressor(level=1).stream_writer(raw) as packed:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as archive:
            header = entry(".rewarm-backup/header.json", 26)
            archive.addfile(header, io.BytesIO(b'{"schema": 1, "bytes": 10}'))
        packed.write(plain.getvalue()[:1024] + entry("zeros", 10 << 30).tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            packed.write(bytes(1 << 20))
    with pytest.raises(DataError, match="damaged"):
        verbs.restore(Workspace(tmp_path / "there"), tmp_path / "bomb")
    assert time.monotonic() - began < 2


KILLED = """
import os, signal, sys
from pathlib import Path
from rewarm.core.workspace import Workspace
from rewarm.studio.service import backup
verb, home, file, name, count = sys.argv[1:]
left, real = [int(count)], getattr(os, name)
def dies(*arguments, **options):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
setattr(os, name, dies)
getattr(backup, verb)(Workspace(Path(home)), Path(file))
"""


def killed_at(verb: str, workspace: Workspace, file: Path, call: str, count: int) -> bool:
    command = [sys.executable, "-c", KILLED, verb, str(workspace.root), str(file), call, str(count)]
    return subprocess.run(command).returncode == -signal.SIGKILL


def test_a_backup_that_was_killed_is_not_there(workspace: Workspace, tmp_path: Path) -> None:
    for call, count in (("fstat", 20), ("fsync", 1), ("link", 1)):
        assert killed_at("back_up", workspace, tmp_path / "b", call, count)
        assert not (tmp_path / "b").exists()


def test_a_restore_that_was_killed_is_begun_anew_or_ended(workspace: Workspace, tmp_path: Path) -> None:
    verbs.back_up(workspace, tmp_path / "b")
    for number, (call, count) in enumerate((("utime", 10), ("fsync", 3), ("rename", 1), ("rename", 3), ("rmdir", 1))):
        there = Workspace(tmp_path / f"there-{number}")
        assert killed_at("restore", there, tmp_path / "b", call, count), call
        if call != "rmdir":  # all was in its place then
            verbs.restore(there, tmp_path / "b")
        assert content(there) == content(workspace), call
        assert not (there.root / ".rewarm-backup").exists()


def test_a_restore_that_was_killed_is_not_ended_with_another_backup(workspace: Workspace, tmp_path: Path) -> None:
    verbs.back_up(workspace, tmp_path / "a")
    verbs.back_up(workspace, tmp_path / "b", checkpoints=False)
    there = Workspace(tmp_path / "there")
    assert killed_at("restore", there, tmp_path / "a", "rename", 1)  # before anything is in its place
    verbs.restore(there, tmp_path / "b")
    assert not list(there.runs.glob("*/checkpoints"))
    there = Workspace(tmp_path / "other")
    assert killed_at("restore", there, tmp_path / "a", "rename", 3)
    with pytest.raises(Conflict):
        verbs.restore(there, tmp_path / "b")


def test_f17_a_damaged_database_comes_back_from_the_daily_copy(workspace: Workspace, tmp_path: Path) -> None:
    now = time.time()
    made = [verbs.keep_copy(workspace, None, now + day * 86_400 + 1) for day in (0, 0.5)]
    assert made[0] is not None and made[1] is None
    with (workspace.root / "rewarm.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    with pytest.raises(UserError, match="damaged"):
        verbs.keep_copy(workspace, None, now + 2 * 86_400)
    with pytest.raises(UserError, match="damaged") as found:
        verbs.back_up(workspace, tmp_path / "b")
    assert "rewarm restore --database" in str(found.value)
    (workspace.root / "backups" / "database-29990101T000000.db").write_bytes(made[0].read_bytes()[:5000])  # newer, cut
    with locked(workspace.root / "locks" / "studio.lock", "test"), pytest.raises(UserError, match="in use"):
        verbs.restore_database(workspace)
    assert verbs.restore_database(workspace) == made[0]
    assert list(workspace.root.glob("rewarm.db.before-*"))
    studio = open_studio(workspace)
    assert [account.name for account in list_users(studio, OWNER)] == ["admin"]
    studio.database.close()


def test_f22_a_copy_of_a_day_that_has_not_come_yet_keeps_none_from_being_made(workspace: Workspace) -> None:
    now = time.time()
    wrong = verbs.keep_copy(workspace, None, now + 400 * 86_400)
    assert wrong is not None
    os.utime(wrong, (now + 400 * 86_400,) * 2)
    made = verbs.keep_copy(workspace, None, now + 60)
    assert made is not None and verbs.copies(workspace) == [made, wrong]  # and it is no newer one to restore
    assert verbs.keep_copy(workspace, None, now + 120) is None


def test_copies_older_than_a_week_go_once_there_is_a_new_one(workspace: Workspace) -> None:
    now = time.time()
    for day in range(12):
        path = verbs.keep_copy(workspace, None, now + day * 86_400)
        assert path is not None
        os.utime(path, (now + day * 86_400,) * 2)
    assert len(verbs.copies(workspace)) == 8
    with closing(sqlite3.connect(verbs.copies(workspace)[0])) as copy:
        assert copy.execute("SELECT name FROM users").fetchall() == [("admin",)]
    for path in verbs.copies(workspace):
        path.unlink()
    with pytest.raises(NotFound):
        verbs.restore_database(workspace)


def test_postgres_goes_through_its_own_programs(workspace: Workspace, postgres: str, tmp_path: Path) -> None:
    studio = open_studio(workspace, postgres)
    from rewarm.studio.service.accounts import first_link

    first_link(studio, "ana")
    studio.database.close()
    copy = verbs.keep_copy(workspace, postgres, time.time())
    assert copy is not None and copy.suffix == ".dump"
    verbs.back_up(workspace, tmp_path / "b", database_url=postgres)
    there = Workspace(tmp_path / "there")
    with pytest.raises(UserError, match="holds a PostgreSQL database"):
        verbs.restore(there, tmp_path / "b")
    with pytest.raises(UserError, match="already exists"):  # its tables are there
        verbs.restore(there, tmp_path / "b", database_url=postgres)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    verbs.restore(there, tmp_path / "b", database_url=postgres)
    assert content(there) == content(workspace)

    def names() -> list[Any]:
        with psycopg.connect(postgres) as connection:
            return connection.execute("SELECT name FROM users").fetchall()

    assert names() == [("ana",)]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DELETE FROM users")
    assert verbs.restore_database(workspace, url=postgres) == copy and names() == [("ana",)]
