"""Replay that the base model writes itself: once for a base and its settings, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from rewarm.core.errors import ModelError, Stopped
from rewarm.core.events import EventLog, read_events
from rewarm.core.manifest import verify
from rewarm.core.run import create_run
from rewarm.core.storage import sha256_file
from rewarm.pipeline.base import locate
from rewarm.pipeline.execution import Execution, StopSignal
from rewarm.pipeline.replay import PART, with_replay
from rewarm.recipe.load import load_recipe
from tests.pipeline.conftest import Bench, make_bench

REPLAY = "replay: {name: old, generate: {tokens: 14000, max_tokens: 40}, share: 0.25}"


def bench_in(folder: Path, replay: str = REPLAY) -> Bench:
    return make_bench(folder, **{"replay: {name: old, path: old.jsonl, share: 0.25}": replay})


def write(bench: Bench, stop_after: int | None = None, name: str = "a") -> Path:
    """The corpus of the bench's recipe, written in this process; a stop comes after so many looks at it."""
    run = create_run(bench.workspace, name, bench.recipe.read_text(), [], bench.folder)
    looks = 0

    class Stop(StopSignal):
        def __call__(self) -> bool:
            nonlocal looks
            looks += 1
            return stop_after is not None and looks > stop_after

    log = EventLog(run.events, 1)
    log.stage = "prepare"
    x = Execution(run, bench.workspace, load_recipe(bench.recipe), log, Stop(run))
    recipe = with_replay(x, locate(x.recipe.base_model, x.workspace, x.progress))
    assert recipe.data.replay is not None and recipe.data.replay.generate is None
    return Path(recipe.data.replay.paths[0])


def parts(bench: Bench) -> list[Path]:
    return sorted((bench.workspace.replay / ".building").glob("*/part-*.jsonl"))


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_distinct_texts_until_there_are_enough(tmp_path: Path) -> None:
    bench = bench_in(tmp_path)
    corpus = write(bench)
    records = [orjson.loads(line) for line in corpus.read_bytes().splitlines()]
    facts = verify(corpus.parent)
    texts = [record["text"] for record in records]
    assert len(set(texts)) == len(texts) == facts["documents"]
    assert all(texts)
    assert facts["written"] == facts["documents"] + facts["duplicates"] + facts["empty"]
    total = sum(record["tokens"] for record in records)
    assert total == facts["tokens"] >= 14000 > total - records[-1]["tokens"]
    assert facts["written"] > PART  # more than one part, or the next test says little
    assert not parts(bench)
    shown = [e for e, _ in read_events(bench.run().events) if e["kind"] == "progress" and e["what"] == "write replay"]
    assert {e["unit"] for e in shown} == {"tokens"} and {e["total"] for e in shown} == {14000}
    assert [e["done"] for e in shown] == sorted(e["done"] for e in shown)


def test_stopped_between_and_within_parts_the_texts_are_the_same(tmp_path: Path) -> None:
    expected = write(bench_in(tmp_path / "whole"))
    bench = bench_in(tmp_path / "cut")
    made = []
    for _ in range(40):
        before = {path: path.stat().st_mtime_ns for path in parts(bench)}
        try:
            corpus = write(bench, stop_after=190)
            break
        except Stopped:
            made.append(len(parts(bench)))
            assert all(path.stat().st_mtime_ns == at for path, at in before.items())  # none is written twice
            assert not list(bench.workspace.replay.glob("[0-9a-f]*"))
    assert len(made) > 1
    assert corpus.name == expected.name and corpus.parent.name == expected.parent.name
    assert corpus.read_bytes() == expected.read_bytes()


def test_what_is_there_is_used_and_what_is_damaged_is_written_again(tmp_path: Path) -> None:
    bench = bench_in(tmp_path)
    corpus = write(bench)
    stamp, digest = corpus.stat().st_mtime_ns, sha256_file(corpus)
    assert write(bench, name="b").stat().st_mtime_ns == stamp
    data = bytearray(corpus.read_bytes())
    data[100] ^= 1
    corpus.write_bytes(data)
    assert sha256_file(write(bench, name="c")) == digest
    bench.recipe.write_text(bench.recipe.read_text().replace("tokens: 14000", "tokens: 400, seed: 1"))
    assert write(bench, name="d").parent != corpus.parent


def test_a_model_that_repeats_itself_is_an_error_and_not_a_loop(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, REPLAY.replace("14000", "1400000").replace("max_tokens: 40", "top_p: 0.0001"))
    with pytest.raises(ModelError, match="nothing new: 0 different texts"):
        write(bench)


def test_replay_that_is_left_open_is_measured_written_and_said_why(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, "")
    checked = bench.rewarm("check", "recipe.yaml", "--json")
    found = orjson.loads(checked.stdout)
    assert {row["name"]: row["share"] for row in found["mixture"]} == {"new": 0.75, "replay": 0.25}
    assert any("data.replay is left out: the base writes it" in note for note in found["advice"])
    done = bench.rewarm("run", "recipe.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    run = bench.run()
    chosen = orjson.loads((run.path / "resolved.json").read_bytes())["replay"]
    share = chosen["value"]["share"]
    assert share in (0.05, 0.15, 0.25) and "bits per byte against" in chosen["reason"]
    report = orjson.loads((run.report / "report.json").read_bytes())
    assert report["data"]["replay_share"] == share and report["data"]["replay"] == chosen
    assert chosen["reason"] in (run.report / "report.html").read_text()
    shown = bench.rewarm("data", "show", run.id, "--rows", "8")
    assert shown.returncode == 0 and "replay #" in shown.stdout, shown.stdout + shown.stderr
    again = bench.rewarm("resume", "last", "--from", "train")  # another process reads what the first one chose
    assert again.returncode == 0, again.stdout + again.stderr
    assert orjson.loads((run.report / "report.json").read_bytes())["data"]["replay_share"] == share


def test_null_is_a_choice(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, "replay: null")
    checked = orjson.loads(bench.rewarm("check", "recipe.yaml", "--json").stdout)
    assert [row["name"] for row in checked["mixture"]] == ["new"]
    assert any(note.startswith("no replay: expect forgetting") for note in checked["advice"])


def test_a_killed_run_goes_on_writing_and_trains_on_it(tmp_path: Path) -> None:
    expected = write(bench_in(tmp_path / "other"))
    bench = bench_in(tmp_path / "run")
    checked = bench.rewarm("check", "recipe.yaml", "--json")
    assert checked.returncode == 0, checked.stderr
    found = orjson.loads(checked.stdout)
    mixture = {row["name"]: row for row in found["mixture"]}
    assert mixture["old"]["share"] == 0.25 and mixture["new"]["times"] == 1 and mixture["new"]["passes"] == 2
    assert mixture["old"]["passes"] == pytest.approx(
        2 * mixture["old"]["epoch_tokens"] / 14000, rel=0.15
    )  # a part is held out
    assert "passes in all" in bench.rewarm("check", "recipe.yaml").stdout
    assert bench.rewarm("run", "recipe.yaml", "--detach").returncode == 0
    run = bench.run()
    wait_for(lambda: parts(bench))
    os.kill(int((run.process() or {})["pid"]), signal.SIGKILL)
    wait_for(lambda: not run.alive())
    done = bench.rewarm("resume", "last")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [sha256_file(path) for path in bench.workspace.replay.glob("*/corpus.jsonl")] == [sha256_file(expected)]
    report = orjson.loads((run.report / "report.json").read_bytes())
    assert {text["name"]: text["role"] for text in report["data"]["texts"]}["old"] == "replay"
    assert report["data"]["replay_share"] == 0.25
