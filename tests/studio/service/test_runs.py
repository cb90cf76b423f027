"""Runs are started once, stopped, resumed and deleted, whoever else does so at the same moment."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from rewarm.core.errors import Conflict, NotFound, UserError
from rewarm.core.run import Run, list_runs
from rewarm.core.workspace import Workspace
from rewarm.studio.context import OWNER, Studio, open_studio
from rewarm.studio.service import pipelines, runs
from rewarm.studio.store import runs as store
from tests.studio.run_files import new_run, write_events
from tests.studio.service.test_recipes import BLANK


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Studio]:
    """A Studio on each database in turn."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else None
    found = open_studio(Workspace(tmp_path / "home"), url)
    pipelines.create(found, OWNER, name="p", recipe=BLANK)
    yield found
    found.database.close()


def at_once(verbs: list[Callable[[], object]]) -> Counter[str]:
    """What becomes of verbs that are asked for at the same moment."""

    def outcome(verb: Callable[[], object]) -> str:
        try:
            verb()
        except UserError as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(len(verbs)) as pool:
        return Counter(pool.map(outcome, verbs))


def test_fifty_starts_at_once_are_one_run(either: Studio) -> None:
    found = at_once([lambda: runs.start(either, OWNER, "p")] * 50)
    assert found == {"done": 1, "Conflict": 49}
    assert len(list_runs(either.workspace)) == 1
    first = list_runs(either.workspace)[0]
    runs.stop(either, OWNER, first.id)
    assert runs.start(either, OWNER, "p").state == "queued"  # one that has ended is in nobody's way


def test_resumed_twice_at_once_it_goes_on_once(either: Studio) -> None:
    run = runs.start(either, OWNER, "p").id
    for _ in range(5):
        runs.stop(either, OWNER, run)
        assert at_once([lambda: runs.resume(either, OWNER, run)] * 8) == {"done": 1, "Conflict": 7}


def test_a_start_and_a_cancel_leave_no_half(either: Studio) -> None:
    for _ in range(5):
        run = runs.start(either, OWNER, "p").id
        at_once([lambda run=run: runs.stop(either, OWNER, run)] * 4 + [lambda run=run: runs.resume(either, OWNER, run)])
        state = runs.show(either, OWNER, run).state
        assert state in ("stopped", "queued")
        assert (state == "queued") == Run(either.workspace.runs / run).queue_file.exists()
        runs.stop(either, OWNER, run)
        at_once(
            [lambda run=run: runs.delete(either, OWNER, run, run)] * 2
            + [lambda run=run: runs.resume(either, OWNER, run)]
        )
        with either.database.read() as session:
            assert (run in store.known(session)) == Run(either.workspace.runs / run).recipe.is_file()
        shutil.rmtree(either.workspace.runs / run, ignore_errors=True)
        with either.database.write() as session:
            store.forget(session, run)


def test_a_run_freezes_what_it_was_started_with(studio: Studio) -> None:
    pipelines.create(studio, OWNER, name="p", recipe=BLANK)
    run = runs.start(studio, OWNER, "p", ["hyperparameters.epochs=2"], priority=7)
    assert (run.state, run.pipeline, run.started_by, run.priority) == ("queued", "p", "owner", 7)
    pipelines.edit(studio, OWNER, "p", 1, recipe=BLANK.replace("org/model", "org/other"))
    frozen = runs.frozen(studio, OWNER, run.id)
    assert (frozen.recipe, frozen.overrides) == (BLANK, ["hyperparameters.epochs=2"])
    with pytest.raises(UserError, match="epochs"):
        runs.start_recipe(studio, OWNER, BLANK, ["hyperparameters.epochs=0"])
    copy = runs.clone(studio, OWNER, run.id)
    assert runs.frozen(studio, OWNER, copy.id) == frozen and copy.pipeline == "p"
    with pytest.raises(Conflict, match="nothing to retry"):
        runs.retry(studio, OWNER, run.id)
    runs.stop(studio, OWNER, run.id, "wrong model")
    assert runs.show(studio, OWNER, run.id).reason == "owner: wrong model"
    assert runs.stop(studio, OWNER, run.id).state == "stopped"  # asked again, nothing changes
    assert runs.retry(studio, OWNER, run.id).state == "queued"
    assert len(list_runs(studio.workspace)) == 3


