"""The ledger: the documents of an update, and the versions that have seen a text."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from rewarm.core.errors import UserError
from rewarm.pipeline.ledger import documents_of, mark_of, order_of, sightings
from tests.pipeline.conftest import Bench


def test_every_token_stands_in_one_update(finished: Bench) -> None:
    run = finished.run()
    order = order_of(run)
    steps = range(1, -(-order.plan.total_rows // order.rows_per_step) + 1)
    found = [documents_of(run, step) for step in steps]
    assert all(kept for _, kept in found)
    assert sum(part["end"] - part["begin"] for parts, _ in found for part in parts) == order.plan.total_tokens
    with pytest.raises(UserError, match=f"no step {len(steps) + 1}"):
        documents_of(run, len(steps) + 1)
    done = finished.rewarm("runs", "data", "last", "--step", "2", "--json")
    assert orjson.loads(done.stdout)["documents"] == found[1][0]


def test_a_text_is_found_in_the_version_that_was_trained_on_it(finished: Bench, tmp_path: Path) -> None:
    texts = [orjson.loads(line)["text"] for line in (finished.folder / "new.jsonl").read_bytes().splitlines()]
    run, roles = finished.run(), set()
    for text in texts[:24]:
        (tmp_path / "text").write_text(text)
        first = next(iter(sightings(finished.workspace, mark_of(str(tmp_path / "text")))))
        roles.add(first.role)
        assert (first.version, first.source) == ("tiny@1", "new")
        if first.role == "trained":
            for step in first.steps:
                parts, _ = documents_of(run, step)
                there = [p["text"] for p in parts if (p["source"], p["document"]) == ("new", first.document)]
                assert there and all(part.replace("<|endoftext|>", "") in text for part in there)
            assert len(first.steps) >= 2  # two epochs
    assert roles == {"trained", "held out"}
    done = finished.rewarm("models", "seen", mark_of(str(tmp_path / "text")).hex())
    assert "tiny@1" in done.stdout, done.stderr
    assert "no version" in finished.rewarm("models", "seen", "00" * 16).stdout
    assert finished.rewarm("models", "seen", "nonsense").returncode == 2
