"""The commands about runs, on records made by hand: damage is named, and one run does not hide the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewarm.cli.main import main
from rewarm.cli.results import conclude
from rewarm.core.events import EventLog
from rewarm.core.manifest import to_json
from rewarm.core.run import Run, claim, create_run
from rewarm.core.storage import sha256_bytes, write_file
from rewarm.core.workspace import Workspace
from rewarm.hub.models import publish

Rewarm = Callable[..., tuple[int, str]]
REPORT = {"schema": 1, "rows": [], "headline": {"gain": None, "forgetting": None}}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("REWARM_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")


@pytest.fixture
def rewarm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rewarm:
    """The command line in this process: exit code, and all that was said."""

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rewarm", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return call


def ended_run(workspace: Workspace, name: str, state: str = "stopped", **fields: Any) -> Run:
    """A run with two attempts at training behind it, whose process is gone."""
    run = create_run(workspace, name, f"name: {name}\n", [], workspace.root)
    for attempt in (1, 2):
        record = claim(run)
        (run.path / "process.json").write_bytes(to_json({**record, "start_ticks": "1"}))
        log = EventLog(run.events, attempt)
        log.state("starting")
        log.state("running")
        log.stage = "train"
        log.metric(1, 100, {"train/loss": 2.5, "perf/data_wait": 1.1e-06})
        log.progress(100, 400, "tokens", speed=10.0)
        log.state("stopping")
        log.state("stopped", reason="stopped")
        log.close()
    if state != "stopped":
        log = EventLog(run.events, 3)
        log.state("starting")
        log.state(state, **fields)
        log.close()
    return run


def with_report(run: Run) -> None:
    run.report.mkdir()
    (run.report / "report.json").write_text(json.dumps(REPORT))
    digest = sha256_bytes((run.report / "report.json").read_bytes())
    record = {"inputs": "x", "outputs": {"report/report.json": digest}, "facts": {"version": "a@1"}, "seconds": 1.0}
    run.stage_record("publish").parent.mkdir()
    run.stage_record("publish").write_bytes(to_json(record))


DAMAGE = [
    ("process.json", b""), ("process.json", b"{"), ("process.json", b"{}"), ("process.json", b'{"pid": "7"}'),
    ("events.jsonl", b"garbage\n"), ("events.jsonl", b"null\n"), ("events.jsonl", b"{}\n"),
    ("events.jsonl", b"\xff\xfe\n"), ("events.jsonl", b'{"v":1,"seq":3,"kind":"state"}\n'),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content"), DAMAGE)
def test_a_damaged_run_hides_no_other_and_says_what_to_do(
    workspace: Workspace, rewarm: Rewarm, file: str, content: bytes
) -> None:
    ended_run(workspace, "good")
    bad = ended_run(workspace, "bad")
    (bad.path / file).write_bytes(content)
    code, said = rewarm("runs", "ls")
    assert code == 0 and "damaged" in said and "stopped" in said and file in said
    states = {row["run"]: row["state"] for row in json.loads(rewarm("runs", "ls", "--json")[1])}
    assert states[bad.id] == "damaged" and len(states) == 2
    for command in (["runs", "show"], ["stop"], ["runs", "logs", "-f"], ["report"]):
        code, said = rewarm(*command, "bad")
        assert code == 3, command
        assert str(bad.path / file) in said and "what to do: " in said and f"rewarm resume {bad.id}" in said
    code, said = rewarm("runs", "rm", "bad", "--yes")
    assert code == 0 and "freed" in said and not bad.path.exists()


@pytest.mark.parametrize(("file", "content"), [("process.json", b"{"), ("launch.json", b'{"overrides": ["a')])
def test_resume_names_what_it_cannot_go_on_from(
    workspace: Workspace, rewarm: Rewarm, file: str, content: bytes
) -> None:
    run = ended_run(workspace, "bad")
    (run.path / file).write_bytes(content)
    code, said = rewarm("resume", "bad", "--detach")
    assert code in (2, 3)
    assert str(run.path / file) in said and "what to do: " in said


@pytest.mark.parametrize("content", [b"", b"{", b"{}"])
def test_a_damaged_stage_record_is_told(workspace: Workspace, rewarm: Rewarm, content: bytes) -> None:
    run = ended_run(workspace, "a")
    run.stage_record("prepare").parent.mkdir()
    run.stage_record("prepare").write_bytes(content)
    code, said = rewarm("runs", "show", "a")
    assert code == 0
    assert "prepare.json is damaged" in said and "does that stage again" in said


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "rows": [', b"{}"])
def test_a_damaged_report_is_not_printed(workspace: Workspace, rewarm: Rewarm, content: bytes) -> None:
    run = ended_run(workspace, "a")
    with_report(run)
    code, said = rewarm("report", "a")
    assert code == 0 and "not measured" in said
    assert json.loads(rewarm("report", "a", "--json")[1]) == REPORT
    (run.report / "report.json").write_bytes(content)
    for form in (["--json"], []):
        code, said = rewarm("report", "a", *form)
        assert code == 3
        assert "report.json: this report is damaged" in said and "draws it again" in said


def test_a_report_to_come_is_waited_for(workspace: Workspace, rewarm: Rewarm) -> None:
    run = create_run(workspace, "a", "name: a\n", [], workspace.root)
    claim(run)
    log = EventLog(run.events, 1)
    log.state("running")
    log.close()
    code, said = rewarm("report", "a")
    assert code == 2 and f"rewarm runs logs -f {run.id}" in said and "resume" not in said
    code, said = rewarm("runs", "rm", "a", "--yes")
    assert code == 2 and "rewarm stop" in said
    code, said = rewarm("stop", "a", "--wait", "0")
    assert code == 0 and "stopping" in said and "ends by itself" in said  # the wish stands


def test_a_run_is_shown_with_words_units_and_the_time_of_all_attempts(workspace: Workspace, rewarm: Rewarm) -> None:
    run = ended_run(workspace, "a")
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    for event in lines:  # each attempt trained for 5 s
        event["time"] = 100.0 * event["attempt"] + (
            5 if event["kind"] == "state" and event["state"] == "stopped" else 0
        )
    run.events.write_text("".join(json.dumps(event) + "\n" for event in lines))
    code, said = rewarm("runs", "show", "a")
    assert code == 0
    assert f"{run.id}: stopped\n" in said  # not stopped (stopped)
    assert "2.500 nats a token" in said and "0.0 %" in said and "e-06" not in said
    assert json.loads(rewarm("runs", "show", "a", "--json")[1])["stages"]["train"] == 10.0
    code, said = rewarm("runs", "ls")
    assert "done of the stage" in said and "size" in said


def test_removing_asks_first(workspace: Workspace, rewarm: Rewarm) -> None:
    run = ended_run(workspace, "a")
    code, said = rewarm("runs", "rm", "a")
    assert code == 2 and "--yes" in said
    assert run.path.exists()
    assert rewarm("runs", "rm", "a", "--yes")[0] == 0
    assert rewarm("runs", "ls", "--json") == (0, "[]\n")


EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc"


def test_no_text_steers_the_terminal(workspace: Workspace, rewarm: Rewarm) -> None:
    run = ended_run(workspace, "a", "failed", reason=EVIL, exit_code=3)
    run.log.write_text(f"{EVIL}\n10 %\r20 %\n")
    for command in (["runs", "show", "a"], ["runs", "logs", "a"], ["runs", "logs", "-f", "a"], ["report", EVIL]):
        _, said = rewarm(*command)
        assert "\\x1b[2J" in said and "\\u202e" in said, command
        assert not any(character in said for character in "\x1b\x07\x9b\u202e")
    assert rewarm("runs", "logs", "a")[1].endswith("\n20 %\n")


@pytest.mark.parametrize("home", ["~nosuchuser/x", "{}/file", "{}/file/below", "/dev/null"])
def test_a_workspace_that_cannot_be(tmp_path: Path, rewarm: Rewarm, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "recipe.yaml").write_text("name: a\nbase_model: x/y\ndata: {sources: [{name: a, path: a.jsonl}]}\n")
    monkeypatch.setenv("REWARM_HOME", home.format(tmp_path))
    for command in (["runs", "ls"], ["run", str(tmp_path / "recipe.yaml")], ["data", "ls"], ["models", "ls"]):
        code, said = rewarm(*command)
        assert (code == 2 and "set REWARM_HOME" in said) or "write the folder out" in said, said


def test_what_the_system_refuses_is_no_traceback(
    tmp_path: Path, rewarm: Rewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yaml").write_text("name: a\nbase_model: x/y\ndata: {sources: [{name: a, path: a.jsonl}]}\n")
    monkeypatch.setenv("REWARM_HOME", "/proc/rewarm")
    code, said = rewarm("run", str(tmp_path / "recipe.yaml"))
    assert code == 4 and "/proc/rewarm" in said and "REWARM_HOME" in said


def shell(workspace: Workspace, line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    code = f"{sys.executable} -c 'from rewarm.cli.main import main; main()'"
    env = {**os.environ, "REWARM_HOME": str(workspace.root), **environment}
    return subprocess.run(["bash", "-c", line.replace("rewarm", code, 1)], env=env, capture_output=True, check=False)


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_a_terminal_without_utf_8(workspace: Workspace, environment: dict[str, str]) -> None:
    run = ended_run(workspace, "a", "failed", reason="Điều luật", exit_code=3)
    run.log.write_text("Điều luật\n", encoding="utf-8")
    for command in ("runs show a", "runs logs a", "runs ls"):
        done = shell(workspace, f"rewarm {command}", **environment)
        assert done.returncode == 0, done.stderr
    done = shell(workspace, "rewarm runs show a --json", **environment)
    assert json.loads(done.stdout)["reason"] == "Điều luật"  # JSON is UTF-8 whatever the terminal


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams(workspace: Workspace, closed: str) -> None:
    ended_run(workspace, "a")
    for command in ("runs ls", "runs show a", "runs ls --json"):
        done = shell(workspace, f"rewarm {command} {closed}")
        assert (done.returncode, done.stderr) == (0, b"")


def test_usage_lines_are_plain(rewarm: Rewarm) -> None:
    for command, usage in (("run", "[OPTIONS] RECIPE [KEY=VALUE]..."), ("stop", "[OPTIONS] RUN")):
        _, said = rewarm(command, "--help")
        assert f"rewarm {command} {usage}" in said
        assert "<bool>" not in said and "<str>" not in said


def test_a_version_whose_run_was_trained_again_is_not_compared_by_other_items(
    workspace: Workspace, rewarm: Rewarm
) -> None:
    run = create_run(workspace, "a", "name: a\n", [], workspace.root)
    for _ in range(2):
        publish(workspace.models, "a", lambda folder: (folder / "config.json").touch(), {"run": run.id})
    record = {"inputs": "", "outputs": {}, "facts": {"version": "a@2"}, "seconds": 1}
    write_file(run.stage_record("publish"), to_json(record))
    code, said = rewarm("compare", "base", "a@1")
    assert code == 2 and "keeps the items of a@2" in said
    assert "keeps the items" not in rewarm("compare", "base", "a@2")[1]
    run.stage_record("publish").unlink()
    assert "no version yet" in rewarm("compare", "base", "a@2")[1]


def test_what_goes_on_is_said_at_the_end(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run(workspace, "a", "name: a\n", [], workspace.root)
    assert conclude(run, 130, {"state": "stopped"}) == conclude(run, 130, {"state": "stopped", "remedy": "torchrun x"})
    assert capsys.readouterr().out == f"stopped; go on with: rewarm resume {run.id}\nstopped; go on with: torchrun x\n"