def test_runs_are_listed_and_found(studio: Studio) -> None:
    pipelines.create(studio, OWNER, name="p", recipe=BLANK)
    first = runs.start(studio, OWNER, "p").id
    second = runs.start_recipe(studio, OWNER, BLANK.replace("name: a", "name: zebra")).id
    runs.stop(studio, OWNER, second, "striped")
    newest_first = sorted([first, second], reverse=True)
    assert [run.id for run in runs.list_runs(studio, OWNER)] == newest_first
    assert [run.id for run in runs.list_runs(studio, OWNER, limit=1, after=newest_first[0])] == newest_first[1:]
    assert [run.id for run in runs.list_runs(studio, OWNER, states=["queued"])] == [first]
    assert [run.id for run in runs.list_runs(studio, OWNER, pipeline="p")] == [first]
    assert [run.id for run in runs.list_runs(studio, OWNER, text="STRIPED")] == [second]
    assert pipelines.show(studio, OWNER, "p").last_run.id == first  # type: ignore[union-attr]
    for unknown in ("../" + first, first + "x", "", ".", first[:-1]):
        with pytest.raises(NotFound):
            runs.show(studio, OWNER, unknown)


def test_deleting_asks_for_the_name_and_waits_for_the_end(studio: Studio) -> None:
    run = new_run(studio.workspace)
    write_events(run, {1: 2.0})  # this process works on it
    with pytest.raises(UserError, match="confirm"):
        runs.delete(studio, OWNER, run.id, "delete")
    with pytest.raises(Conflict, match="running"):
        runs.delete(studio, OWNER, run.id, run.id)
    with pytest.raises(Conflict, match="running"):
        runs.resume(studio, OWNER, run.id)
    write_events(run, {}, "failed")
    runs.delete(studio, OWNER, run.id, "tiny")
    assert runs.list_runs(studio, OWNER) == [] and not run.path.exists()


def test_what_a_finished_run_made_is_shown(studio: Studio) -> None:
    run = new_run(studio.workspace)
    write_events(run, {1: 2.0}, "succeeded")
    (run.checkpoints / "step-10").mkdir(parents=True)
    (run.checkpoints / "step-10" / "a").write_bytes(b"12345")
    (run.checkpoints / "step-9").mkdir()
    (run.checkpoints / "damaged-3").mkdir()
    record = {"inputs": "", "outputs": {}, "facts": {"version": "tiny@1"}, "seconds": 2.5}
    run.stage_record("publish").parent.mkdir()
    run.stage_record("publish").write_bytes(orjson.dumps(record))
    with pytest.raises(NotFound, match="no report"):
        runs.report_file(studio, OWNER, run.id, "html")
    run.report.mkdir()
    (run.report / "report.json").write_bytes(orjson.dumps({"headline": {"gain": {"percent": 3.0}}}))
    shown = runs.show(studio, OWNER, run.id)
    assert (shown.state, shown.version, shown.headline) == ("succeeded", "tiny@1", {"gain": {"percent": 3.0}})
    assert [(stage.name, stage.done) for stage in shown.stages if stage.done] == [("publish", True)]
    assert [c.model_dump() for c in runs.checkpoints(studio, OWNER, run.id)] == [
        {"name": "step-9", "step": 9, "bytes": 0}, {"name": "step-10", "step": 10, "bytes": 5}
    ]  # fmt: skip
    with pytest.raises(Conflict, match="has succeeded"):
        runs.resume(studio, OWNER, run.id)
    with pytest.raises(NotFound, match="checkpoint"):
        runs.export(studio, OWNER, run.id, "../x")
    target = run.path / "exports" / "step-10"
    target.mkdir(parents=True)
    assert runs.export(studio, OWNER, run.id, "step-10") == target  # it was made once
    os.utime(target, (0, 0))
    with pytest.raises(UserError):  # trained again since: it is made anew, which this checkpoint of nothing cannot be
        runs.export(studio, OWNER, run.id, "step-10")
    assert target.is_dir()  # until there is another


def test_a_damaged_run_hides_no_other(studio: Studio) -> None:
    run, other = new_run(studio.workspace), new_run(studio.workspace)
    run.events.write_bytes(b"no event\n")
    with studio.database.write() as session:
        store.upsert(session, run)
        store.upsert(session, other)
    assert {found.id: found.state for found in runs.list_runs(studio, OWNER)} == {run.id: "damaged", other.id: "queued"}
    assert "damaged" in str(runs.show(studio, OWNER, run.id).reason)
