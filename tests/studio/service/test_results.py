"""Results and what the engine is asked for, and what is said where there is no answer."""

from __future__ import annotations

import threading
from pathlib import Path

import orjson
import pytest

from rewarm.core.errors import DataError, NotFound, UserError
from rewarm.hub.models import publish
from rewarm.studio.api.errors import problem_of
from rewarm.studio.context import OWNER, Studio
from rewarm.studio.service import engine, models, runs, transfers
from tests.studio.run_files import new_run


def test_only_so_many_commands_are_under_way(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    room = threading.BoundedSemaphore(1)
    monkeypatch.setattr(engine, "_room", room)
    monkeypatch.setattr(engine, "PATIENCE", 0.01)
    with room, pytest.raises(engine.Busy, match="work already"):
        engine.ask(studio.workspace, ["report", "--", "none"])
    assert problem_of(engine.Busy("too many"))[0] == 503
    for seconds, why in ((0.01, "gave no answer"), (60.0, "none"), (60.0, "none")):  # each leaves room for the next
        with pytest.raises(UserError, match=why):
            engine.ask(studio.workspace, ["report", "--", "none"], seconds)


def test_a_line_that_a_full_disk_cut_off_hides_no_transfer(studio: Studio) -> None:
    folder = studio.workspace.root / "transfers" / "20260101T000000-00000000"
    folder.mkdir(parents=True)
    request = {"id": folder.name, "kind": "gguf", "what": "a@1", "to": "", "by": "admin", "started": 1.0}
    (folder / "request.json").write_bytes(orjson.dumps(request))
    (folder / "log.txt").write_text('{"progress": {"done": 1}}\n{"progress": {"do\nrewarm: the disk is full')
    (found,) = transfers.list_transfers(studio, OWNER)
    assert (found.state, found.error) == ("failed", "the disk is full")


def test_a_version_keeps_the_report_that_it_was_published_with(studio: Studio) -> None:
    def write(folder: Path, text: str = '{"rows": []}') -> None:
        (folder / "report").mkdir()
        (folder / "report" / "report.json").write_text(text)

    publish(studio.workspace.models, "legal", write, {"run": "gone"})
    publish(studio.workspace.models, "legal", lambda folder: write(folder, "{"), {"run": "gone"})
    publish(studio.workspace.models, "legal", lambda folder: None, {"run": "gone"})
    assert models.report(studio, OWNER, "legal@1") == {"rows": []}
    for reference, why in (("legal@2", DataError), ("legal@3", NotFound)):
        with pytest.raises(why):
            models.report(studio, OWNER, reference)


def test_results_that_are_not_there_or_damaged_are_said(studio: Studio) -> None:
    run = new_run(studio.workspace)
    for ask in (runs.report, runs.recompute):
        with pytest.raises(NotFound):
            ask(studio, OWNER, run.id)
    for pair in (("base", "none"), ("x@1", run.id), ("base", "base"), ("--help", run.id)):
        with pytest.raises(NotFound):
            runs.compare(studio, OWNER, *pair)
    run.report.mkdir()
    (run.report / "report.json").write_text('{"rows": [')
    with pytest.raises(DataError, match="damaged"):
        runs.report(studio, OWNER, run.id)
    for again in (lambda: runs.recompute(studio, OWNER, run.id), lambda: runs.compare(studio, OWNER, "base", run.id)):
        with pytest.raises(UserError) as error:
            again()
        assert "Usage" not in str(error.value) and "Traceback" not in str(error.value)
