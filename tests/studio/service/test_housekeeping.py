"""Nothing goes that something uses; sizes, quotas and what runs took are told as the files have them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson
import pytest

from rewarm.core.errors import Forbidden, ResourceError
from rewarm.core.events import EventLog
from rewarm.core.manifest import to_json, write_manifest
from rewarm.core.run import Run, create_run
from rewarm.core.storage import write_file
from rewarm.core.workspace import Workspace
from rewarm.hub.aliases import point
from rewarm.hub.models import list_models, publish
from rewarm.studio.background import clean as loops
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import cleaning
from rewarm.studio.service import housekeeping as verbs
from rewarm.studio.service.cleaning import Rules
from rewarm.studio.service.settings import put_setting
from rewarm.studio.store.runs import upsert
from tests.studio.conftest import Client, user_with

ALL = Rules(checkpoints_of_last=1, versions_of_last=1, datasets=True, older_than_days=0)
RECIPE = "name: legal\nbase_model: ./base\ndata: {sources: [{name: law, path: ./law}]}\n"


def make_run(workspace: Workspace, state: str, dataset: str | None = None, base: str = "./base", more: str = "") -> Run:
    """A run of one checkpoint of 1,000 bytes that came to ``state``."""
    run = create_run(workspace, "legal", RECIPE + more, [], workspace.root)
    log = EventLog(run.events, 1)
    ending = {"running": [], "stopped": ["stopping", "stopped"]}.get(state, [state])
    for name in ("starting", "running", *ending):
        log.state(name)
    log.close()
    if dataset:
        facts = {"dataset": dataset, "base": {"reference": base}}
        record = {"inputs": "", "outputs": {}, "facts": facts, "seconds": 1.0}
        write_file(run.stage_record("prepare"), to_json(record))
        if state == "succeeded":
            write_file(run.stage_record("publish"), to_json(record))
    write_file(run.checkpoints / "step-1" / "model.safetensors", b"c" * 1000)
    return run


def make_dataset(workspace: Workspace, name: str) -> None:
    write_file(workspace.datasets / name / "tokens-00000.bin", b"t" * 500)
    write_manifest(workspace.datasets / name, {})


def make_version(workspace: Workspace, name: str, base: str = "./base", dataset: str = "none") -> None:
    lineage = {"base": {"reference": base}, "dataset": dataset}
    publish(workspace.models, name, lambda folder: write_file(folder / "w.safetensors", b"w" * 300), lineage)


def kinds(items: list[cleaning.Item]) -> list[tuple[str, str]]:
    return [(item.kind, item.name) for item in items]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def soon() -> float:
    return time.time() + 10


def test_checkpoints_of_the_last_runs_and_of_all_that_could_go_on_stay(workspace: Workspace) -> None:
    done = sorted((make_run(workspace, "succeeded", "d") for _ in range(3)), key=lambda run: run.id)
    others = [make_run(workspace, state, "d") for state in ("failed", "stopped", "running")]  # the last one is lost
    found = cleaning.plan(workspace, ALL, soon())
    assert kinds(found) == [("checkpoints", run.id) for run in done[:2]] and found[0].bytes == 1000
    assert cleaning.plan(workspace, ALL.model_copy(update={"older_than_days": 1.0}), soon()) == []
    assert all(run.checkpoints.exists() for run in done)  # a plan deletes nothing
    with cleaning.sole_process(done[0]):  # somebody resumes it
        assert kinds(cleaning.clean(workspace, ALL, soon())) == [("checkpoints", done[1].id)]
    assert [run.checkpoints.exists() for run in done] == [True, False, True]
    assert all(run.checkpoints.exists() for run in others)


def test_versions_in_use_stay(workspace: Workspace) -> None:
    for number in range(6):
        make_version(workspace, "legal", base="legal@2" if number == 5 else "./base")
    make_version(workspace, "other", base="legal@3")
    point(workspace.models / "legal", "production", 1, "ana")
    make_run(workspace, "stopped", "d", base="legal@4")
    gone = cleaning.clean(workspace, ALL, soon())
    assert kinds(gone) == [("version", "legal@5")]
    assert [str(version) for version in list_models(workspace.models)] == [
        *(f"legal@{number}" for number in (1, 2, 3, 4, 6)), "other@1"
    ]  # fmt: skip
    assert cleaning.plan(workspace, Rules(older_than_days=0), soon()) == []  # versions are kept unless asked


def test_datasets_that_a_run_or_version_speaks_of_stay(workspace: Workspace) -> None:
    for name in ("of-run", "of-version", "of-nobody"):
        make_dataset(workspace, name)
    make_version(workspace, "legal", dataset="of-version")
    make_run(workspace, "stopped", "of-run")
    assert kinds(cleaning.plan(workspace, ALL, soon())) == [("dataset", "of-nobody")]
    damaged = make_run(workspace, "failed", "d")
    damaged.stage_record("prepare").write_text("{")
    assert cleaning.plan(workspace, ALL, soon()) == []  # who knows what it used
    damaged.stage_record("prepare").unlink()
    assert kinds(cleaning.clean(workspace, ALL, soon())) == [("dataset", "of-nobody")]
    preparing = make_run(workspace, "running")
    make_dataset(workspace, "new")
    write_file(preparing.path / "control" / "launched", to_json({"attempt": 2}))  # it has just been started
    assert cleaning.plan(workspace, ALL, soon()) == []


def test_caches_and_leftovers_go(workspace: Workspace) -> None:
    write_file(workspace.cache / "ab" / "block", b"b" * 100)
    write_file(workspace.runs / ".tmp-old" / "x", b"x" * 10)
    write_file(workspace.runs / ".tmp-new" / "x", b"x" * 10)
    os.utime(workspace.runs / ".tmp-old", (1, 1))
    found = cleaning.clean(workspace, Rules(), soon())
    assert [(item.kind, item.bytes) for item in found] == [("cache", 100), ("leftovers", 10)]
    assert not workspace.cache.exists() and [path.name for path in workspace.runs.iterdir()] == [".tmp-new"]


def test_sizes_are_measured_once_and_forgotten_with_what_is_gone(studio: Studio) -> None:
    run, other = make_run(studio.workspace, "succeeded", "d"), make_run(studio.workspace, "failed", "d")
    make_dataset(studio.workspace, "d")
    make_version(studio.workspace, "legal")
    with studio.database.write() as session:
        upsert(session, run)
    verbs.measure(studio, time.time())
    found = {kind.kind: (kind.count, kind.bytes) for kind in verbs.overview(studio, OWNER).kinds}
    assert found["run"][0] == 2 and found["checkpoint"] == (2, 2000) and found["run"][1] > 2000
    assert found["dataset"][0] == found["version"][0] == 1 and found["dataset"][1] > 500
    names = [size.name for size in verbs.sizes(studio, OWNER, "checkpoint", 10)]
    assert names == sorted(f"{each.id}/step-1" for each in (run, other))
    cleaning.remove_folder(run.checkpoints)
    cleaning.remove_folder(other.path)
    verbs.measure(studio, time.time() + 40)
    after = {kind.kind: (kind.count, kind.bytes) for kind in verbs.overview(studio, OWNER).kinds}
    assert "checkpoint" not in after and after["run"][0] == 1
    total = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    assert after["run"][1] == total and verbs.sizes(studio, OWNER, "run", 10)[0].name == run.id


def test_what_runs_took_stays_when_they_go(studio: Studio) -> None:
    cost = 'infrastructure: {devices: 2, cost_per_hour: "2.50 EUR"}\n'
    run = create_run(studio.workspace, "legal", RECIPE + cost, [], studio.workspace.root)
    at = 1_000_000.0
    lines = [
        (0, 1, "starting"), (10, 1, "running"), (3610, 1, "paused"), (7210, 1, "running"), (7220, 1, "failed"),
        (99_000, 2, "starting"), (99_010, 2, "running"), (102_600, 2, "stopping"),
    ]  # fmt: skip
    with run.events.open("wb") as file:
        for seq, (after, attempt, state) in enumerate(lines):
            event = {"v": 1, "seq": seq, "attempt": attempt, "time": at + after, "stage": "", "kind": "state"}
            file.write(orjson.dumps(event | {"state": state}) + b"\n")
    assert verbs.device_seconds(run) == 3610 + 10 + 3600
    with studio.database.write() as session:
        upsert(session, run).started_by = "ana"
        upsert(session, run).joules = 3.6e6
    verbs.measure(studio, time.time())
    cleaning.remove_folder(run.path)
    verbs.measure(studio, time.time() + 40)
    (row,) = verbs.usage(studio, OWNER, "user", None)
    assert (row.key, row.runs, row.joules, row.currency) == ("ana", 1, 3.6e6, "EUR")
    assert row.device_hours == pytest.approx(2 * 7220 / 3600) and row.cost == pytest.approx(2.5 * row.device_hours)
    month = time.strftime("%Y-%m", time.gmtime())
    assert [row.key for row in verbs.usage(studio, OWNER, "month", None)] == [month]
    assert verbs.usage(studio, OWNER, "run", "1999-01") == []


def test_a_quota_warns_or_refuses_new_runs(studio: Studio) -> None:
    make_run(studio.workspace, "failed", "d")
    verbs.measure(studio, time.time())
    verbs.check_quota(studio)
    put_setting(studio, OWNER, "housekeeping", {"quota_bytes": 10, "reserve_bytes": 0})
    verbs.check_quota(studio)
    assert "more than its quota of 10 B" in verbs.overview(studio, OWNER).warnings[0]
    put_setting(studio, OWNER, "housekeeping", {"quota_bytes": 10, "over_quota": "refuse"})
    with pytest.raises(ResourceError, match="quota"):
        verbs.check_quota(studio)


def test_the_disk_is_warned_of_before_live_runs_fill_it(studio: Studio) -> None:
    run = make_run(studio.workspace, "running")
    resolved = {"hyperparameters": {"number_of_checkpoints": {"value": 4}}}
    write_file(run.path / "resolved.json", to_json(resolved))
    with studio.database.write() as session:
        upsert(session, run).state = "running"
    found = verbs.overview(studio, OWNER)
    assert found.coming_bytes == 4 * 1000
    put_setting(studio, OWNER, "housekeeping", {"reserve_bytes": found.free_bytes * 2})
    assert "the disk will be full" in verbs.overview(studio, OWNER).warnings[0]
    from rewarm.studio.service import accounts, notifications

    accounts.add_user(studio, OWNER, "root", Role.administrator, "root@example.com")
    for _ in range(3):
        loops.measure(studio)
    told = notifications.list_notices(studio, OWNER, None, None, 10)
    assert [(notice.state, notice.target) for notice in told] == [("disk", "mailto:root@example.com")]


def test_the_api_previews_for_editors_and_deletes_for_administrators(studio: Studio, client: Client) -> None:
    for _ in range(2):
        make_run(studio.workspace, "succeeded", "d")
    rules = {"checkpoints_of_last": 0, "older_than_days": 0, "caches": False}
    editor, admin = client(Role.editor), client(Role.administrator)
    time.sleep(0.01)
    shown = editor.post("/api/v1/housekeeping/preview", json=rules).json()
    assert [item["kind"] for item in shown] == ["checkpoints"] * 2
    assert editor.post("/api/v1/housekeeping/clean", json=rules).status_code == 403
    assert client(Role.viewer).post("/api/v1/housekeeping/preview", json=rules).status_code == 403
    assert admin.post("/api/v1/housekeeping/clean", json=rules).json() == shown
    assert admin.post("/api/v1/housekeeping/clean").json() == []
    assert client(Role.viewer).get("/api/v1/housekeeping").json()["workspace_bytes"] > 0
    assert client(Role.viewer).get("/api/v1/housekeeping/sizes", params={"kind": "run"}).status_code == 200
    assert client(Role.viewer).get("/api/v1/housekeeping/usage", params={"by": "nobody"}).status_code == 422
    assert admin.get("/api/v1/audit", params={"action": "clean"}).json()
    with pytest.raises(Forbidden):
        verbs.clean(studio, user_with(studio, Role.editor))


def test_the_daily_loops_copy_and_clean_where_wished(studio: Studio) -> None:
    make_run(studio.workspace, "succeeded", "d")
    write_file(studio.workspace.cache / "ab" / "block", b"b")
    for _ in range(2):
        loops.copy_database(studio)
    assert len(list((studio.workspace.root / "backups").iterdir())) == 1
    daily = loops.CleanDaily()
    daily(studio)
    assert studio.workspace.cache.exists()
    put_setting(studio, OWNER, "housekeeping", {"automatic": True})
    daily(studio)
    assert not studio.workspace.cache.exists()
